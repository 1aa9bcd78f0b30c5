"""The curve over rounds as inline SVG: the repair, both controls, and what clean and corrupted labels give."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from tracemend.evaluate.curve import ARMS, REFERENCES, series, shown_split
from tracemend.report.numbers import decimal


@dataclass(frozen=True)
class _Scale:
    """From figures to the drawing's coordinates."""

    lowest: float
    highest: float
    rounds: int
    left: float
    right: float
    top: float
    bottom: float

    def x(self, at: float) -> float:
        return self.left + (self.right - self.left) * (at / max(self.rounds, 1))

    def y(self, value: float) -> float:
        return self.bottom - (self.bottom - self.top) * (value - self.lowest) / (self.highest - self.lowest)


def curve_svg(curve: pd.DataFrame, *, width: int = 720, height: int = 320) -> Markup:
    """The curve as inline SVG that takes its colours from the page (classes ``arm-...``, ``grid``, ``reference``).

    Args:
        curve: columns ``arm``, ``round``, ``split``, ``ap``.
        width: of the drawing in CSS pixels; text keeps its size, so draw once for wide and once for narrow screens.
        height: likewise.

    Returns:
        Markup with a title and a description for readers who do not see it; empty where nothing was measured.
    """
    split = shown_split(curve)
    arms = series(curve, split) if split else {}
    if not arms or split is None:
        return Markup("")
    values = [value for points in arms.values() for _, value in points]
    ticks = _ticks(min(values), max(values))
    rounds = max(at for points in arms.values() for at, _ in points)
    scale = _Scale(ticks[0], ticks[-1], rounds, left=44, right=width - 128, top=14, bottom=height - 44)
    name = f"curve-{width}"
    parts = [
        Markup('<svg class="curve" viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img"').format(width, height),
        Markup(' aria-labelledby="{0}-title {0}-desc"><title id="{0}-title">').format(name),
        Markup("Average precision over rounds on {}</title>").format(split),
        Markup('<desc id="{}-desc">{}</desc>').format(name, _description(arms)),
        *_axes(scale, ticks, "round"),
    ]
    parts += [_reference(scale, arms[arm][-1][1]) for arm in REFERENCES if arm in arms]
    parts += [_line(scale, arm, arms[arm]) for arm in ARMS if arm in arms]
    parts += _labels(scale, arms)
    return Markup("").join([*parts, Markup("</svg>")])


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers that span the values, and at least 0.08: noise must not fill the drawing."""
    middle, span = (low + high) / 2, max(high - low, 0.08)
    low, high = middle - span / 2, middle + span / 2
    raw = span / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw)
    first, last = math.floor((low - 0.04 * span) / step), math.ceil((high + 0.04 * span) / step)
    ticks = [round(i * step, 6) for i in range(first, last + 1)]
    # No figure drawn here exceeds 1 or falls below 0, and neither should the axis.
    return [t for t in ticks if -1e-9 <= t <= 1 + 1e-9] if len(ticks) > 3 else ticks


def _description(arms: dict[str, list[tuple[int, float]]]) -> str:
    words = [f"{REFERENCES[a]} {decimal(p[-1][1])}" for a, p in arms.items() if a in REFERENCES]
    words += [
        f"{ARMS[a][0]} from {decimal(p[0][1])} to {decimal(p[-1][1])} in {p[-1][0]} rounds"
        for a, p in reversed(arms.items())
        if a in ARMS
    ]
    return "; ".join(words) + "."


def _axes(scale: _Scale, ticks: list[float], label: str) -> list[Markup]:
    line = Markup('<line class="grid" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>')
    words = Markup('<text class="tick" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
    digits = 2 if ticks[1] - ticks[0] >= 0.01 else 3
    every = max(1, math.ceil(scale.rounds / 10))
    return [
        *(line.format(scale.left, scale.right, y=scale.y(tick)) for tick in ticks),
        *(words.format(scale.left - 8, scale.y(tick) + 4, "end", f"{tick:.{digits}f}") for tick in ticks),
        *(words.format(scale.x(at), scale.bottom + 20, "middle", at) for at in range(0, scale.rounds + 1, every)),
        words.format((scale.left + scale.right) / 2, scale.bottom + 38, "middle", label),
    ]


def _reference(scale: _Scale, value: float) -> Markup:
    line = Markup('<line class="reference" x1="{}" x2="{}" y1="{y:.1f}" y2="{y:.1f}"/>')
    return line.format(scale.left, scale.right, y=scale.y(value))


def _line(scale: _Scale, arm: str, points: list[tuple[int, float]]) -> Markup:
    at = [(scale.x(r), scale.y(v)) for r, v in points]
    path = " ".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(at))
    line = Markup('<path class="line arm-{}" d="{}" stroke-dasharray="{}"/>').format(arm, path, ARMS[arm][2] or "none")
    dots = Markup("").join(
        Markup('<circle class="dot arm-{}" cx="{:.1f}" cy="{:.1f}" r="{}"><title>{}</title></circle>').format(
            arm, x, y, 4 if arm == "repair" else 3, f"{ARMS[arm][0]}, round {r}: {decimal(v)}"
        )
        for (x, y), (r, v) in zip(at, points, strict=True)
    )
    return line + dots


def _labels(scale: _Scale, arms: dict[str, list[tuple[int, float]]]) -> list[Markup]:
    """Names at the right end of the lines, pushed apart where they would overlap."""
    words = {**REFERENCES, **{arm: drawn[0] for arm, drawn in ARMS.items()}}
    ends = sorted((scale.y(points[-1][1]), arm, points[-1][1]) for arm, points in arms.items())
    gap, places = 16.0, [y for y, _, _ in ends]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + gap)
    overshoot = max(0.0, places[-1] - scale.bottom)
    places[-1] -= overshoot
    for i in range(len(places) - 2, -1, -1):
        places[i] = min(places[i], places[i + 1] - gap)
    return [
        Markup('<text class="label arm-{}" x="{}" y="{:.1f}">{} <tspan class="value">{}</tspan></text>').format(
            arm, scale.right + 10, y + 4, words[arm], decimal(value)
        )
        for y, (_, arm, value) in zip(places, ends, strict=True)
    ]
