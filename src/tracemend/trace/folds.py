"""Who learns and who is judged, so that no label is judged by what learnt it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from tracemend.arrays import Indices
from tracemend.data.schema import members
from tracemend.errors import TraceError

# A fold that learns fewer of a label's examples does not know it: so few may have one author, not the label's sense.
_KNOWN = 0.4


def folds_of(
    y: Indices, folds: int, seed: int, groups: Sequence[Hashable] | None = None, *, alone: bool = True
) -> list[tuple[Indices, Indices]]:
    """Rows to learn from and rows to judge, each row judged once; by label where each label has two examples.

    Texts of one author or template are alike, and who has seen the others is surer than it may be. So no group is cut,
    unless it must be: all rows are one group's, or a label is mostly one group's, so that whoever learns without that
    group hardly knows the label and would deny it.

    Args:
        y: label indices [n].
        folds: at most; fewer where a label has fewer examples or there are fewer groups.
        seed: of the cut.
        groups: of each example [n]; None stands alone.
        alone: whether a label may have one example, which nobody who judges it has learnt.

    Raises:
        TraceError: fewer than two folds, or a label with one example where none may be.

    Example:
        >>> [judged.tolist() for _, judged in folds_of(np.array([0, 1, 0, 1]), 2, 0, ["ann", "ann", "ben", "ben"])]
        [[2, 3], [0, 1]]
    """
    if folds < 2:
        raise TraceError(f"folds is {folds}; it must be at least 2, for nobody is judged by what learnt it.")
    counts = np.bincount(y)
    least = int(counts[counts > 0].min())
    if least < 2 and not alone:
        raise TraceError("a label with one example cannot be judged out of fold; give at least two of each label.")
    number = max(2, min(folds, least))
    if len(y) < number:
        return [(np.zeros(0, dtype=np.int64), np.arange(len(y)))]
    if least < number:
        rng = np.random.default_rng(seed)
        parts = np.array_split(rng.permutation(len(y)), number)
        return [(np.setdiff1d(np.arange(len(y)), part), part) for part in parts]
    whole = None if groups is None else _uncut(y, number, seed, members(groups))
    if whole is not None:
        return whole
    return list(StratifiedKFold(number, shuffle=True, random_state=seed).split(np.zeros(len(y)), y))


def _uncut(y: Indices, folds: int, seed: int, unit: Indices) -> list[tuple[Indices, Indices]] | None:
    """Folds that cut no group; None where groups do not matter, or must be cut."""
    units = len(np.unique(unit))
    if not 2 <= units < len(unit):
        return None
    cut = StratifiedGroupKFold(min(folds, units), shuffle=True, random_state=seed)
    found = [(learn, judge) for learn, judge in cut.split(np.zeros(len(y)), y, unit) if len(judge)]
    counts = np.bincount(y)
    known = all((np.bincount(y[learn], minlength=len(counts)) >= _KNOWN * counts).all() for learn, _ in found)
    return found if known else None
