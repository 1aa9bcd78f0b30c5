"""Rows of ``benchmarks.circuits`` that were kept, and the tables of docs/results.md from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results" / "circuits"
COLUMNS = ("figure", "expected", "found", "control")


def keep(name: str, lines: Sequence[tuple[Any, ...]]) -> Path:
    """Write the rows of one benchmark, as JSON."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps([dict(zip(COLUMNS, line, strict=True)) for line in lines], indent=1) + "\n", "utf-8")
    return path


def tables() -> str:
    """Every kept benchmark as a Markdown table, by name."""
    found = []
    for path in sorted(FOLDER.glob("*.json")):
        rows = json.loads(path.read_text("utf-8"))
        found += [f"**{path.stem}**", "", "| | expected | found | control |", "| --- | --- | --- | --- |"]
        found += [f"| {' | '.join(shown(row[name]) for name in COLUMNS)} |" for row in rows]
        found.append("")
    return "\n".join(found)


def shown(value: Any) -> str:
    """A cell: numbers to three places, nothing for None, no bars."""
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value).replace("|", "/").strip()
