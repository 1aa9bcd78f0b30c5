"""Whether a classifier is right where its units fire, beside chance.

Units share the texts on which they fire, so that they are no independent cases. Chance is therefore taken over texts:
right and wrong answers are dealt out to other texts, and every unit sees the same deal.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from tracemend.arrays import Floats, Indices, Masks
from tracemend.evaluate import mean_interval

# With fewer units a correlation over them says nothing.
_FEWEST = 4
# Two ways to add up the same figures may differ by so much.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Rightness:
    """What is shown of units and right answers.

    Attributes:
        link: p, two-sided, of Spearman's correlation over units of ``fit`` and accuracy where the unit fires; NaN where
            there is no such correlation.
        low: lower end of the interval of each unit's accuracy [units]; NaN where it fires on no text.
        high: upper end.
        less: p of each unit [units] that the classifier is right less often where it fires than on all texts. It is
            held against the lowest of all units in every deal, so that it is good for the lowest of many as well; NaN
            where there is nothing to compare.
    """

    link: float
    low: Floats
    high: Floats
    less: Floats


def rightness(fires: Masks, hit: Masks, fit: Floats, groups: Sequence[Hashable], *, draws: int, seed: int) -> Rightness:
    """Judge where a classifier is right by deals of its answers.

    A unit's accuracy is measured in standard deviations of a draw of as many texts without replacement, so that one
    that fires on few texts is not the lowest for that alone.

    Args:
        fires: of units on texts [units, n].
        hit: whether the classifier is right [n].
        fit: how well a formula explains each unit [units].
        groups: what each text belongs to [n]; a group's answers stay together and go to a group as large.
        draws: deals; p is (1 + those at least as far) / (1 + draws).
        seed: of deals and intervals.

    Example:
        >>> fires = np.arange(40) % 4 == np.arange(4)[:, None]
        >>> found = rightness(fires, ~fires[0], np.array([0.1, 0.2, 0.3, 0.4]), range(40), draws=200, seed=0)
        >>> bool(found.less[0] < 0.05), bool((found.less[1:] > 0.9).all())
        (True, True)
    """
    rng = np.random.default_rng(seed)
    alike = _alike(groups)
    dealt = np.tile(hit.astype(np.float64), (1 + draws, 1))
    for deal in dealt[1:]:
        for texts in alike:
            deal[texts] = hit[rng.permutation(texts)]
    size = fires.sum(1)
    some = np.flatnonzero(size)
    # The first column is what was measured.
    right = (fires[some] @ dealt.T) / size[some, None]
    low, high, less = (np.full(len(fires), np.nan) for _ in range(3))
    for unit in some:
        own = np.flatnonzero(fires[unit])
        low[unit], high[unit] = mean_interval(hit[own], [groups[i] for i in own.tolist()], seed=seed)
    part = size[some] < len(hit)
    if hit.std() and part.any():
        n = size[some][part]
        spread = hit.std() * np.sqrt((len(hit) - n) / (n * (len(hit) - 1)))
        far = (right[part] - hit.mean()) / spread[:, None]
        lowest = far[:, 1:].min(0)
        less[some[part]] = (1 + (lowest <= far[:, :1] + _ROUNDING).sum(1)) / (1 + draws)
    return Rightness(_link(fit[some], right), low, high, less)


def _alike(groups: Sequence[Hashable]) -> list[Indices]:
    """Rows of the texts of all groups of one size [groups, size], for each size."""
    rows: dict[Hashable, list[int]] = {}
    for row, name in enumerate(groups):
        rows.setdefault(name, []).append(row)
    sizes = sorted({len(of) for of in rows.values()})
    return [np.array([of for of in rows.values() if len(of) == size], dtype=np.int64) for size in sizes]


def _link(fit: Floats, right: Floats) -> float:
    if len(fit) < _FEWEST or np.ptp(fit) == 0 or np.ptp(right[:, 0]) == 0:
        return float("nan")
    one, other = (stats.rankdata(of, axis=0) for of in (fit[:, None], right))
    one, other = (of - of.mean(0) for of in (one, other))
    length = np.sqrt((one**2).sum(0) * (other**2).sum(0))
    # A deal in which all units are right alike shows no link.
    rho = np.abs((one * other).sum(0)) / np.where(length > 0, length, np.inf)
    return float((1 + (rho[1:] >= rho[0] - _ROUNDING).sum()) / len(rho))
