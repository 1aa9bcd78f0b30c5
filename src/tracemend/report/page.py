"""The report: one HTML page that opens from disk, with no network, no script and no font of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.evaluate.curve import ARMS, REFERENCES, SPLITS, shown_split
from tracemend.report.curve import curve_svg
from tracemend.report.environment import environment
from tracemend.report.evidence import evidence
from tracemend.report.facts import facts
from tracemend.report.key_figures import key_figures
from tracemend.report.method_page import method_page
from tracemend.report.method_run import MethodRun, is_method_run
from tracemend.report.run import RepairRun
from tracemend.report.verdict import verdict
from tracemend.report.words import style, words_of_run
from tracemend.runs import atomic


def write_report(run_dir: Path | str) -> Path:
    """Write ``report.html`` into the run directory of a finished repair, or of any method that was run by itself.

    Args:
        run_dir: what ``--out`` named: ``result.json`` lies there, and what the run left beside it.

    Returns:
        The page's path.

    Raises:
        RunError: the directory is of neither kind, a file is missing or damaged, or the disk is full.

    Example:
        >>> write_report("runs/chat")  # doctest: +SKIP
        PosixPath('runs/chat/report.html')
    """
    path = Path(run_dir) / "report.html"
    html = method_page(MethodRun.read(run_dir)) if is_method_run(run_dir) else page(RepairRun.read(run_dir))
    with atomic(path) as file:
        # A lone surrogate (a broken emoji in the user's texts) has no UTF-8; it becomes a question mark.
        file.write(html.encode("utf-8", "replace").decode("utf-8"))
    return path


def page(run: RepairRun) -> str:
    """The page as a string. Everything that comes from the run is escaped."""
    words = words_of_run(run.path)
    return (
        environment()
        .get_template("repair.html")
        .render(
            run=run,
            verdict=verdict(run),
            key_figures=key_figures(run),
            split=shown_split(run.curve),
            curves=[curve_svg(run.curve, width=width, height=height) for width, height in ((992, 360), (350, 300))],
            references=set(REFERENCES) & set(run.curve["arm"]),
            rounds=_rounds(run.curve),
            precision=_precision(run.curve),
            evidence=evidence(run.in_force),
            words=words,
            style=style() if words else "",
            facts=facts(run.result),
        )
    )


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
        cells = [(a, ARMS[a][0], by_arm["acted_precision"].get(a)) for a in arms]
        acted = by_arm["acted"].get("repair", by_arm["acted"].iloc[0])
        table.append({"round": at, "acted": acted, "arms": cells})
    return table
