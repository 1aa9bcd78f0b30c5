"""Confident learning: how the given labels relate to the true ones, from probabilities out of fold."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from tracemend.arrays import Doubles, Indices
from tracemend.errors import TraceError, did_you_mean

Quality = Literal["self-confidence", "normalised-margin"]


def confident_joint(y: npt.ArrayLike, probabilities: npt.ArrayLike) -> Doubles:
    """Estimated joint distribution of given (rows) and true (columns) labels [C, C], summing to 1.

    Confident learning (Northcutt, Jiang and Chuang 2021, Journal of Artificial Intelligence Research 70): an example
    counts as truly j where its probability of j is at least the mean probability of j among the examples labelled j
    (the likeliest such j; none: it does not count). Rows are then scaled to how often each label was given.

    Args:
        y: given label indices [n].
        probabilities: out of fold [n, C]; in-sample ones underestimate the noise.

    Raises:
        TraceError: shapes differ or a value is out of range.
    """
    p, given = checked(probabilities, y)
    classes = p.shape[1]
    share = np.bincount(given, minlength=classes) / len(given)
    # A label nobody was given has no threshold, so nothing can confidently be it.
    thresholds = np.array([p[given == j, j].mean() if share[j] else np.inf for j in range(classes)])
    confident = np.where(p >= thresholds - 1e-12, p, -np.inf)
    counted = np.isfinite(confident).any(axis=1)
    joint = np.zeros((classes, classes))
    np.add.at(joint, (given[counted], confident[counted].argmax(axis=1)), 1.0)
    # Each label has at least one right example: where nothing was confident, the row says "no noise found".
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1.0))
    scaled: Doubles = joint / joint.sum(axis=1, keepdims=True) * share[:, None]
    return scaled


def noise_estimate(y: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Estimated share of wrong labels: what lies off the diagonal of the confident joint, at most 0.5.

    Over one half no method could tell the wrong from the right, so the estimate ends there.

    Example:
        >>> noise_estimate([0, 0, 0, 1, 1, 1], [[0.9, 0.1]] * 2 + [[0.1, 0.9]] * 4)
        0.1666...
    """
    return float(np.clip(1.0 - np.trace(confident_joint(y, probabilities)), 0.0, 0.5))


def label_quality(y: npt.ArrayLike, probabilities: npt.ArrayLike, by: Quality = "normalised-margin") -> Doubles:
    """How well the probabilities bear each label out [n], 0 (not at all) to 1.

    Args:
        y: given label indices [n].
        probabilities: out of fold [n, C].
        by: ``self-confidence``: the probability of the label; ``normalised-margin``: how far it lies above the
            likeliest other label, scaled from -1..1 to 0..1.

    Raises:
        TraceError: as :func:`confident_joint`, or no such quality.

    Example:
        >>> label_quality([0, 1], [[0.9, 0.1], [0.6, 0.4]])
        array([0.9, 0.4])
    """
    if by not in get_args(Quality):
        raise TraceError(f"the quality {by!r} is {did_you_mean(by, get_args(Quality))}")
    p, given = checked(probabilities, y)
    rows = np.arange(len(given))
    own: Doubles = p[rows, given]
    if by == "self-confidence":
        return own
    others = p.copy()
    others[rows, given] = -np.inf
    margin: Doubles = (own - others.max(axis=1) + 1) / 2
    return margin


def pruned(y: npt.ArrayLike, probabilities: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Which labels "prune by noise rate" holds for wrong [n].

    Of the examples labelled i as many as the confident joint counts as truly j, those with the largest probability of j
    less that of i; never one whose given label is the likeliest.

    Args:
        y: given label indices [n].
        probabilities: out of fold [n, C].

    Raises:
        TraceError: as :func:`confident_joint`.

    Example:
        >>> pruned([0, 0, 0, 1, 1, 1], [[0.9, 0.1]] * 2 + [[0.1, 0.9]] * 4).tolist()
        [False, False, True, False, False, False]
    """
    p, given = checked(probabilities, y)
    counts = np.rint(confident_joint(given, p) * len(given)).astype(np.int64)
    found = np.zeros(len(given), dtype=bool)
    for label in range(p.shape[1]):
        rows = np.flatnonzero(given == label)
        for other in range(p.shape[1]):
            if other != label:
                margin = p[rows, other] - p[rows, label]
                found[rows[np.argsort(-margin, kind="stable")[: counts[label, other]]]] = True
    found[p.argmax(axis=1) == given] = False
    return found


def checked(probabilities: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Doubles, Indices]:
    """Probabilities [n, C] and label indices [n] as arrays.

    Raises:
        TraceError: shapes differ, a row is no distribution, or a label has no column.
    """
    p = np.asarray(probabilities, dtype=np.float64)
    given = np.asarray(y)
    if p.ndim != 2 or p.shape[1] < 2 or given.shape != p.shape[:1] or not len(p):
        raise TraceError(f"probabilities have shape {p.shape} and labels {given.shape}; expected [n, C >= 2] and [n].")
    # The tolerance lets bfloat16 softmaxes through, not logits.
    if not np.isfinite(p).all() or p.min() < 0 or np.abs(p.sum(axis=1) - 1).max() > 1e-2:
        raise TraceError("probabilities must be finite, at least 0 and sum to 1 in a row; give a softmax, no logits.")
    if not np.issubdtype(given.dtype, np.integer) or given.min() < 0 or given.max() >= p.shape[1]:
        raise TraceError(f"labels must be whole numbers from 0 to {p.shape[1] - 1}, one for each column.")
    return p, given.astype(np.int64)
