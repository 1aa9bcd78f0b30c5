"""Benchmarks whose draws are told apart by their seed alone: one after another, each kept as soon as it is there."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tracemend.evaluate import paired_difference
from tracemend.models import LanguageModel, load

Seed = Callable[[int, LanguageModel, argparse.Namespace], dict[str, Any]]
Summary = Callable[[dict[str, Any]], dict[str, Any]]
# Differences of fewer seeds get no interval.
FEWEST = 3


def gap_of(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """The mean difference of two arms over the same seeds, from three seeds on with the ends of its 95 % t interval."""
    if not np.isfinite([*first, *second]).all():
        return []  # no tau where nothing was compared: what is not measured has no difference
    found = paired_difference(first, second)
    ends = (found.low, found.high) if found.runs >= FEWEST else ()
    return [round(float(value), 3) for value in (found.difference, *ends)]


def each_seed(parser: argparse.ArgumentParser, seed_of: Seed, summary: Summary) -> None:
    """Print the figures as JSON, and write them where ``--out`` says; what is there already is not done again.

    Args:
        parser: of the benchmark's own options; ``--seeds``, ``--judge`` and ``--out`` are added.
        seed_of: figures of one seed on minilm.
        summary: of all seeds.
    """
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--judge", choices=["validation", "test"], default="test", help="validation to choose settings")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    settings = {name: value for name, value in vars(given).items() if name not in ("out", "seeds")}
    model, found = load("minilm"), {}
    if given.out is not None and given.out.exists():
        kept = json.loads(given.out.read_text(encoding="utf-8"))
        there = {name: value for name, value in kept["settings"].items() if name != "seeds"}
        if there != settings:
            raise SystemExit(f"{given.out} was measured with {there}, not {settings}; name another --out.")
        found = kept["seeds"]
    for seed in given.seeds:
        if str(seed) not in found:
            found[str(seed)] = seed_of(seed, model, given)
        if given.out is not None:
            made = {"settings": settings, "seeds": found, "summary": summary(found)}
            given.out.parent.mkdir(parents=True, exist_ok=True)
            given.out.write_text(json.dumps(made, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(summary(found), indent=2))
