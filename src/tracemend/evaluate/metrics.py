"""Figures of one classifier on one set of examples."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, log_loss, roc_auc_score

from tracemend.arrays import Indices
from tracemend.errors import TracemendError

Floats = npt.NDArray[np.floating[Any]]

# What a verdict compares, in the order it is shown.
METRICS = ("ap", "accuracy", "macro_f1")


def checked(y: npt.ArrayLike, probabilities: npt.ArrayLike) -> tuple[Indices, Floats]:
    """Label indices [n] and probabilities [n, C] as arrays that belong together.

    Raises:
        TracemendError: the shapes differ, there is no example, a probability is not finite or a label index is
            outside 0..C-1.
    """
    labels = np.asarray(y, dtype=np.int64)
    p = np.asarray(probabilities, dtype=np.float64)
    if p.ndim != 2 or labels.shape != p.shape[:1] or p.shape[1] < 2:
        raise TracemendError(
            f"labels have shape {labels.shape} and probabilities {p.shape}; expected [n] and [n, C] with C >= 2."
        )
    if not len(labels):
        raise TracemendError("there are no examples to evaluate; give at least one.")
    if not np.isfinite(p).all():
        raise TracemendError("some probabilities are not finite; the model has diverged: tune with a smaller rate.")
    if labels.min() < 0 or labels.max() >= p.shape[1]:
        raise TracemendError(
            f"label indices run from {labels.min()} to {labels.max()}; valid ones are 0 to {p.shape[1] - 1}."
        )
    return labels, p


def average_precision(y: npt.ArrayLike, probabilities: npt.ArrayLike, positive_index: int) -> float:
    """Average precision of the positive label; with more than two labels the macro mean, one label against the rest.

    Labels that no example carries have no average precision and are left out of the mean.

    Args:
        y: label indices [n].
        probabilities: [n, C]; only their order within a column matters.
        positive_index: the positive label's column; read with two labels only.

    Returns:
        A share in 0..1; NaN where no example carries the label. A classifier that knows nothing gets the
        label's base rate.

    Example:
        >>> average_precision([0, 1, 1], [[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]], positive_index=1)
        1.0
    """
    labels, p = checked(y, probabilities)
    columns = [positive_index] if p.shape[1] == 2 else range(p.shape[1])
    found = [average_precision_score(labels == c, p[:, c]) for c in columns if (labels == c).any()]
    return float(np.mean(found)) if found else float("nan")


def predictions(probabilities: npt.ArrayLike, positive_index: int = 1, threshold: float | None = None) -> Indices:
    """Predicted label indices [n]: the most probable, or with two labels positive from ``threshold`` on."""
    p = np.asarray(probabilities, dtype=np.float64)
    if threshold is None or p.shape[1] != 2:
        return np.asarray(p.argmax(axis=1), dtype=np.int64)
    return np.where(p[:, positive_index] >= threshold, positive_index, 1 - positive_index).astype(np.int64)


def scores(
    y: npt.ArrayLike, probabilities: npt.ArrayLike, positive_index: int, *, threshold: float | None = None
) -> dict[str, float]:
    """The figures of one classifier.

    Args:
        y: label indices [n].
        probabilities: [n, C], rows that add up to one.
        positive_index: the label whose average precision and AUROC are taken (two labels).
        threshold: probability of the positive label from which it is predicted (two labels; default: the most
            probable label). It moves accuracy and macro-F1 only.

    Returns:
        ``ap``, ``accuracy``, ``macro_f1``, ``auroc`` (macro one-vs-rest with more labels; NaN where only one
        label occurs) and ``log_loss`` (nats; the one figure here that sees calibration).

    Raises:
        TracemendError: shapes that do not fit, or probabilities that are not finite.

    Example:
        >>> scores([0, 1], [[0.9, 0.1], [0.2, 0.8]], positive_index=1)["accuracy"]
        1.0
    """
    labels, p = checked(y, probabilities)
    predicted = predictions(p, positive_index, threshold)
    columns = [positive_index] if p.shape[1] == 2 else range(p.shape[1])
    auroc = [roc_auc_score(labels == c, p[:, c]) for c in columns if 0 < (labels == c).sum() < len(labels)]
    return {
        "ap": average_precision(labels, p, positive_index),
        "accuracy": float(accuracy_score(labels, predicted)),
        "macro_f1": float(f1_score(labels, predicted, average="macro", zero_division=0)),
        "auroc": float(np.mean(auroc)) if auroc else float("nan"),
        "log_loss": float(log_loss(labels, p / p.sum(axis=1, keepdims=True), labels=np.arange(p.shape[1]))),
    }


def threshold(
    y: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    positive_index: int,
    *,
    metric: Literal["accuracy", "macro_f1"] = "macro_f1",
) -> float | None:
    """The probability of the positive label from which it is best predicted, to be chosen on validation.

    Macro-F1 is the default because the most accurate cut on a rare label is often never to predict it.
    Candidates lie half-way between neighbouring probabilities, and among equally good ones the nearest to 0.5
    wins, so that a well-calibrated model keeps its natural cut.

    Args:
        y: label indices [n] of the validation set.
        probabilities: [n, 2].
        positive_index: the positive label's column.
        metric: what the threshold maximises.

    Returns:
        A probability; None with more than two labels, where the most probable label is predicted.

    Example:
        >>> threshold([0, 0, 1], [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]], positive_index=1)
        0.25
    """
    labels, p = checked(y, probabilities)
    if p.shape[1] != 2:
        return None
    score = p[:, positive_index]
    positive = labels == positive_index
    distinct = np.unique(score)
    # Between neighbours, and just outside: to predict positive always, or never.
    outside = [distinct[0], np.nextafter(distinct[-1], 2)]
    candidates = np.concatenate([[0.5], (distinct[1:] + distinct[:-1]) / 2, outside])
    ascending = np.sort(score)
    ascending_positive = np.sort(score[positive])
    # Counts at or above each candidate, from two sorted lists instead of one pass a candidate.
    flagged = len(score) - np.searchsorted(ascending, candidates)
    hits = len(ascending_positive) - np.searchsorted(ascending_positive, candidates)
    n_positive = int(positive.sum())
    right_negatives = len(score) - n_positive - (flagged - hits)
    if metric == "accuracy":
        value = (hits + right_negatives) / len(score)
    else:
        f1_positive = 2 * hits / np.maximum(flagged + n_positive, 1)
        f1_negative = 2 * right_negatives / np.maximum(2 * len(score) - flagged - n_positive, 1)
        value = (f1_positive + f1_negative) / 2
    best = candidates[value >= value.max() - 1e-12]
    return float(best[np.abs(best - 0.5).argmin()])
