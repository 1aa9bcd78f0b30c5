"""How much of an explanation survives in a copy of its text: rank agreement of words, aligned by their places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tracemend.arrays import Doubles
from tracemend.errors import TraceError
from tracemend.mend.synonyms import places_of
from tracemend.saliency import Example

# A rank correlation of two words is 1 or -1 whatever they are.
FEWEST = 3


def by_place(example: Example, weights: Doubles) -> Doubles:
    """Each word's weight, by its place in :func:`tracemend.mend.synonyms.places_of`; NaN where the model reads none.

    Words that share a token are one to the model, and get the same weight.
    """
    found = word_at(example)
    return np.where(found >= 0, np.append(weights, np.nan)[found], np.nan)


def word_at(example: Example) -> npt.NDArray[np.int64]:
    """The place in ``example.words`` of each word of :func:`tracemend.mend.synonyms.places_of`."""
    rows = []
    for part, start, _ in places_of(example.pair):
        inside = [i for i, word in enumerate(example.words) if word.part == part and word.start <= start < word.end]
        rows.append(inside[0] if inside else -1)
    return np.array(rows, dtype=np.int64)


def kendall(one: Doubles, other: Doubles) -> float:
    r"""Kendall's :math:`\tau_b` of two rows of weights, over the words that both hold.

    Returns:
        From -1 (the contrary order) over 0 (none in common) to 1; NaN for fewer than three words, or equal weights.

    Raises:
        TraceError: the rows are not as long.

    Example:
        >>> kendall(np.array([3.0, 2.0, 1.0]), np.array([9.0, 4.0, 2.0]))
        1.0
    """
    from scipy.stats import kendalltau

    a, b = _both(one, other)
    if len(a) < FEWEST or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    # Its square roots leave equal orders a rounding short of 1.
    return round(float(kendalltau(a, b).statistic), 12)


def overlap(one: Doubles, other: Doubles, k: int) -> float:
    """Share of the k words with the highest weights that two rows have in common.

    Returns:
        From 0 to 1; NaN for no more than k words, of which all are among the first.

    Raises:
        TraceError: the rows are not as long, or k is below 1.
    """
    if k < 1:
        raise TraceError(f"k is {k}; it must be at least 1.")
    a, b = _both(one, other)
    if len(a) <= k:
        return float("nan")
    first = [set(np.argsort(-row, kind="stable")[:k].tolist()) for row in (a, b)]
    return len(first[0] & first[1]) / k


def of_other_texts(rows: Sequence[Doubles], k: int) -> tuple[Doubles, Doubles]:
    """The control: :func:`kendall` and :func:`overlap` of each row with the next one, both cut to the shorter."""
    tau, top = [], []
    for one, other in zip(rows, [*rows[1:], *rows[:1]], strict=True):
        a, b = one[~np.isnan(one)], other[~np.isnan(other)]
        n = min(len(a), len(b))
        tau.append(kendall(a[:n], b[:n]))
        top.append(overlap(a[:n], b[:n], k))
    return np.array(tau), np.array(top)


def _both(one: Doubles, other: Doubles) -> tuple[Doubles, Doubles]:
    if len(one) != len(other):
        raise TraceError(
            f"the explanations are of {len(one)} and {len(other)} words; give those of a text and of a copy with as "
            "many words."
        )
    both = ~(np.isnan(one) | np.isnan(other))
    return one[both], other[both]
