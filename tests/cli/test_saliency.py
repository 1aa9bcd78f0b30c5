"""``tracemend saliency``: words of a run's classifier, kept in the run and shown in its report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.cli.test_bad_input import refused
from tracemend.saliency import SaliencyResult

TEXT = "nice people, but an awful <b>day</b>"


@pytest.fixture
def given(tuned, tmp_path):
    """A copy of a finished tuning that the test may write to."""
    return shutil.copytree(tuned, tmp_path / "tuned")


def test_one_text(run, given):
    done = run("saliency", "input-x-gradient", "--run", given, "--text", TEXT, "--label", "unsafe", "--quiet")
    assert done.exit_code == 0, done.output
    assert TEXT in done.stdout and "random order" in done.stdout and "for unsafe" in done.stdout
    (folder,) = (given / "saliency").iterdir()
    assert folder.name.startswith("input-x-gradient-")
    table = pd.read_csv(folder / "words.csv")
    assert set(table["string"]) == {"nice", "people", ",", "but", "an", "awful", "<", "b", ">", "day", "/"}
    page = (folder / "words.html").read_text("utf-8")
    assert "<b>day" not in page and "awful" in page and "default-src &#39;none&#39;" not in page
    result = SaliencyResult.load(folder)
    assert result.config["label"] == "unsafe" and result.words(0)["start"].is_monotonic_increasing


def test_a_file_as_json(run, given, folder):
    done = run("saliency", "saliency.integrated-gradients", "--run", given, "--data", folder / "clean.csv", "--checked",
               "2", "--orders", "1", "--steps", "8", "--max-steps", "8", "--json", "--quiet")  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["config"]["steps"] == 8 and found["config"]["deleted_by"] == "mask"
    assert len(found["examples"]) == 120 == found["metrics"]["texts"]
    assert {"completeness_gap", "comprehensiveness"} <= found["metrics"].keys()
    assert found["controls"].keys() == {"comprehensiveness", "sufficiency", "aopc"}
    assert "117 more texts" in done.stderr


def test_the_report_of_a_repair_shows_the_words(run, repaired, tmp_path):
    copy = shutil.copytree(repaired, tmp_path / "repaired")
    before = (copy / "report.html").read_text("utf-8")
    assert 'id="words"' not in before
    for name in ("gradient", "input-x-gradient"):
        done = run("saliency", name, "--run", copy, "--text", TEXT, "--quiet")
        assert done.exit_code == 0, done.output
    assert run("report", copy).exit_code == 0
    page = (copy / "report.html").read_text("utf-8")
    assert 'id="words"' in page and page.count('<div class="saliency">') == 2
    assert "Words by gradient" in page and "Words by input x gradient" in page
    assert "http" not in page.partition('id="words"')[2].partition('id="again"')[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("gradeint", "--text", "a"), "did you mean 'gradient'"),
        (("gradient", "--text", "a", "--steps", "3"), "gradient has no --steps, which is of: integrated-gradients"),
        (("gradient",), "give either --text TEXT or --data FILE"),
        (("gradient", "--text", "a", "--data", "clean.csv"), "give either --text TEXT or --data FILE"),
        (("gradient", "--text", "a", "--text-column", "text"), "--text-column names a column of --data"),
        (("gradient", "--data", "clean.csv", "--reply", "b"), "--reply-column"),
        (("gradient", "--data", "clean.csv", "--text-column", "txet"), "did you mean 'text'"),
        (("gradient", "--data", "nothing.csv"), "nothing.csv"),
        (("gradient", "--text", " "), "text 0 is empty"),
        (("gradient", "--text", "a", "--label", "Unsafe"), "did you mean 'unsafe'"),
        (("integrated-gradients", "--text", "a", "--tolerance", "0"), "above 0"),
    ],
)
def test_bad_input(run, given, here, arguments, said):
    assert said in refused(run, "saliency", *arguments, "--run", given, "--quiet")
    assert not (given / "saliency").exists()


def test_an_unknown_run(run, tmp_path):
    said = refused(run, "saliency", "gradient", "--run", tmp_path, "--text", "a")
    assert "holds no finished classifier" in said
    said = refused(run, "saliency", "gradient", "--run", Path("no/such"), "--data", "clean.csv")
    assert "holds no finished classifier" in said
