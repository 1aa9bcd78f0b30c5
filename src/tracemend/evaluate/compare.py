"""Whether one arm is better than another over seeds and sets, and what is left of it among many comparisons."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tracemend.errors import TracemendError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Mean difference of two arms over paired runs.

    Attributes:
        difference: mean of the first minus the second; with clusters the mean of the clusters' means.
        low: lower end of the interval; NaN with a single run.
        high: upper end.
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
    """Bootstrap the mean difference of two arms that ran on the same draws.

    Each run (a seed, or a seed on a set) gives one difference. The interval is the percentile interval of their mean
    over resamples of the runs. With ``clusters`` (the set of each run) every cluster counts alike: the statistic is the
    mean of the clusters' means. ``resample="clusters"`` draws clusters and then runs within them, so that the interval
    speaks of further sets like these; ``"within"`` keeps the clusters and draws runs alone, so that it speaks of
    further seeds on these very sets.

    The p-value inverts the interval: twice the smaller share of resamples on either side of zero, where those at
    zero count on both, and one resample is added on either side so that it is never zero. Few runs make
    a bootstrap interval too narrow: with three seeds read it as a hint.

    Args:
        first: the figure of the first arm, one a run [r].
        second: of the second, the same runs in the same order [r].
        clusters: of each run [r]; None: the runs stand alone.
        resample: what is drawn.
        n: resamples.
        level: of the interval.
        seed: of the resampling.

    Raises:
        TracemendError: the arms do not have one finite figure a run.

    Example:
        >>> found = paired_difference([0.81, 0.84, 0.80], [0.70, 0.71, 0.72])
        >>> round(found.difference, 3), found.shown
        (0.107, True)
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
    rng = np.random.default_rng(seed)
    drawn = _means(groups, n, rng, clusters=resample == "clusters" and len(groups) > 1)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    # Rounding must not make a difference of what is none.
    near = 1e-12 * max(1.0, float(np.abs(gaps).max()))
    below, above = int((drawn <= near).sum()), int((drawn >= -near).sum())
    p = min(1.0, 2 * (min(below, above) + 1) / (n + 1))
    return Difference(difference=mean, low=float(low), high=float(high), p=p, runs=len(gaps), clusters=len(groups))


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
