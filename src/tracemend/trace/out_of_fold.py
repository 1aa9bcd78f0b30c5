"""Probabilities of the labels by a model that has not seen the example."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from tracemend.errors import TraceError
from tracemend.threads import one_thread


def out_of_fold_probabilities(
    features: npt.NDArray[np.floating[Any]], y: npt.NDArray[np.int64], labels: int, *, folds: int = 5, seed: int = 0
) -> npt.NDArray[np.float64]:
    """Logistic regression on frozen features, each example judged by the folds it is not in [n, labels].

    Ranking by the held-out loss of a pretrained model is the baseline that is hard to beat on text (Chong, Hong and
    Manning 2022, arXiv 2205.12702).

    Args:
        features: unit embeddings [n, D].
        y: label indices [n].

    Raises:
        TraceError: a label has fewer than two examples, or all examples have one label.
    """
    counts = np.bincount(y, minlength=labels)
    if (counts > 0).sum() < 2:
        raise TraceError(
            "all examples have the same label, so nothing can be learnt that judges it out of fold; give examples of "
            "two labels at least."
        )
    least = int(counts[counts > 0].min())
    if least < 2:
        raise TraceError("a label with one example cannot be judged out of fold; give at least two of each label.")
    cut = StratifiedKFold(min(folds, least), shuffle=True, random_state=seed)
    model = LogisticRegression(C=10.0, max_iter=2000)
    found = np.zeros((len(y), labels))
    with one_thread():
        found[:, np.unique(y)] = cross_val_predict(model, features, y, cv=cut, method="predict_proba")
    return found
