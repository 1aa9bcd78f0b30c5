"""The table of a benchmark's lines: means over seeds, undefined controls, and in how many seeds what must hold does."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.side_by_side import Line, table
from tracemend.runs import write_json


def kept(folder: Path, part: str, seed: int, lines: list[Line]) -> None:
    found: dict[str, Any] = {"lines": [asdict(line) for line in lines], "seconds": 10.0 + seed}
    write_json(folder / f"{part}-tiny-{seed}.json", found)


def test_a_row_is_a_figure_over_seeds(tmp_path: Path) -> None:
    for seed in range(3):
        lines = [
            Line(name=f"score: word {seed}", expected="above 1", found=1.0 + seed, controls={"random": 0.5 * seed},
                 holds=seed > 0),
            Line(name="undefined", expected="", found=float("nan"), controls={"constant": float("nan")}),
            Line(name="always", expected="above 0", found=1.0, holds=True),
            Line(name="never", expected="above 2", found=1.0, holds=False),
        ]  # fmt: skip
        kept(tmp_path, "first", seed, lines)
    kept(tmp_path, "first-other", 0, [Line(name="alone", expected="", found=0.25)])
    said = table(tmp_path, ["first", "first-other", "missing"])
    assert "**first, tiny** (3 seeds, 11 s each)" in said
    assert "| score | above 1 | 2.000 (1.000 to 3.000) | random 0.500 | 2 of 3 |" in said
    assert "| undefined |  | nan (nan to nan) | constant undefined |  |" in said
    assert "| always | above 0 | 1.000 (1.000 to 1.000) |  | yes |" in said
    assert "| never | above 2 | 1.000 (1.000 to 1.000) |  | **no** |" in said
    assert "**first-other, tiny** (1 seed," in said and "| alone |  | 0.250 |  |  |" in said
    assert said.count("| always |") == 1 and "missing" not in said


def test_nothing_kept_is_an_empty_table(tmp_path: Path) -> None:
    assert table(tmp_path, ["first"]) == ""
