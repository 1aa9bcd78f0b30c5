"""The curve of a repair over rounds, beside its controls and what clean and corrupted labels give."""

from __future__ import annotations

from typing import Any

import pandas as pd

# Arms in drawing order (the repair on top), with the words, the colour and the dash each is drawn in. Colour never
# stands alone: dashes and labels tell the arms apart as well.
ARMS = {
    "unchanged": ("unchanged", "#8090a8", "6 3 2 3"),
    "random": ("random", "#8a8580", "2 4"),
    "similarity": ("similarity", "#b7791f", "7 4"),
    "repair": ("repair", "#1f7a6d", ""),
}
REFERENCES = {"clean": "clean", "corrupted": "before"}
SPLITS = ("test", "verdict", "validation")


def shown_split(curve: pd.DataFrame) -> str | None:
    """The split the curve is drawn on: the most independent one that was measured over rounds."""
    there = set(curve.loc[curve["arm"] == "repair", "split"])
    return next((split for split in SPLITS if split in there), None)


def series(curve: pd.DataFrame, split: str, metric: str = "ap") -> dict[str, list[tuple[int, float]]]:
    """(round, figure) of each arm in order of rounds; arms that were not measured are absent."""
    rows = curve[(curve["split"] == split) & curve[metric].notna()].sort_values("round")
    arms = [*REFERENCES, *ARMS]
    points = {a: [(int(r), float(v)) for r, v in rows.loc[rows["arm"] == a, ["round", metric]].values] for a in arms}
    return {arm: found for arm, found in points.items() if found}


def curve_figure(curve: pd.DataFrame, *, metric: str = "ap") -> Any:
    """The curve as a matplotlib figure, for notebooks and papers.

    Args:
        curve: columns ``arm``, ``round``, ``split`` and the metric's.
        metric: ``ap``, ``accuracy`` or ``macro_f1``.

    Returns:
        A ``matplotlib.figure.Figure``, empty axes where nothing was measured.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    split = shown_split(curve)
    for arm, points in (series(curve, split, metric) if split else {}).items():
        if arm in REFERENCES:
            axes.axhline(points[-1][1], color="#666666", linewidth=0.8, linestyle=(0, (1, 2)))
            axes.annotate(REFERENCES[arm], (1, points[-1][1]), xycoords=("axes fraction", "data"), xytext=(4, -3),
                          textcoords="offset points", fontsize=8, color="#666666")  # fmt: skip
        else:
            name, colour, dash = ARMS[arm]
            style = (0, tuple(float(d) for d in dash.split())) if dash else "-"
            axes.plot(*zip(*points, strict=True), color=colour, linestyle=style, marker="o", markersize=4, label=name)
    if axes.get_lines():
        axes.legend(frameon=False, fontsize=8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("round")
    axes.set_ylabel({"ap": "average precision", "macro_f1": "macro-F1"}.get(metric, metric) + f" ({split})")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
