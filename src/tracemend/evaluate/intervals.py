"""Bootstrap intervals of means whose examples come in groups: words of a sentence, sentences of a document."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from tracemend.arrays import Floats
from tracemend.errors import TracemendError
from tracemend.evaluate.resampling import clusters, few, jackknife


def mean_interval(
    values: npt.ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    n: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Lower and upper ends of the interval of each row's mean, groups resampled as wholes.

    The percentile interval; of few groups Student's (:mod:`tracemend.evaluate.resampling`), within 0 and 1, or within
    -1 and 1, where all values are.

    Differences of two rows that were measured on the same examples get a paired interval by giving their difference.

    Args:
        values: [k, n_examples] or [n_examples], such as hits (0 or 1) of k layers on the same words.
        groups: what each example belongs to [n_examples]; None takes each for itself, also in place of one.
        n: resamples.
        level: of the interval.
        seed: of the resampling.

    Returns:
        Two arrays [k] (or numbers, for one row).

    Raises:
        TracemendError: no example, or as many groups as there are not examples.

    Example:
        >>> low, high = mean_interval([0.0, 1.0] * 50)
        >>> bool(0.35 < low < 0.5 < high < 0.65)
        True
    """
    found = np.asarray(values, dtype=np.float64)
    if not found.shape[-1]:
        raise TracemendError("there are no examples, so there is no interval; give at least one.")
    of = clusters(groups, found.shape[-1])
    rows = np.atleast_2d(found)
    if few(of):
        low, high = jackknife(lambda w: (w @ rows.T) / w.sum(axis=1)[:, None], of, level=level, bounds=_bounds(rows))
    else:
        count = int(of.max()) + 1
        sums = np.stack([np.bincount(of, row, minlength=count) for row in rows])
        sizes = np.bincount(of).astype(np.float64)
        drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=n)
        means = (drawn @ sums.T) / (drawn @ sizes)[:, None]
        low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return (low, high) if found.ndim > 1 else (low[0], high[0])


def _bounds(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Of shares, of differences of shares, or of anything."""
    if values.max() <= 1 and values.min() >= -1:
        return (0.0 if values.min() >= 0 else -1.0), 1.0
    return -np.inf, np.inf


def gap_interval(
    values: npt.ArrayLike, others: npt.ArrayLike, *, n: int = 1000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Ends of the percentile interval of mean(values) - mean(others), two samples that are not paired.

    Both are resampled, so that the uncertainty of either mean counts.

    Args:
        values: of one sample [n_examples].
        others: of another one [n_others].
        n: resamples.
        level: of the interval.
        seed: of the resampling.

    Raises:
        TracemendError: a sample without an example.

    Example:
        >>> low, high = gap_interval([1.0, 2.0, 3.0] * 20, [0.0, 1.0, 2.0] * 20)
        >>> 0.6 < low < 1 < high < 1.4
        True
    """
    rng = np.random.default_rng(seed)
    means = []
    for sample in (values, others):
        found = np.asarray(sample, dtype=np.float64)
        if not found.size:
            raise TracemendError("there are no examples, so there is no interval; give at least one.")
        means.append(rng.multinomial(len(found), np.full(len(found), 1 / len(found)), size=n) @ found / len(found))
    low, high = np.quantile(means[0] - means[1], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
