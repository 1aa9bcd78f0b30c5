from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from tests.report.fabricate import fabricate
from tracemend.evaluate.curve import shown_split
from tracemend.report import RepairRun, curve_figure, curve_svg
from tracemend.report.curve import _ticks


@pytest.fixture
def curve(tmp_path: Path) -> pd.DataFrame:
    return RepairRun.read(fabricate(tmp_path)).curve


def test_title_description_and_one_line_an_arm(curve: pd.DataFrame) -> None:
    root = ET.fromstring(curve_svg(curve))
    assert root.get("role") == "img" and root.get("aria-labelledby") == "curve-720-title curve-720-desc"
    assert root[0].text == "Average precision over rounds on verdict"
    assert "repair from 0.784 to 0.937 in 5 rounds" in str(root[1].text)
    assert [p.get("class") for p in root.iter("path")] == [
        "line arm-random", "line arm-similarity", "line arm-repair"
    ]  # fmt: skip
    assert len([line for line in root.iter("line") if line.get("class") == "reference"]) == 2


def test_the_most_independent_split_is_drawn(curve: pd.DataFrame) -> None:
    assert shown_split(curve) == "verdict"
    assert shown_split(pd.concat([curve, curve.assign(split="test")])) == "test"
    assert shown_split(curve[curve["split"] == "validation"]) == "validation"


@pytest.mark.parametrize("width", [350, 992])
def test_labels_do_not_overlap_and_stay_inside(curve: pd.DataFrame, width: int) -> None:
    same = curve.assign(ap=0.8)
    root = ET.fromstring(curve_svg(same, width=width, height=300))
    places = sorted(float(t.get("y", 0)) for t in root.iter("text") if "label" in t.get("class", ""))
    assert len(places) == 5
    assert all(b - a > 15.5 for a, b in pairwise(places))
    assert places[0] > 0 and places[-1] < 300


def test_a_higher_figure_is_drawn_higher(curve: pd.DataFrame) -> None:
    root = ET.fromstring(curve_svg(curve))
    path = next(p for p in root.iter("path") if p.get("class") == "line arm-repair").get("d", "")
    heights = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", path)]
    assert heights == sorted(heights, reverse=True)


def test_nothing_measured_draws_nothing(curve: pd.DataFrame) -> None:
    assert curve_svg(curve.iloc[:0]) == ""
    assert curve_svg(curve.assign(ap=None)) == ""


def test_one_point(curve: pd.DataFrame) -> None:
    assert "nan" not in curve_svg(curve[curve["round"] == 0])


def test_noise_does_not_fill_the_drawing() -> None:
    ticks = _ticks(0.784, 0.790)
    assert ticks[-1] - ticks[0] >= 0.08 and ticks[0] < 0.784 and ticks[-1] > 0.790
    assert max(_ticks(0.7, 0.999)) <= 1.0 and min(_ticks(0.001, 0.3)) >= 0.0
    assert max(_ticks(1.0, 1.0)) >= 1.0


def test_matplotlib_figure(curve: pd.DataFrame, tmp_path: Path) -> None:
    figure = curve_figure(curve, metric="accuracy")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["random", "similarity", "repair"]
    assert axes.get_ylabel() == "accuracy (verdict)"
    figure.savefig(tmp_path / "curve.svg")
    curve_figure(curve.iloc[:0]).savefig(tmp_path / "empty.svg")
