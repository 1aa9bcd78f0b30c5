"""Probabilities of the labels by a model that has not seen the example."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from tracemend.arrays import Doubles, Indices
from tracemend.errors import TraceError
from tracemend.threads import one_thread
from tracemend.trace.folds import folds_of


def out_of_fold_probabilities(
    features: npt.NDArray[np.floating[Any]],
    y: Indices,
    labels: int,
    *,
    folds: int = 5,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> Doubles:
    """Logistic regression on frozen features, each example judged by the folds it is not in [n, labels].

    Ranking by the held-out loss of a pretrained model is the baseline that is hard to beat on text (Chong, Hong and
    Manning 2022, arXiv 2205.12702).

    Args:
        features: unit embeddings [n, D].
        y: label indices [n].
        folds: at most; fewer where a label has fewer examples.
        seed: of the folds.
        groups: author or the like of each example [n], see :func:`tracemend.trace.folds.folds_of`.

    Raises:
        TraceError: a label has fewer than two examples, or all examples have one label.
    """
    if len(np.unique(y)) < 2:
        raise TraceError(
            "all examples have the same label, so nothing can be learnt that judges it out of fold; give examples of "
            "two labels at least."
        )
    cut = folds_of(y, folds, seed, groups, alone=False)
    model = LogisticRegression(C=10.0, max_iter=2000)
    found = np.zeros((len(y), labels))
    with one_thread():
        found[:, np.unique(y)] = cross_val_predict(model, features, y, cv=cut, method="predict_proba")
    return found
