"""Bootstrap intervals of means whose examples come in groups: words of a sentence, sentences of a document."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from tracemend.errors import TracemendError

Floats = npt.NDArray[np.floating]


def mean_interval(
    values: npt.ArrayLike,
    groups: Sequence[Hashable] | None = None,
    *,
    n: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Lower and upper ends of the percentile interval of each row's mean, groups resampled as wholes.

    Differences of two rows that were measured on the same examples get a paired interval by giving their difference.

    Args:
        values: [k, n_examples] or [n_examples], such as hits (0 or 1) of k layers on the same words.
        groups: what each example belongs to [n_examples]; none takes each for itself.
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
    if groups is not None and len(groups) != found.shape[-1]:
        raise TracemendError(f"there are {len(groups)} groups for {found.shape[-1]} examples; give one an example.")
    names = range(found.shape[-1]) if groups is None else groups
    index: dict[Hashable, int] = {}
    of = np.array([index.setdefault(name, len(index)) for name in names], dtype=np.int64)
    rows = np.atleast_2d(found)
    sums = np.stack([np.bincount(of, row, minlength=len(index)) for row in rows])
    sizes = np.bincount(of, minlength=len(index)).astype(np.float64)
    drawn = np.random.default_rng(seed).multinomial(len(index), np.full(len(index), 1 / len(index)), size=n)
    means = (drawn @ sums.T) / (drawn @ sizes)[:, None]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return (low, high) if found.ndim > 1 else (low[0], high[0])


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
