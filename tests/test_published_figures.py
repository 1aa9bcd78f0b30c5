"""What the pages of detectors say was measured is what the stored rows say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs/methods/detectors").glob("*.md"))
SAID = re.compile(r"\*\*Measured\.\*\* AP (\d\.\d{3}) on 30 % symmetric flips, mean of (.*?)\.", re.DOTALL)
BESIDE = re.compile(r"\(a random order: (\d\.\d{3}); the ceiling of what could be found: (\d\.\d{3})\)")


def rows() -> pd.Series:
    """Mean average precision over the draws of a set, then over sets, of each detector."""
    table = pd.read_parquet(ROOT / "benchmarks/results/repair_grid/detection/packed.parquet")
    settings = table["settings"].map(json.loads)
    main = (settings.map(lambda s: s["model"]) == "minilm") & (table["noise"] == "symmetric") & (table["rate"] == 0.3)
    judged = table["dataset"].isin(["hate_stormfront", "openai-moderation", "sst2", "surge-toxicity"])
    by_set = table[main & judged].groupby(["arm", "dataset"])["ap"].mean().unstack()
    return by_set.dropna().mean(axis=1)


@pytest.mark.parametrize(
    "page", [p for p in PAGES if "symmetric flips, mean of" in p.read_text("utf-8")], ids=lambda p: p.stem
)
def test_a_page_says_what_was_measured(page: Path) -> None:
    known, text = rows(), page.read_text("utf-8")
    said, beside = SAID.search(text), BESIDE.search(text)
    assert said and beside, f"{page} says it in other words than the other pages"
    assert float(said[1]) == pytest.approx(known[f"trace.{page.stem}"], abs=6e-4)
    assert float(beside[1]) == pytest.approx(known["trace.random"], abs=6e-4)
    assert float(beside[2]) == pytest.approx(known["ceiling"], abs=6e-4)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["detection", "repair"])
def test_the_tables_of_the_results_are_what_the_command_prints(part: str) -> None:
    command = [sys.executable, "benchmarks/repair_grid.py", "--part", part, "--table"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    said = (ROOT / "docs/results.md").read_text("utf-8")
    tables = [block for block in re.split(r"(?m)^(?=\*\*)", printed) if block.split("\n")[0] in said]
    assert len(tables) >= 4
    missing = [line for block in tables for line in block.splitlines() if line.startswith("| ") and line not in said]
    assert not missing
