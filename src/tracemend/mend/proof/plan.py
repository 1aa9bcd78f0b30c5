"""Which cells the proof has: detection by every detector, repair by every arm."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from tracemend.data import REFERENCES
from tracemend.errors import TracemendError, did_you_mean
from tracemend.evaluate.grid import Cell, Grid
from tracemend.mend.proof.sets import JUDGED, NOISES, VOTED, WITH_VOTES
from tracemend.trace.run import detectors

PARTS = ("detection", "repair")
# The rest of a family is told apart from what it is compared with.
DEFAULT_DETECTOR = "trace.consensus"
CEILING = "ceiling"
ARMS = (
    "nothing", "unchanged", "validation-added", "validation-only", "random", "gbair", "best-other", "default", "oracle",
)  # fmt: skip
RATES = (0.1, 0.2, 0.3, 0.4)
# Seeds: of the headline row, of no noise at all, and of every other row.
HEADLINE_SEEDS, CLEAN_SEEDS, SEEDS = 10, 5, 3


def planned(
    part: str,
    *,
    sets: Sequence[str] = (),
    seeds: int | None = None,
    arms: Sequence[str] = (),
    rates: Sequence[float] = (),
    noises: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    other: str | None = None,
) -> list[Cell]:
    """The cells of a part of the proof, the headline row first.

    30 % symmetric flips with 10 seeds; then symmetric and confusable noise and trolls at 10, 20, 30 and 40 % with 3,
    and one annotator's vote where a set has votes. Repair also at 0 % with 5; detection has nothing to find there.

    Args:
        part: ``detection`` or ``repair``.
        sets: some sets; by default the judged ones and convabuse.
        seeds: at most so many of each row.
        arms: some detectors or arms; by default all, the detectors as the registry has them now.
        rates: some rates.
        noises: some kinds of noise.
        settings: see :class:`tracemend.mend.proof.Job`.
        other: the detector of the arm ``best-other``.

    Raises:
        TracemendError: no such part, arm, set, kind of noise or rate.
    """
    if part not in PARTS:
        raise TracemendError(f"part {part!r} is {did_you_mean(part, PARTS)}")
    known = (*detectors(), CEILING) if part == "detection" else ARMS
    for arm in arms:
        if arm not in known:
            raise TracemendError(
                f"{'detector' if part == 'detection' else 'arm'} {arm!r} is {did_you_mean(arm, known)}"
            )
    for what, given, valid in (
        ("set", sets, tuple(REFERENCES)), ("noise", noises, NOISES), ("rate", rates, (0.0, *RATES))
    ):  # fmt: skip
        for one in given:
            if one not in valid:
                raise TracemendError(f"{what} {one!r} is {did_you_mean(str(one), map(str, valid))}")
    names = tuple(sets) or (*JUDGED, *VOTED)
    # The influence of one takes most of the time of the other with it.
    chosen = tuple(sorted(arms or known, key=lambda arm: arm == "trace.self-influence"))
    voted = tuple(n for n in names if n in WITH_VOTES)
    # The voted set stands for real noise, and its groups for real users; flips at random are made on the others,
    # unless it was asked for by name.
    flipped = tuple(sets) or JUDGED
    rows: list[tuple[tuple[str, ...], str, float, int]] = [(flipped, "symmetric", 0.3, HEADLINE_SEEDS)]
    if part == "repair":
        rows += [(names, "none", 0.0, CLEAN_SEEDS)]
    rows += [(voted, "annotator", 0.0, HEADLINE_SEEDS)]
    rows += [(flipped, "confusable", 0.3, SEEDS), (names, "trolls", 0.3, SEEDS)]
    for rate in (r for r in RATES if r != 0.3):
        rows += [(flipped, kind, rate, SEEDS) for kind in ("symmetric", "confusable")] + [
            (names, "trolls", rate, SEEDS)
        ]
    cells: list[Cell] = []
    for datasets, noise, rate, most in rows:
        if not datasets or (rates and rate not in rates and noise != "annotator") or (noises and noise not in noises):
            continue
        draws = tuple(range(most if seeds is None else min(most, seeds)))
        about = {"part": part, **(settings or {})}
        grid = Grid(datasets=datasets, noises=(noise,), rates=(rate,), seeds=draws, arms=chosen, settings=about)
        cells += grid.cells()
    if part == "repair" and other is not None:
        cells = [_with(cell, other) if cell.arm == "best-other" else cell for cell in cells]
    return cells


def _with(cell: Cell, detector: str) -> Cell:
    return Cell.of({**cell.facts, "settings": {**cell.settings, "detector": detector}})


def selected(
    rows: pd.DataFrame,
    settings: Mapping[str, Any],
    *,
    sets: Sequence[str] = (),
    arms: Sequence[str] = (),
    rates: Sequence[float] = (),
    noises: Sequence[str] = (),
) -> pd.DataFrame:
    """The stored rows of these settings; by default of the judged sets and convabuse.

    Rows of other settings, such as a trial with few examples, never enter a table beside them.
    """

    def same(text: str) -> bool:
        found = {k: v for k, v in json.loads(text).items() if k not in ("part", "detector")}
        return found == dict(settings)

    kept = rows[rows["settings"].map(same).astype(bool)] if len(rows) else rows
    kept = kept[kept["dataset"].isin(list(sets) or [*JUDGED, *VOTED])]
    if rates:  # one annotator's vote has no rate
        kept = kept[kept["rate"].isin(list(rates)) | (kept["noise"] == "annotator")]
    for column, values in (("arm", arms), ("noise", noises)):
        if values:
            kept = kept[kept[column].isin(list(values))]
    return kept.reset_index(drop=True)
