"""The page of units: coloured as the unit is active, escaped, and nothing is loaded."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.report.test_page import HOSTILE, Page
from tracemend.neurons import Explain, ExplanationResult
from tracemend.report import write_units


@pytest.fixture(scope="module")
def found() -> ExplanationResult:
    method, model, bank = Explain.tiny()
    return replace(method, ablated=2).run(model, bank)


def written(result: ExplanationResult, path: Path) -> tuple[str, Page]:
    html = write_units(result, path / "units.html").read_text(encoding="utf-8")
    return html, Page(html)


def test_every_unit_has_its_excerpts_twice(found: ExplanationResult, tmp_path: Path) -> None:
    html, page = written(found, tmp_path)
    shown = found.facts["coloured"]
    assert html.count('<article class="unit">') == len(shown) == 4
    assert html.count('<div class="saliency">') == sum(len(of["excerpts"]) for of in shown)
    first = next(of for of in shown if of["excerpts"])
    assert " ".join(first["excerpts"][0]["words"]) in page.text
    # The highest activation of all excerpts is the darkest, and is that of the unit.
    assert max(max(one["activation"]) for one in first["excerpts"]) == 1.0 and "--strength:0.60" in html
    for said in ("ablation", "true activations", "random weights", "shuffled"):
        assert said in page.text


def test_nothing_is_loaded_and_everything_is_escaped(found: ExplanationResult, tmp_path: Path) -> None:
    rows = found.table().assign(explanation=HOSTILE, note=HOSTILE)
    coloured: list[dict[str, Any]] = [dict(of) for of in found.facts["coloured"]]
    coloured[0]["excerpts"] = [{"words": [HOSTILE, "so"], "activation": [1.0, 0.0], "simulated": [0.0, 0.5]}]
    coloured[1]["excerpts"] = []
    facts = {**found.facts, "coloured": coloured, "site": HOSTILE, "model": HOSTILE}
    html, page = written(replace(found, rows=rows, facts=facts, findings=[HOSTILE]), tmp_path)
    assert not [tag for tag, _ in page.tags if tag in ("script", "img", "link", "iframe")]
    assert [tag for tag, _ in page.tags].count("style") == 1 and page.words.count(HOSTILE) >= 8
    assert not re.search(r"https?://|url\(|@import", html)
    assert "No excerpt" in page.text


def test_units_without_figures_and_units_beyond_the_page(found: ExplanationResult, tmp_path: Path) -> None:
    rows = found.table().assign(score=float("nan"), other_unit=float("nan"))
    facts = {**found.facts, "coloured": found.facts["coloured"][:1]}
    _, page = written(replace(found, rows=rows, facts=facts), tmp_path)
    assert "3 more units stand in rows.csv" in page.text and "nan" not in page.text
