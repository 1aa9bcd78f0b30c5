"""Judging labels where none can be trusted: every part by the labels of the others, every author by all they wrote.

Where the validation labels come from the same people as the training labels, nothing is clean: half of the authors
may be trolls (Ju et al. 2022, "Learning from data in the mixed adversarial non-adversarial case", arXiv
2208.03295). Then no label may speak for itself. Training and validation examples are cut into folds together, each
fold is judged by a posterior fitted on the others' labels, and an author whose labels are denied again and again is
believed less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import mannwhitneyu

from tracemend.arrays import Doubles, Indices
from tracemend.errors import TraceError
from tracemend.trace.confident import confident_joint
from tracemend.trace.em import soft_fit
from tracemend.trace.folds import folds_of
from tracemend.trace.groups import by_group, shifted
from tracemend.trace.noise import from_text, given_the_label, noise_matrix, tempered
from tracemend.trace.trusted import trusted_probabilities

# (features [m, D], shares of each label [m, C], features to judge [k, D]) -> probabilities [k, C].
Posterior = Callable[[Doubles, Doubles, Doubles], Doubles]

# scikit-learn's C of the default fit.
_STRENGTH = 10.0
# Texts tell the given labels where chance would do so more seldom than this.
_CHANCE = 0.01


@dataclass(frozen=True, eq=False, kw_only=True)
class Crossed:
    """What the others' labels say of each label.

    Attributes:
        posterior: of the true label, given text, label and author [n, C].
        wrong: probability that the given label is wrong [n].
        given: probability of each *given* label from the text, by the folds the example is not in [n, C].
        matrix: how often each true label (row) was given as each label (column) [C, C].
        strength: of the prior on a group's share of denied labels, in examples; infinite where groups tell nothing.
        told: whether texts tell the given labels better than chance does. Where they do not, nothing can be said of any
            label, and all are left as they are: that groups differ is then how they differ by nature.
    """

    posterior: Doubles
    wrong: Doubles
    given: Doubles
    matrix: Doubles
    strength: float
    told: bool


def soft_logistic(features: Doubles, shares: Doubles, judged: Doubles) -> Doubles:
    """Logistic regression on shared labels: every example counts for each label by its share (the default fit).

    Args:
        features: [m, D].
        shares: of each label [m, C]; rows sum to 1.
        judged: features of the examples in question [k, D].

    Returns:
        Probabilities [k, C]; zero for a label without any share.
    """
    return soft_fit(features, shares, np.ones(len(shares)), _STRENGTH, judged)


def cross_posterior(
    features: npt.NDArray[np.floating[Any]],
    y: Indices,
    labels: int,
    *,
    groups: Sequence[Hashable] | None = None,
    folds: int = 5,
    steps: int = 3,
    fit: Posterior = soft_logistic,
    seed: int = 0,
) -> Crossed:
    """The posterior of every true label where any label may be wrong, each example judged without its own.

    First the folds say what label a text is given, ``f``, toned down to be as sure as it proves
    (:func:`tracemend.trace.noise.tempered`). Where f does not tell the given labels at all, and no group is denied
    more than others, labels stay as they are: a fit that knows nothing denies as many as one that knows better. Else
    the confident joint of f and the given labels tells the noise T, and :func:`tracemend.trace.noise.from_text` takes
    it out of f. Then, ``steps`` times: share each example among the true labels by the posterior, and fit again on
    the other folds' shares. T stays: with no label to trust, a matrix of less noise and a vaguer fit explain the same
    labels as well, and an estimate that moves along with the fit drifts there. With ``groups``, folds keep a group
    together, and :func:`by_group` shifts the prior of its members.

    Args:
        features: of train and validation together, unit rows [n, D].
        y: given label indices [n].
        labels: how many labels there are.
        groups: author or the like of each example; None or NaN stands alone.
        folds: at most; fewer where a label has fewer examples or there are fewer groups.
        steps: of the alternation; 0 keeps the first guess.
        fit: how probabilities are had from shared labels.
        seed: of the folds.

    Raises:
        TraceError: shapes differ, or a label that was given has one example.

    Example:
        >>> found = cross_posterior(embed(model, pairs), y, 2, groups=authors)
        >>> found.wrong.argmax()
    """
    x, given = np.asarray(features, dtype=np.float64), np.asarray(y)
    if x.ndim != 2 or given.shape != x.shape[:1] or labels < 2 or (groups is not None and len(groups) != len(given)):
        raise TraceError(f"features have shape {x.shape} and labels {given.shape}; expected [n, D], [n] and n groups.")
    parts = folds_of(given, folds, seed, groups, alone=False)
    one_hot = np.eye(labels)[given]
    f = _judge(x, one_hot, parts, fit)
    told = _told(f, given)
    f = tempered(f, f, one_hot)
    joint = confident_joint(given, f)
    shares = joint.sum(axis=0)[:, None]
    # A label that nothing confidently is: taken as given rightly, which asserts nothing of anybody else.
    matrix = np.where(shares > 0, joint.T / np.where(shares > 0, shares, 1.0), np.eye(labels))
    predicted = from_text(f, matrix)
    for _ in range(steps):
        predicted = _judge(x, given_the_label(predicted, given, matrix), parts, fit)
    posterior, wrong, strength = _believed(predicted, given, matrix, groups)
    if not told:
        posterior, wrong, matrix = one_hot, np.zeros(len(given)), np.eye(labels)
    return Crossed(posterior=posterior, wrong=wrong, given=f, matrix=matrix, strength=strength, told=told)


def trusted_posterior(
    kernel: npt.NDArray[np.floating[Any]],
    trusted_kernel: npt.NDArray[np.floating[Any]],
    trusted_y: Indices,
    y: Indices,
    labels: int,
    *,
    groups: Sequence[Hashable] | None = None,
    trusted_groups: Sequence[Hashable] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Doubles:
    """The posterior of the true labels [n, C] where some other labels are trusted.

    A fit to the trusted labels alone, made as sure as it proves on folds of the trusted examples; then the noise
    matrix by the given labels, and Bayes' rule.

    Args:
        kernel: similarity of the examples in question to the trusted ones [n, m].
        trusted_kernel: of the trusted ones among themselves [m, m].
        trusted_y: their label indices [m].
        y: the given labels in question [n].
        labels: how many labels there are.
        groups: of each example in question [n], see :func:`by_group`. They tell nothing where the fit denies trusted
            labels group by group as well.
        trusted_groups: of each trusted example [m]; none is cut, for its mates would vouch for it.
        folds: at most; fewer where a label has fewer trusted examples.
        seed: of the folds.

    Raises:
        TraceError: the trusted examples have one label only, or a label with a single example.
    """
    held_out = np.zeros((len(trusted_y), labels))
    for a, b in folds_of(np.asarray(trusted_y), folds, seed, trusted_groups, alone=False):
        held_out[b] = trusted_probabilities(
            trusted_kernel[np.ix_(b, a)], trusted_kernel[np.ix_(a, a)], trusted_y[a], labels
        )
    judged = trusted_probabilities(kernel, trusted_kernel, trusted_y, labels)
    q = tempered(judged, held_out, np.eye(labels)[trusted_y])
    posterior = given_the_label(q, y, noise_matrix(q, y))
    if groups is None:
        return posterior
    denied = 1.0 - held_out[np.arange(len(trusted_y)), trusted_y]
    if trusted_groups is not None and math.isfinite(by_group(denied, trusted_groups)[1]):
        return posterior
    wrong, _ = by_group(1.0 - posterior[np.arange(len(y)), y], groups)
    return shifted(posterior, y, wrong)


def _believed(
    predicted: Doubles, given: Indices, matrix: Doubles, groups: Sequence[Hashable] | None
) -> tuple[Doubles, Doubles, float]:
    """Posterior [n, C], probability that the given label is wrong [n], and the strength of what groups tell."""
    posterior = given_the_label(predicted, given, matrix)
    wrong = 1.0 - posterior[np.arange(len(given)), given]
    if groups is None:
        return posterior, wrong, math.inf
    wrong, strength = by_group(wrong, groups)
    return shifted(posterior, given, wrong), wrong, strength


def _told(f: Doubles, given: Indices) -> bool:
    """Whether those with a label are given more of it than those without, for any of the labels (Mann and Whitney)."""
    found = [
        mannwhitneyu(f[given == label, label], f[given != label, label], alternative="greater").pvalue
        for label in np.unique(given)
        if (given != label).any()
    ]
    return bool(found) and min(found) * len(found) < _CHANCE


def _judge(x: Doubles, shares: Doubles, parts: list[tuple[Indices, Indices]], fit: Posterior) -> Doubles:
    found = np.zeros_like(shares)
    for others, part in parts:
        found[part] = fit(x[others], shares[others], x[part])
    return found
