"""Whether one arm is better than another over seeds and sets, and what is left of it among many comparisons."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from tracemend.errors import TracemendError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean difference of two arms over paired runs.

    Attributes:
        difference: mean of the first minus the second; with clusters the mean of the clusters' means.
        low: lower end of the interval; NaN with a single run, minus infinity where few runs are all alike.
        high: upper end, likewise.
        p: two-sided, of no difference; NaN with a single run.
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
    resample: Literal["clusters", "within"] = "clusters",
    n: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    r"""The mean difference of two arms that ran on the same draws, with its interval and p.

    Each run (a seed, or a seed on a set) gives one difference d. Runs that stand alone, or that all have one cluster,
    get Student's paired t,

    .. math:: \bar d \pm t_{n-1} s / \sqrt n

    with the two-sided p of the same statistic: a percentile bootstrap of three runs of one sign never reaches zero,
    however small they are. Where all differences are equal there is no spread to go by; then their signs are counted,
    so that p is :math:`2^{1-n}`, and the interval has no ends under six runs (at 95 %).

    Several ``clusters`` (the set of each run) count alike: the statistic is the mean of the clusters' means, and the
    interval is the percentile interval over resamples. ``resample="clusters"`` draws clusters and then runs within
    them, so that the interval speaks of further sets like these; ``"within"`` keeps the clusters and draws runs alone,
    so that it speaks of further seeds on these very sets. The p-value inverts the interval: twice the smaller share of
    resamples on either side of zero, where those at zero count on both, and one resample is added on either side so
    that it is never zero. Few sets and runs make a bootstrap interval too narrow: read it as a hint.

    Args:
        first: the figure of the first arm, one a run [r].
        second: of the second, the same runs in the same order [r].
        clusters: of each run [r]; None: the runs stand alone.
        resample: what is drawn of several clusters.
        n: resamples of several clusters.
        level: of the interval.
        seed: of the resampling.

    Raises:
        TracemendError: the arms do not have one finite figure a run.

    Example:
        >>> found = paired_difference([0.81, 0.84, 0.80], [0.70, 0.71, 0.72])
        >>> round(found.difference, 3), round(found.low, 3), round(found.high, 3)
        (0.107, 0.045, 0.169)
    """
    a, b = (np.asarray(values, dtype=np.float64) for values in (first, second))
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise TracemendError(f"the arms have shapes {a.shape} and {b.shape}; expected one figure a run in each.")
    gaps = a - b
    if not np.isfinite(gaps).all():
        raise TracemendError("a figure of an arm is not finite; leave out the runs in which it is not defined.")
    groups = _grouped(gaps, clusters)
    mean = float(np.mean([group.mean() for group in groups]))
    if len(gaps) == 1:
        nan = float("nan")
        return Difference(difference=mean, low=nan, high=nan, p=nan, runs=1, clusters=1)
    # Rounding must not make a difference of what is none.
    near = 1e-12 * max(1.0, float(np.abs(gaps).max()))
    if len(groups) == 1:
        low, high, p = _student(groups[0], mean, near, level)
    else:
        drawn = _means(groups, n, np.random.default_rng(seed), clusters=resample == "clusters")
        low, high = (float(end) for end in np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]))
        below, above = int((drawn <= near).sum()), int((drawn >= -near).sum())
        p = min(1.0, 2 * (min(below, above) + 1) / (n + 1))
    return Difference(difference=mean, low=low, high=high, p=p, runs=len(gaps), clusters=len(groups))


def holm(p: npt.ArrayLike) -> Floats:
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


def _student(gaps: Floats, mean: float, near: float, level: float) -> tuple[float, float, float]:
    """Ends of the t interval of the mean of two or more differences, and p; without spread, by flips of their signs."""
    runs = len(gaps)
    if float(np.ptp(gaps)) <= near:
        if abs(mean) <= near:
            return mean, mean, 1.0
        p = 2.0 ** (1 - runs)
        return (mean, mean, p) if p < 1 - level else (-np.inf, np.inf, p)
    error = float(gaps.std(ddof=1)) / np.sqrt(runs)
    half = float(stdtrit(runs - 1, (1 + level) / 2)) * error
    return mean - half, mean + half, float(2 * stdtr(runs - 1, -abs(mean) / error))


def _grouped(gaps: Floats, clusters: Sequence[Hashable] | None) -> list[Floats]:
    """The differences of each cluster, in an order that does not depend on that of the runs."""
    if clusters is None:
        return [np.sort(gaps)]
    if len(clusters) != len(gaps):
        raise TracemendError(f"there are {len(clusters)} clusters for {len(gaps)} runs; give one a run.")
    names: dict[Any, list[float]] = {}
    for name, gap in zip(clusters, gaps, strict=True):
        names.setdefault(name, []).append(float(gap))
    return [np.sort(np.array(names[name])) for name in sorted(names, key=str)]


def _means(groups: list[Floats], n: int, rng: np.random.Generator, *, clusters: bool) -> Floats:
    """Means of ``n`` resamples [n]."""
    chosen = rng.integers(len(groups), size=(n, len(groups))) if clusters else np.arange(len(groups))[None].repeat(n, 0)
    found = np.empty((n, len(groups)))
    for at, group in enumerate(groups):
        where = np.nonzero(chosen == at)
        picked = rng.integers(len(group), size=(len(where[0]), len(group)))
        found[where] = group[picked].mean(axis=1)
    return np.asarray(found.mean(axis=1))
