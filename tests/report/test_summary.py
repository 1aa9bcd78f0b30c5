from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from tests.report.fabricate import fabricate
from tracemend.report import RepairRun, Summary, numbers


def test_terminal_and_notebook_show_the_same_figures(tmp_path: Path) -> None:
    summary = Summary(RepairRun.read(fabricate(tmp_path)))
    console = Console(width=120, record=True, file=(tmp_path / "out.txt").open("w"))
    console.print(summary)
    text, html = console.export_text(), summary._repr_html_()
    for word in ("Use the repaired set", "+0.147", "+0.101 to +0.193", "0.931", "Loss recovered"):
        assert word in text and word in html
    assert summary.comparisons()["shown"].tolist() == ["shown"] * 3


def test_what_a_person_answered_is_counted_apart(tmp_path: Path) -> None:
    run = RepairRun.read(fabricate(tmp_path))
    assert "your answers" not in Summary(run)._repr_html_()
    run.result["metrics"]["relabelled_by_answers"] = 7
    assert "relabelled by your answers 7" in Summary(run)._repr_html_()


def test_markup_in_a_run_is_text(tmp_path: Path) -> None:
    verdict = {"recommended": "original", "sentence": "[red]<script>x</script>[/red]", "comparisons": []}
    summary = Summary(RepairRun.read(fabricate(tmp_path, verdict=verdict)))
    assert "<script>" not in summary._repr_html_()
    console = Console(width=120, record=True, file=(tmp_path / "out.txt").open("w"))
    console.print(summary)
    assert "[red]<script>" in console.export_text()


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (numbers.decimal(-0.0001), "0.000"),
        (numbers.decimal(None), "not known"),
        (numbers.decimal(float("nan")), "not known"),
        (numbers.decimal(True), "not known"),
        (numbers.signed(-0.02), "\N{MINUS SIGN}0.020"),
        (numbers.percent(0.846), "85\N{NO-BREAK SPACE}%"),
        (numbers.percent(-0.2), "\N{MINUS SIGN}20\N{NO-BREAK SPACE}%"),
        (numbers.count(12345), "12\N{NARROW NO-BREAK SPACE}345"),
        (numbers.duration(48.2), "48 s"),
        (numbers.duration(192), "3 min 12 s"),
        (numbers.duration(3900), "1 h 05 min"),
    ],
)
def test_numbers(shown: str, expected: str) -> None:
    assert shown == expected
