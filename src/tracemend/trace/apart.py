"""What is said of trusted examples without their help: how sure a belief has a right to be."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from tracemend.arrays import Doubles, Indices
from tracemend.trace.em import Floats, soft_fit, true_labels
from tracemend.trace.folds import folds_of


@dataclass(frozen=True, eq=False)
class Apart:
    """Trusted examples, judged fold by fold without anything that their labels told.

    Attributes:
        parts: rows of the trusted examples that are known, and that are asked about, fold by fold.
        believed: posterior of the examples in question by the known ones alone, fold by fold, each [n, C].
        trusted: probabilities of the trusted examples' labels by models without their fold [m, C].
    """

    parts: list[tuple[Indices, Indices]]
    believed: list[Doubles]
    trusted: Doubles


def judged_apart(
    features: Floats,
    y: Indices,
    trusted_features: Floats,
    trusted_y: Indices,
    labels: int,
    *,
    folds: int = 3,
    rounds: int = 4,
    weight: float = 3.0,
    strength: float = 10.0,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> Apart:
    """Come to the beliefs of :func:`tracemend.trace.true_labels` anew without each fold of the trusted examples.

    Beliefs about the examples in question carry the trusted labels that they were come to by. A model that learns such
    beliefs and judges those very trusted examples seems surer than it has a right to be, the more so the less the
    features say: on features of pure noise it is right of 0.66 of them where chance is 0.5.

    Args:
        features: of the examples in question [n, D].
        y: their given label indices [n].
        trusted_features: of examples whose labels are right [m, D].
        trusted_y: their label indices [m].
        labels: how many labels there are.
        folds: of the trusted examples, at most, see :func:`tracemend.trace.folds.folds_of`.
        rounds: see :func:`tracemend.trace.true_labels`, as are ``weight`` and ``strength``.
        seed: of the folds.
        groups: of each trusted example; none is cut, for its mates would vouch for it.

    Raises:
        TraceError: shapes differ.

    Example:
        >>> states, trusted = np.random.default_rng(0).normal(size=(2, 60, 8))
        >>> y = np.arange(60) % 2
        >>> judged_apart(states, y, trusted, y, 2).trusted.shape
        (60, 2)
    """
    found = Apart(folds_of(trusted_y, folds, seed, groups), [], np.zeros((len(trusted_y), labels)))
    for known, asked in found.parts:
        x, right = trusted_features[known], trusted_y[known]
        # Known ones of one label cannot judge; then the given labels are taken as they are.
        believed = np.eye(labels)[y]
        if len(np.unique(right)) > 1:
            believed = true_labels(
                features, y, x, right, labels, rounds=rounds, weight=weight, strength=strength, seed=seed
            ).posterior
        weights = np.concatenate([np.full(len(known), weight), np.ones(len(y))])
        soft = np.concatenate([np.eye(labels)[right], believed])
        found.trusted[asked] = soft_fit(np.concatenate([x, features]), soft, weights, strength, trusted_features[asked])
        found.believed.append(believed)
    return found
