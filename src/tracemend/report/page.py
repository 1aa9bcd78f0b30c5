"""The report: one HTML page that opens from disk, with no network, no script and no font of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.evaluate.curve import ARMS, REFERENCES, SPLITS, shown_split
from tracemend.report import numbers
from tracemend.report.curve import curve_svg
from tracemend.report.environment import environment
from tracemend.report.evidence import evidence
from tracemend.report.key_figures import key_figures
from tracemend.report.run import RepairRun
from tracemend.report.verdict import verdict
from tracemend.report.words import style, words_of_run
from tracemend.runs import atomic


def write_report(run_dir: Path | str) -> Path:
    """Write ``report.html`` into the run directory of a finished repair.

    Args:
        run_dir: what ``--out`` named: ``result.json``, ``curve.parquet`` and ``decisions.parquet`` lie there.

    Returns:
        The page's path.

    Raises:
        RunError: the directory is not a repair's, a file is missing or damaged, or the disk is full.

    Example:
        >>> write_report("runs/chat")  # doctest: +SKIP
        PosixPath('runs/chat/report.html')
    """
    run = RepairRun.read(run_dir)
    path = run.path / "report.html"
    with atomic(path) as file:
        file.write(page(run))
    return path


def page(run: RepairRun) -> str:
    """The page as a string. Everything that comes from the run is escaped."""
    words = words_of_run(run.path)
    html = (
        environment()
        .get_template("repair.html")
        .render(
            run=run,
            verdict=verdict(run),
            key_figures=key_figures(run),
            split=shown_split(run.curve),
            curves=[curve_svg(run.curve, width=width, height=height) for width, height in ((992, 360), (350, 300))],
            references=bool(set(REFERENCES) & set(run.curve["arm"])),
            rounds=_rounds(run.curve),
            precision=_precision(run.curve),
            evidence=evidence(run.decisions),
            words=words,
            style=style() if words else "",
            facts=_facts(run),
        )
    )
    # A lone surrogate (a broken emoji in the user's texts) has no UTF-8; it becomes a question mark.
    return html.encode("utf-8", "replace").decode("utf-8")


def _rounds(curve: pd.DataFrame) -> list[dict[str, Any]]:
    """The curve's rows in reading order, for the table under the figure."""
    arms, splits = [*reversed(ARMS), *REFERENCES], list(SPLITS)
    rows = curve[curve["arm"].isin(arms) & curve["split"].isin(splits)].to_dict("records")
    names = {**{arm: drawn[0] for arm, drawn in ARMS.items()}, **REFERENCES}
    rows.sort(key=lambda row: (splits.index(row["split"]), arms.index(row["arm"]), row["round"]))
    return [{**{str(k): v for k, v in row.items()}, "arm": names[row["arm"]]} for row in rows]


def _precision(curve: pd.DataFrame) -> list[dict[str, Any]]:
    """Up to each round: how many examples were acted on, and what share of them was wrong, by arm."""
    split = shown_split(curve)
    known = curve[(curve["split"] == split) & curve["acted_precision"].notna() & (curve["round"] > 0)]
    arms = [arm for arm in reversed(ARMS) if arm in set(known["arm"])]
    table = []
    for at, rows in known.groupby("round"):
        by_arm = rows.set_index("arm")
        cells = [(a, by_arm.loc[a, "acted_precision"] if a in by_arm.index else None) for a in arms]
        acted = by_arm["acted"].get("influence", by_arm["acted"].iloc[0])
        table.append({"round": at, "acted": acted, "arms": cells})
    return table


def _facts(run: RepairRun) -> dict[str, dict[str, str]]:
    """What the run was made from, as lists of name and value under their headings."""
    data, model = run.part("data"), run.part("model")
    sizes = {f"{name} examples": numbers.count(n) for name, n in (data.get("sizes") or {}).items() if n is not None}
    labels = ", ".join(str(label) for label in data.get("labels") or [])
    seeds = run.result.get("seeds")
    found: dict[str, dict[str, Any]] = {
        "Data": {
            "name": data.get("name"),
            "labels": labels,
            "positive label": data.get("positive"),
            **sizes,
        },
        "Model": {name.replace("_", " "): _plain(value) for name, value in model.items()},
        "Run": {
            **(
                {k if k == "seed" else f"seed of {k}": _plain(v) for k, v in seeds.items()}
                if isinstance(seeds, Mapping)
                else {}
            ),
            "seeds": _plain(seeds) if isinstance(seeds, list | int) else None,
            "took": numbers.duration(run.result.get("seconds")),
            "status": run.result.get("status"),
        },
        "Versions": {k: str(v) for k, v in run.part("versions").items()},
        "Configuration": _flat(run.part("config")),
        "Fingerprints": {k: str(v) for k, v in run.part("fingerprints").items()},
    }
    stated = {h: {k: str(v) for k, v in facts.items() if v not in (None, "")} for h, facts in found.items()}
    return {heading: facts for heading, facts in stated.items() if facts}


def _flat(config: Mapping[str, Any], under: str = "") -> dict[str, str]:
    """Nested configuration as one list: ``tuning.adapter``."""
    found: dict[str, str] = {}
    for name, value in config.items():
        nested = isinstance(value, Mapping) and value
        found |= _flat(value, f"{under}{name}.") if nested else {f"{under}{name}": _plain(value)}
    return found


def _plain(value: Any) -> str:
    """A JSON value as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return numbers.count(value)
    if isinstance(value, list) and all(isinstance(v, str | int | float) for v in value):
        return ", ".join(str(v) for v in value)
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False)
    return "none" if value is None else str(value)
