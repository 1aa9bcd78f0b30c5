"""Whether one arm is better than another over seeds and sets, and what is left of it among many comparisons."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from tracemend.arrays import Doubles
from tracemend.errors import TracemendError, did_you_mean

Spread = Literal["clusters", "within"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean difference of two arms over paired runs.

    Attributes:
        difference: mean of the first minus the second; with clusters the mean of the clusters' means.
        low: lower end of the interval; NaN where nothing tells the spread (a single run), minus infinity where few are
            all alike.
        high: upper end, likewise.
        p: two-sided, of no difference; NaN likewise.
        runs: pairs.
        clusters: groups of pairs; 1 where none were given.
    """

    difference: float
    low: float
    high: float
    p: float
    runs: int
    clusters: int

    @property
    def shown(self) -> bool:
        """Whether the first arm is shown to be better: the lower end lies above zero."""
        return bool(self.low > 0)


def paired_difference(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    spread: Spread = "clusters",
    level: float = 0.95,
) -> Difference:
    r"""The mean difference of two arms that ran on the same draws, with its interval and p.

    Each run (a seed, or a seed on a set) gives one difference d. Runs that stand alone, or that all have one cluster,
    get Student's paired t,

    .. math:: \bar d \pm t_{n-1} s / \sqrt n

    with the two-sided p of the same statistic: a percentile bootstrap of three runs of one sign never reaches zero,
    however small they are. Where all differences are equal there is no spread to go by; then their signs are counted,
    so that p is :math:`2^{1-n}`, and the interval has no ends under six runs (at 95 %).

    Several ``clusters`` (the set of each run) count alike: the statistic is the mean of the clusters' means.

    - ``spread="clusters"``, for a claim about further sets like these: the same t over the k clusters' means, with
      k - 1 degrees of freedom. Runs on one set share what the set does to both arms, so that they are no independent
      evidence about sets. A bootstrap that draws four sets anew has p < 0.05 for 17 to 20 % of null differences.
    - ``spread="within"``, for a claim about further seeds on these very sets: by the variance within each cluster,
      :math:`\sqrt{\sum_g s_g^2 / n_g} / k`, with the degrees of freedom of Welch and Satterthwaite. A set with a
      single run, or no spread within any of them, leaves the interval and p NaN.

    Args:
        first: the figure of the first arm, one a run [r].
        second: of the second, the same runs in the same order [r].
        clusters: of each run [r]; None: the runs stand alone.
        spread: what the interval goes by where there are several clusters.
        level: of the interval.

    Raises:
        TracemendError: the arms do not have one finite figure a run, or ``spread`` is neither of the two.

    Example:
        >>> found = paired_difference([0.81, 0.84, 0.80], [0.70, 0.71, 0.72])
        >>> round(found.difference, 3), round(found.low, 3), round(found.high, 3)
        (0.107, 0.044, 0.169)
    """
    if spread not in get_args(Spread):
        raise TracemendError(f"spread {spread!r} is {did_you_mean(spread, get_args(Spread))}")
    a, b = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise TracemendError(f"the arms have shapes {a.shape} and {b.shape}; expected one figure a run in each.")
    gaps = a - b
    if not np.isfinite(gaps).all():
        raise TracemendError("a figure of an arm is not finite; leave out the runs in which it is not defined.")
    groups = _grouped(gaps, clusters)
    means = np.array([group.mean() for group in groups])
    mean, nan = float(means.mean()), float("nan")
    # Rounding must not make a difference of what is none.
    near = 1e-12 * max(1.0, float(np.abs(gaps).max()))
    if len(gaps) == 1:
        low, high, p = nan, nan, nan
    elif len(groups) == 1:
        low, high, p = _student(groups[0], mean, near, level)
    elif spread == "clusters":
        low, high, p = _student(means, mean, near, level)
    else:
        low, high, p = _within(groups, mean, near, level)
    return Difference(difference=mean, low=low, high=high, p=p, runs=len(gaps), clusters=len(groups))


def holm(p: npt.ArrayLike) -> Doubles:
    """Holm's adjusted p-values: with these under 0.05 the chance of any false claim in the family is at most 0.05.

    Holm 1979, "A simple sequentially rejective multiple test procedure": in ascending order the k-th of m is
    multiplied by m - k + 1, and none is smaller than the one before it.

    Args:
        p: one a comparison [m]; NaN was not tested and does not count.

    Returns:
        In the same order, at most 1; NaN where ``p`` is.

    Raises:
        TracemendError: a value is outside 0..1.

    Example:
        >>> holm([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    given = np.asarray(p, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(given))
    if given.ndim != 1 or ((given[known] < 0) | (given[known] > 1)).any():
        raise TracemendError(f"p-values must be a list of numbers from 0 to 1; found {given.tolist()}.")
    order = known[np.argsort(given[known], kind="stable")]
    adjusted = np.full(len(given), np.nan)
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(given[order] * factors)) if len(order) else []
    return adjusted


def _student(gaps: Doubles, mean: float, near: float, level: float) -> tuple[float, float, float]:
    """Ends of the t interval of the mean of two or more differences, and p; without spread, by flips of their signs."""
    runs = len(gaps)
    if float(np.ptp(gaps)) <= near:
        if abs(mean) <= near:
            return mean, mean, 1.0
        p = 2.0 ** (1 - runs)
        return (mean, mean, p) if p < 1 - level else (-np.inf, np.inf, p)
    return _t(mean, float(gaps.std(ddof=1)) / float(np.sqrt(runs)), runs - 1, level)


def _grouped(gaps: Doubles, clusters: Sequence[Hashable] | None) -> list[Doubles]:
    """The differences of each cluster, in an order that does not depend on that of the runs."""
    if clusters is None:
        return [np.sort(gaps)]
    if len(clusters) != len(gaps):
        raise TracemendError(f"there are {len(clusters)} clusters for {len(gaps)} runs; give one a run.")
    names: dict[Any, list[float]] = {}
    for name, gap in zip(clusters, gaps, strict=True):
        names.setdefault(name, []).append(float(gap))
    return [np.sort(np.array(names[name])) for name in sorted(names, key=str)]


def _within(groups: list[Doubles], mean: float, near: float, level: float) -> tuple[float, float, float]:
    """Ends and p by the variance within clusters; NaN where nothing tells it."""
    if all(float(np.ptp(group)) <= near for group in groups) and abs(mean) <= near:
        return mean, mean, 1.0
    if any(len(group) == 1 for group in groups) or all(float(np.ptp(group)) <= near for group in groups):
        return float("nan"), float("nan"), float("nan")
    parts = np.array([group.var(ddof=1) / len(group) for group in groups])
    freedom = float(parts.sum() ** 2 / sum(part**2 / (len(g) - 1) for part, g in zip(parts, groups, strict=True)))
    return _t(mean, float(np.sqrt(parts.sum())) / len(groups), freedom, level)


def _t(mean: float, error: float, freedom: float, level: float) -> tuple[float, float, float]:
    """Ends of the t interval and the two-sided p of a mean with this standard error."""
    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    return mean - half, mean + half, float(2 * stdtr(freedom, -abs(mean) / error))
