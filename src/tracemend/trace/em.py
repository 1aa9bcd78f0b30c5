"""The true label as a hidden variable: a classifier, the noise and the labels, estimated together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from tracemend.arrays import Doubles, Indices
from tracemend.data import Labelled
from tracemend.errors import TraceError
from tracemend.threads import one_thread
from tracemend.trace.folds import folds_of
from tracemend.trace.noise import given_the_label, noise_matrix

Floats = npt.NDArray[np.floating[Any]]

# A label's weight below this adds nothing to a fit but time.
_NEGLIGIBLE = 1e-3


@dataclass(frozen=True, eq=False)
class TrueLabels:
    """What is believed of the true labels.

    Attributes:
        posterior: probability of each true label given text and given label [n, C].
        predicted: the same given the text alone, by models that did not see the example [n, C].
        transition: probability of a given label (column) where another is true (row) [C, C].
    """

    posterior: Doubles
    predicted: Doubles
    transition: Doubles

    def wrong(self, y: Indices) -> Doubles:
        """Probability that each given label is wrong [n]."""
        found: Doubles = 1.0 - self.posterior[np.arange(len(y)), y]
        return found


def true_labels(
    features: Floats,
    y: Indices,
    trusted_features: Floats,
    trusted_y: Indices,
    labels: int,
    *,
    rounds: int = 4,
    folds: int = 5,
    weight: float = 3.0,
    strength: float = 10.0,
    seed: int = 0,
) -> TrueLabels:
    r"""Posterior of the true labels by expectation and maximisation, beginning with what is trusted.

    With the true label t, the given one y and the text x, and noise that depends on the true label alone,

    .. math:: P(t \mid x, y) \propto P(t \mid x) \, P(y \mid t)

    P(y | t) is the likeliest noise (:func:`tracemend.trace.noise.noise_matrix`). P(t | x) is a logistic regression:
    first on the trusted examples alone, then on them (with ``weight``) and on the others with their posterior as soft
    labels, each example judged by a fit without its fold, so that no label vouches for itself. After Raykar et al. 2010
    (JMLR 11) and Bekker and Goldberger 2016, with folds and a trusted set.

    Args:
        features: of the examples in question, unit length or of that order [n, D].
        y: their given label indices [n].
        trusted_features: of examples whose labels are right [m, D].
        trusted_y: their label indices [m].
        labels: how many labels there are.
        rounds: fits after the first.
        folds: at most; fewer where a label has fewer examples.
        weight: of a trusted example beside one in question.
        strength: scikit-learn's C.
        seed: of the folds.

    Raises:
        TraceError: the trusted set has one label only, or shapes differ.

    Example:
        >>> found = true_labels(embed(model, train.pairs), train.y, embed(model, valid.pairs), valid.y, 2)
        >>> found.wrong(train.y).argmax()
        17
    """
    if len(features) != len(y) or len(trusted_features) != len(trusted_y):
        raise TraceError(
            f"{len(features)} and {len(trusted_features)} rows of features, {len(y)} and {len(trusted_y)} labels; "
            "give one label a row."
        )
    if rounds < 0:
        raise TraceError(f"rounds is {rounds}; it is a number of fits, at least 0.")
    if len(np.unique(trusted_y)) < 2:
        raise TraceError("the validation set has one label only; it needs two at least to judge labels by.")
    sure = np.eye(labels)[trusted_y]
    predicted = soft_fit(trusted_features, sure, np.ones(len(trusted_y)), strength, features)
    believed, transition = settled(predicted, y)
    for number in range(rounds):
        predicted = np.zeros((len(y), labels))
        for learn, judge in folds_of(y, folds, seed + number):
            x = np.concatenate([features[learn], trusted_features])
            weights = np.concatenate([np.ones(len(learn)), np.full(len(trusted_y), weight)])
            soft = np.concatenate([believed[learn], sure])
            predicted[judge] = soft_fit(x, soft, weights, strength, features[judge])
        believed, transition = settled(predicted, y)
    return TrueLabels(believed, predicted, transition)


def check_labels(train: Labelled, trusted: Labelled) -> None:
    """Refuse a trusted set without one of the training labels: no text would be believed to have it.

    Raises:
        TraceError: names the labels that the trusted set lacks.
    """
    lacking = [label for i, label in enumerate(train.labels) if (train.y == i).any() and not (trusted.y == i).any()]
    if lacking:
        raise TraceError(
            f"no validation example is labelled {' or '.join(map(repr, lacking))}, so that every such training label "
            "would be believed wrong; add some to the validation set, or leave these training examples out."
        )


def settled(predicted: Doubles, y: Indices) -> tuple[Doubles, Doubles]:
    """Posterior [n, C] and noise rates [C, C] that agree with each other, for these predictions [n, C]."""
    transition = noise_matrix(predicted, y)
    return given_the_label(predicted, y, transition), transition


def soft_fit(x: Floats, soft: Doubles, weights: Doubles, strength: float, asked: Floats) -> Doubles:
    """Logistic regression on soft labels: each example counts under each label by its share.

    Args:
        x: features [n, D].
        soft: shares of the labels [n, C].
        weights: of the examples [n].
        strength: scikit-learn's C.
        asked: features of what is judged [k, D].

    Returns:
        Probabilities [k, C].
    """
    row, label = np.nonzero(soft * weights[:, None] > _NEGLIGIBLE)
    found = np.zeros((len(asked), soft.shape[1]))
    if len(np.unique(label)) < 2:  # a fold without the other labels has nothing to tell apart
        found[:, label] = 1.0
        return found
    fit = LogisticRegression(C=strength, max_iter=500)
    with one_thread():
        fit.fit(x[row], label, sample_weight=(soft * weights[:, None])[row, label])
    found[:, fit.classes_] = fit.predict_proba(asked)
    return found
