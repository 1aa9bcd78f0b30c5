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
from scipy.special import betainc, logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from tracemend.errors import TraceError
from tracemend.mend.bounds import members
from tracemend.mend.posterior import calibrated, from_text, given_the_label, noise_matrix
from tracemend.trace import trusted_probabilities
from tracemend.trace.confident import checked, confident_joint

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
# (features [m, D], shares of each label [m, C], features to judge [k, D]) -> probabilities [k, C].
Posterior = Callable[[Floats, Floats, Floats], Floats]

# Shares of a label under this are left out of a fit.
_LEAST_SHARE = 1e-3
# Groups differ by more than chance where the likelihood says so at 5 % (half of 2.71, one side of a boundary).
_SHOWN = 1.353
# Strengths of the Beta prior of a group's share, from "each group for itself" to "all groups alike".
_STRENGTHS = np.geomspace(0.5, 500.0, 31)
# The shares of wrong labels that a group may have, as cells of equal width.
_EDGES = np.linspace(0.0, 1.0, 201)
_SHARES = (_EDGES[1:] + _EDGES[:-1]) / 2
_SURE = 1e-3


@dataclass(frozen=True, eq=False, kw_only=True)
class Crossed:
    """What the others' labels say of each label.

    Attributes:
        posterior: of the true label, given text, label and author [n, C].
        wrong: probability that the given label is wrong [n].
        given: probability of each *given* label from the text, by the folds the example is not in [n, C].
        matrix: how often each true label (row) was given as each label (column) [C, C].
        strength: of the prior on a group's share of denied labels, in examples; infinite where groups tell nothing.
    """

    posterior: Floats
    wrong: Floats
    given: Floats
    matrix: Floats
    strength: float


def soft_logistic(features: Floats, shares: Floats, judged: Floats) -> Floats:
    """Logistic regression on shared labels: every example counts for each label by its share (the default fit).

    Args:
        features: [m, D].
        shares: of each label [m, C]; rows sum to 1.
        judged: features of the examples in question [k, D].

    Returns:
        Probabilities [k, C]; zero for a label without any share.
    """
    row, label = np.nonzero(shares > _LEAST_SHARE)
    found = np.zeros((len(judged), shares.shape[1]))
    if len(np.unique(label)) == 1:
        found[:, label[0]] = 1.0
        return found
    fit = LogisticRegression(C=10.0, max_iter=2000).fit(features[row], label, sample_weight=shares[row, label])
    found[:, fit.classes_] = fit.predict_proba(judged)
    return found


def cross_posterior(
    features: npt.NDArray[np.floating[Any]],
    y: Ints,
    labels: int,
    *,
    groups: Sequence[Hashable] | None = None,
    folds: int = 5,
    steps: int = 3,
    fit: Posterior = soft_logistic,
    seed: int = 0,
) -> Crossed:
    """The posterior of every true label where any label may be wrong, each example judged without its own.

    First the folds say what label a text is given, ``f``; the confident joint of f and the given labels tells the
    noise T, and :func:`tracemend.mend.posterior.from_text` takes it out of f. Then, ``steps`` times: share each example
    among the true labels by the posterior, and fit again on the other folds' shares. T stays: with no label to trust, a
    matrix of less noise and a vaguer fit explain the same labels as well, and an estimate that moves along with the fit
    drifts there. With ``groups``, folds keep a group together, and :func:`by_group` shifts the prior of its members.

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
    parts = _folds(given, labels, groups, folds, seed)
    one_hot = np.eye(labels)[given]
    f = _judge(x, one_hot, parts, fit)
    joint = confident_joint(given, f)
    shares = joint.sum(axis=0)[:, None]
    # A label that nothing confidently is: taken as given rightly, which asserts nothing of anybody else.
    matrix = np.where(shares > 0, joint.T / np.where(shares > 0, shares, 1.0), np.eye(labels))
    posterior = given_the_label(from_text(f, matrix), given, matrix)
    for _ in range(steps):
        posterior = given_the_label(_judge(x, posterior, parts, fit), given, matrix)
    strength = math.inf
    wrong = 1.0 - posterior[np.arange(len(given)), given]
    if groups is not None:
        wrong, strength = by_group(wrong, groups)
        posterior = shifted(posterior, given, wrong)
    return Crossed(posterior=posterior, wrong=wrong, given=f, matrix=matrix, strength=strength)


def trusted_posterior(
    kernel: npt.NDArray[np.floating[Any]],
    trusted_kernel: npt.NDArray[np.floating[Any]],
    trusted_y: Ints,
    y: Ints,
    labels: int,
    *,
    groups: Sequence[Hashable] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Floats:
    """The posterior of the true labels [n, C] where some other labels are trusted.

    A fit to the trusted labels alone, made as sure as it proves on folds of the trusted examples; then the noise
    matrix by the given labels, and Bayes' rule.

    Args:
        kernel: similarity of the examples in question to the trusted ones [n, m].
        trusted_kernel: of the trusted ones among themselves [m, m].
        trusted_y: their label indices [m].
        y: the given labels in question [n].
        labels: how many labels there are.
        groups: of each example in question [n], see :func:`by_group`.
        folds: at most; fewer where a label has fewer trusted examples.
        seed: of the folds.

    Raises:
        TraceError: the trusted examples have one label only, or a label with a single example.
    """
    held_out = np.zeros((len(trusted_y), labels))
    for a, b in _folds(np.asarray(trusted_y), labels, None, folds, seed):
        held_out[b] = trusted_probabilities(
            trusted_kernel[np.ix_(b, a)], trusted_kernel[np.ix_(a, a)], trusted_y[a], labels
        )
    judged = trusted_probabilities(kernel, trusted_kernel, trusted_y, labels)
    q = calibrated(judged, held_out, np.eye(labels)[trusted_y])
    posterior = given_the_label(q, y, noise_matrix(q, y))
    if groups is None:
        return posterior
    wrong, _ = by_group(1.0 - posterior[np.arange(len(y)), y], groups)
    return shifted(posterior, y, wrong)


def by_group(
    wrong: npt.ArrayLike, groups: Sequence[Hashable], *, strength: float | None = None
) -> tuple[Floats, float]:
    r"""Shift each example's prior by how much of the rest of its group is denied.

    Example i alone is wrong with odds ``r_i e / (1 - e)``: e the mean of all, r_i what its text and label say. The
    share x of a group's labels that are wrong has the prior Beta(s e, s (1 - e)), and its examples tell of it:

        L(x)     = prod_j  (x r_j + 1 - x)
        wrong'_i = E[ x r_i / (x r_i + 1 - x) ]      over x with density Beta(x) L(x)

    For a group of one this is what the example alone says. The strength s, in examples, is the one under which the
    groups are likeliest; where they differ no more than chance makes them (likelihood ratio, 5 %) it is infinite, all
    share e, and nothing is shifted.

    Args:
        wrong: P(wrong) of each example by itself [n].
        groups: of each example [n]; None or NaN stands alone.
        strength: s; None estimates it.

    Returns:
        P(wrong) [n], and s.

    Raises:
        TraceError: lengths differ, or the strength is not above 0.

    Example:
        >>> by_group([0.9, 0.9, 0.4, 0.1, 0.1, 0.4], list("aaabbb"), strength=1.0)[0].round(2).tolist()
        [0.95, 0.95, 0.75, 0.04, 0.04, 0.15]
    """
    p = np.asarray(wrong, dtype=np.float64)
    if p.ndim != 1 or len(groups) != len(p):
        raise TraceError(f"P(wrong) has shape {p.shape} and there are {len(groups)} groups; expected one an example.")
    if strength is not None and not strength > 0:
        raise TraceError(f"strength is {strength}; it is a number of examples above 0.")
    unit = members(groups)
    several = np.bincount(unit)[unit] > 1
    if not several.any():
        return p.copy(), math.inf
    # No example is so sure that it speaks for a whole group.
    held: Floats = np.clip(p, _SURE, 1 - _SURE)
    mean = float(held.mean())
    says: Floats = held / (1 - held) * (1 - mean) / mean
    told = np.log1p(_SHARES * (says[:, None] - 1.0))  # log(x r + 1 - x), [n, shares]
    evidence = np.zeros((unit.max() + 1, len(_SHARES)))
    np.add.at(evidence, unit, told)
    s = _likeliest_strength(evidence[np.unique(unit[several])], says[several], mean) if strength is None else strength
    if not math.isfinite(s):
        return p.copy(), s
    weight = _log_beta(s, mean) + evidence[unit]
    weight = np.exp(weight - logsumexp(weight, axis=1, keepdims=True))
    found = (weight * _SHARES * says[:, None] / np.exp(told)).sum(axis=1)
    return np.where(several, found, p), s


def _log_beta(strength: float, mean: float) -> Floats:
    """Log mass of Beta(s e, s (1 - e)) on each of the shares."""
    mass = np.diff(betainc(strength * mean, strength * (1.0 - mean), _EDGES))
    found: Floats = np.log(np.maximum(mass, 1e-300))
    return found


def shifted(posterior: npt.ArrayLike, y: npt.ArrayLike, wrong: npt.ArrayLike) -> Floats:
    """The posterior with another probability that the given label is wrong [n, C]; the others keep their proportions.

    Where the posterior gave nothing to any other label, they share alike.
    """
    p, given = checked(posterior, y)
    rows = np.arange(len(given))
    target = np.asarray(wrong, dtype=np.float64)
    others = p.copy()
    others[rows, given] = 0.0
    total = others.sum(axis=1, keepdims=True)
    even = np.full_like(others, 1.0 / (p.shape[1] - 1))
    even[rows, given] = 0.0
    found: Floats = np.where(total > 0, others / np.where(total > 0, total, 1.0), even) * target[:, None]
    found[rows, given] = 1.0 - target
    return found


def _likeliest_strength(evidence: Floats, says: Floats, mean: float) -> float:
    # That all groups share one rate is the limit of infinite strength.
    alike = float(np.log1p(mean * (says - 1.0)).sum())
    likelihood = np.array([logsumexp(_log_beta(s, mean) + evidence, axis=1).sum() for s in _STRENGTHS])
    best = int(likelihood.argmax())
    return float(_STRENGTHS[best]) if likelihood[best] > alike + _SHOWN else math.inf


def _folds(y: Ints, labels: int, groups: Sequence[Hashable] | None, folds: int, seed: int) -> list[tuple[Ints, Ints]]:
    counts = np.bincount(y, minlength=labels)
    least = int(counts[counts > 0].min())
    if least < 2:
        raise TraceError("a label with one example cannot be judged out of fold; give at least two of each label.")
    if groups is not None:
        unit = members(groups)
        most = min(folds, least, len(np.unique(unit)))
        if most >= 2:
            cut = StratifiedGroupKFold(most, shuffle=True, random_state=seed)
            return [(a, b) for a, b in cut.split(y, y, unit) if len(b)]
    # One group is no reason to judge nobody: then examples are judged by others of the same group.
    return list(StratifiedKFold(min(folds, least), shuffle=True, random_state=seed).split(y, y))


def _judge(x: Floats, shares: Floats, parts: list[tuple[Ints, Ints]], fit: Posterior) -> Floats:
    found = np.zeros_like(shares)
    for others, part in parts:
        found[part] = fit(x[others], shares[others], x[part])
    return found
