"""The verdict in words, and each comparison as a row that says whether its difference is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tracemend.report.numbers import decimal, is_known, signed
from tracemend.report.run import RepairRun

NAMES = {"ap": "Average precision", "accuracy": "Accuracy", "macro_f1": "Macro-F1"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison as shown.

    Attributes:
        name: the figure's.
        before, after, difference: in digits.
        interval: ``0.101 to 0.192``.
        shown: whether the interval excludes zero.
        picture: the interval against zero, as inline SVG.
    """

    name: str
    before: str
    after: str
    difference: str
    interval: str
    shown: bool
    picture: Markup


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the run recommends and why.

    Attributes:
        headline: a few words.
        sentence: the verdict in words.
        recommended: ``repaired``, ``original`` or ``unknown``.
        rows: the comparisons behind it.
        n: examples they were made on; None where there were none.
        against: what stands in the column before, in words; empty where it is the start.
    """

    headline: str
    sentence: str
    recommended: str
    rows: tuple[Row, ...]
    n: int | None
    against: str


HEADLINES = {
    "repaired": "Use the repaired set",
    "original": "Keep the original set",
    "unknown": "No verdict",
}


def verdict(run: RepairRun) -> Verdict:
    """Read the verdict of a run; one that was stopped before its verdict has none, and says so."""
    found = run.part("verdict")
    recommended = found.get("recommended") if found.get("recommended") in HEADLINES else "unknown"
    comparisons = found.get("comparisons") or []
    against = str(found.get("against", ""))
    data = run.part("data")
    of = ", mean over the labels" if len(data.get("labels", ())) > 2 else ""
    extent = max((abs(c[end]) for c in comparisons for end in ("low", "high") if is_known(c.get(end))), default=0.0)
    headline, metrics = HEADLINES[str(recommended)], run.part("metrics")
    answers = sum(metrics.get(f"{kind}_by_answers") or 0 for kind in ("relabelled", "removed"))
    if recommended == "original" and answers:
        headline += f", with {'your answer' if answers == 1 else f'your {answers} answers'}"
    return Verdict(
        headline=headline,
        sentence=found.get("sentence") or "The run ended before it compared anything, so it recommends nothing.",
        recommended=str(recommended),
        rows=tuple(_row(c, extent, of) for c in comparisons),
        n=comparisons[0].get("n") if comparisons else None,
        against="" if against.startswith("the start") else against,
    )


def _row(comparison: Mapping[str, Any], extent: float, of: str) -> Row:
    metric = str(comparison.get("metric"))
    low, high = comparison.get("low"), comparison.get("high")
    known = is_known(low) and is_known(high)
    return Row(
        name=NAMES.get(metric, metric) + (of if metric == "ap" else ""),
        before=decimal(comparison.get("before")),
        after=decimal(comparison.get("after")),
        difference=signed(comparison.get("difference")),
        interval=f"{signed(low)} to {signed(high)}" if known else "no interval",
        shown=bool(comparison.get("shown")),
        picture=_picture(comparison, extent) if known else Markup(""),
    )


def _picture(comparison: Mapping[str, Any], extent: float, width: int = 160, height: int = 20) -> Markup:
    """A dot with whiskers on a scale that all rows share, zero in the middle."""
    reach = (width / 2 - 6) / max(extent, 1e-9)
    low, dot, high = (width / 2 + reach * float(comparison[k]) for k in ("low", "difference", "high"))
    drawing = Markup(
        '<svg class="interval{}" viewBox="0 0 {w} {h}" width="{w}" height="{h}" aria-hidden="true">'
        '<line class="zero" x1="{zero}" x2="{zero}" y1="0" y2="{h}"/>'
        '<line class="whisker" x1="{low:.1f}" x2="{high:.1f}" y1="{mid}" y2="{mid}"/>'
        '<circle cx="{dot:.1f}" cy="{mid}" r="4"/></svg>'
    )
    shown = " shown" if comparison.get("shown") else ""
    return drawing.format(shown, w=width, h=height, mid=height / 2, zero=width / 2, low=low, dot=dot, high=high)
