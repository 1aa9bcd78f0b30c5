"""What the README and the pages say was measured is what the stored rows say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tracemend.evaluate import recovered_share
from tracemend.mend.proof.sets import JUDGED

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs/methods/detectors").glob("*.md"))
SAID = re.compile(r"\*\*Measured\.\*\* AP (\d\.\d{3}) on 30 % symmetric flips, mean of (.*?)\.", re.DOTALL)
BESIDE = re.compile(r"\(a random order: (\d\.\d{3}); the ceiling of what could be found: (\d\.\d{3})\)")


# What a row of the README's tables is called, and the noise, its rate, and whether the checked labels carry it too.
NOISE = {
    "10 %, at random": ("symmetric", 0.1, False),
    "20 %, at random": ("symmetric", 0.2, False),
    "30 %, at random": ("symmetric", 0.3, False),
    "40 %, at random": ("symmetric", 0.4, False),
    "30 %, by users who flip most of theirs": ("trolls", 0.3, False),
    "40 %, by such users": ("trolls", 0.4, False),
    "30 %, where a text is hard to tell": ("confusable", 0.3, False),
    "40 %, where a text is hard to tell": ("confusable", 0.4, False),
    "30 %, at random, of the checked ones too": ("symmetric", 0.3, True),
    "of real annotators": ("annotator", 0.0, False),
}


def stored(part: str, noise: str = "symmetric", rate: float = 0.3, noisy_validation: bool = False) -> pd.DataFrame:
    """The rows of minilm on the judged sets, or on the one with annotators' votes."""
    table = pd.read_parquet(ROOT / f"benchmarks/results/repair_grid/{part}/packed.parquet")
    settings = table["settings"].map(json.loads)
    same = settings.map(lambda s: s["model"] == "minilm" and s.get("noisy_validation", False) == noisy_validation)
    sets = ["convabuse"] if noise == "annotator" else JUDGED
    return table[same & (table["noise"] == noise) & (table["rate"] == rate) & table["dataset"].isin(sets)]


def found(table: pd.DataFrame) -> pd.Series:
    """Mean average precision over the draws of a set, then over sets, of each detector that was run on all of them."""
    return table.groupby(["arm", "dataset"])["ap"].mean().unstack().dropna().mean(axis=1)


def in_readme(title: str) -> list[list[str]]:
    """The cells of the table under a title of the README, without its head."""
    section = re.split(r"\n\*\*|\n## ", (ROOT / "README.md").read_text("utf-8").split(f"**{title}**")[1])[0]
    lines = [line for line in section.split("\n") if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def figures(cell: str) -> list[float]:
    return [float(figure) for figure in re.findall(r"-?\d\.\d\d", cell)]


def draws(cell: str) -> tuple[int, int]:
    counts = [int(count) for count in re.findall(r"\d+", cell)]
    return min(counts), max(counts)


def drawn(table: pd.DataFrame) -> tuple[int, int]:
    counts = table.groupby("dataset")["seed"].nunique()
    return int(counts.min()), int(counts.max())


@pytest.mark.parametrize("row", in_readme("Repair."), ids=lambda row: row[0])
def test_the_readme_says_what_repair_brought_back(row: list[str]) -> None:
    rows = stored("repair", *NOISE[row[0]])

    def shared(arm: str) -> list[float]:
        own = rows[rows["arm"] == arm]
        share = recovered_share(own["ap_clean"], own["ap_corrupted"], own["ap"], clusters=list(own["dataset"]))
        return [share.share, share.low, share.high]

    assert figures(row[1]) == pytest.approx(shared("default"), abs=5.1e-3)
    for cell, arm in zip(row[2:5], ("best-other", "validation-only", "oracle"), strict=True):
        assert figures(cell) == pytest.approx(shared(arm)[:1], abs=5.1e-3), arm
    assert draws(row[5]) == drawn(rows[rows["arm"] == "default"])


@pytest.mark.parametrize("row", in_readme("Detection."), ids=lambda row: row[0])
def test_the_readme_says_what_was_found(row: list[str]) -> None:
    rows = stored("detection", *NOISE[row[0]])
    known = found(rows)
    others = known.drop(["trace.consensus", "ceiling"], errors="ignore")
    said = [figure for cell in row[1:5] for figure in figures(cell)]
    chance = rows["chance"].mean()
    assert said == pytest.approx([known["trace.consensus"], others.max(), known["trace.gbair"], chance], abs=5.1e-3)
    assert draws(row[5]) == drawn(rows[rows["arm"] == "trace.consensus"])


@pytest.mark.parametrize(
    "page", [p for p in PAGES if "symmetric flips, mean of" in p.read_text("utf-8")], ids=lambda p: p.stem
)
def test_a_page_says_what_was_measured(page: Path) -> None:
    known, text = found(stored("detection")), page.read_text("utf-8")
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
