"""How labels err: the noise matrix, and the posterior of the true label given the text and the label it was given."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from tracemend.arrays import Doubles, Indices
from tracemend.errors import TraceError
from tracemend.trace.confident import checked

# What is believed of the noise before any label is seen: nine of ten labels are right, as if ten examples of each true
# label had been looked at. Texts that say little leave it there; a likelihood that is nearly flat would run to an end.
_RIGHT, _SEEN = 0.9, 10.0
_STEPS = 500
_SETTLED = 1e-7
_SMALLEST = 1e-12
# No fit is surer than this of what it has not seen.
_LEAST_PROBABILITY = 1e-6


def noise_matrix(probabilities: npt.ArrayLike, y: npt.ArrayLike) -> Doubles:
    r"""How often each true label (row) was given as each label (column): the likeliest matrix [C, C].

    With ``q_i(t)`` the probability of true label t from the text alone, by a fit that has seen no given label of these
    examples, and a Dirichlet prior on each row of T, what is maximised is

        sum_i  log sum_t  q_i(t) T[t, y_i]   +   sum_t,g  s R[t, g] log T[t, g]

    with s = 10 examples and R the matrix of nine right labels in ten. It is concave in T, so that the EM steps below
    climb to its maximum: share each example among the true labels by ``q_i(t) T[t, y_i]``, then count.

    Args:
        probabilities: q [n, C].
        y: given label indices [n].

    Returns:
        T, rows sum to 1. A label that ``q`` never holds possible keeps the prior.

    Raises:
        TraceError: shapes differ or a value is out of range.

    Example:
        >>> noise_matrix([[1.0, 0.0]] * 400 + [[0.0, 1.0]] * 400, [0, 0, 0, 1] * 100 + [1] * 400).round(2).tolist()
        [[0.75, 0.25], [0.0, 1.0]]
    """
    q, given = checked(probabilities, y)
    labels = q.shape[1]
    prior = np.full((labels, labels), (1 - _RIGHT) / (labels - 1))
    np.fill_diagonal(prior, _RIGHT)
    matrix, one_hot = prior, np.eye(labels)[given]
    for _ in range(_STEPS):
        counts = _shared(q, given, matrix).T @ one_hot + _SEEN * prior
        found = counts / counts.sum(axis=1, keepdims=True)
        step = float(np.abs(found - matrix).max())
        matrix = found
        if step < _SETTLED:
            break
    return matrix


def tempered(probabilities: npt.ArrayLike, held_out: npt.ArrayLike, shares: npt.ArrayLike) -> Doubles:
    r"""Probabilities that are as sure as the same fit has a right to be, by how it did on examples it had not seen.

    ``q(t)`` becomes proportional to ``pi(t)^(1 - b) q(t)^b``, with pi the mean shares: temperature scaling (Guo et al.
    2017, arXiv 1706.04599) that ends not in even odds but in how often each label is true. The b from 0 to 3 is the one
    of the highest likelihood out of fold, a concave problem; texts that say nothing get b = 0.

    Args:
        probabilities: q [k, C].
        held_out: the fit's probabilities of other examples, none of them in its own fold [m, C].
        shares: of each true label in those [m, C]; one-hot where it is known.

    Raises:
        TraceError: shapes differ or a value is out of range.

    Example:
        >>> tempered([[0.9, 0.1]], [[0.9, 0.1], [0.9, 0.1]], [[1, 0], [0, 1]]).tolist()
        [[0.5, 0.5]]
    """
    q, _ = checked(probabilities, np.zeros(len(np.asarray(probabilities)), dtype=np.int64))
    seen, _ = checked(held_out, np.zeros(len(np.asarray(held_out)), dtype=np.int64))
    true = np.asarray(shares, dtype=np.float64)
    if true.shape != seen.shape:
        raise TraceError(f"shares have shape {true.shape}; expected that of the held-out probabilities, {seen.shape}.")
    common = np.log(np.maximum(true.mean(axis=0), _SMALLEST))

    def at(b: float, p: Doubles) -> Doubles:
        odds = (1 - b) * common + b * np.log(np.maximum(p, _LEAST_PROBABILITY))
        found: Doubles = odds - logsumexp(odds, axis=1, keepdims=True)
        return found

    best = minimize_scalar(lambda b: -float((true * at(b, seen)).sum()), bounds=(0.0, 3.0), method="bounded").x
    # The search ends near its bounds, never on them.
    return np.asarray(np.exp(at(0.0 if best < 1e-4 else float(best), q)))


def given_the_label(probabilities: npt.ArrayLike, y: npt.ArrayLike, matrix: npt.ArrayLike) -> Doubles:
    """The posterior of the true label [n, C], by Bayes' rule: ``p_i(t) = q_i(t) T[t, y_i] / sum over t``.

    The given label is evidence too: where labels are mostly right it takes a sure text to deny one.

    Args:
        probabilities: q, of each true label from the text alone [n, C].
        y: given label indices [n].
        matrix: T, how often each true label (row) was given as each label (column) [C, C].

    Raises:
        TraceError: shapes differ or a value is out of range.

    Example:
        >>> given_the_label([[0.5, 0.5]], [0], [[0.9, 0.1], [0.1, 0.9]]).tolist()
        [[0.9, 0.1]]
    """
    q, given = checked(probabilities, y)
    return _shared(q, given, np.asarray(matrix, dtype=np.float64))


def from_text(probabilities: npt.ArrayLike, matrix: npt.ArrayLike) -> Doubles:
    r"""Probabilities of the true label from those of the given one [n, C]: the noise taken out again.

    A fit on noisy labels tells what label a text is *given*: ``f_i(g) = sum_t q_i(t) T[t, g]``. The likeliest q on the
    simplex is found by EM (the deconvolution of Richardson 1972 and Lucy 1974), which cannot leave the simplex as a
    solution of the linear equations would.

    Args:
        probabilities: f, of the given labels [n, C].
        matrix: T [C, C].

    Example:
        >>> from_text([[0.7, 0.3]], [[0.7, 0.3], [0.3, 0.7]]).round(2).tolist()
        [[1.0, 0.0]]
    """
    f, _ = checked(probabilities, np.zeros(len(np.asarray(probabilities)), dtype=np.int64))
    noise = np.asarray(matrix, dtype=np.float64)
    q = f.copy()
    for _ in range(_STEPS):
        found = q * ((f / np.maximum(q @ noise, _SMALLEST)) @ noise.T)
        found /= np.maximum(found.sum(axis=1, keepdims=True), _SMALLEST)
        step = float(np.abs(found - q).max())
        q = found
        if step < 1e-6:
            break
    return q


def _shared(q: Doubles, given: Indices, matrix: Doubles) -> Doubles:
    joint = q * matrix[:, given].T
    total = joint.sum(axis=1, keepdims=True)
    # An example that no true label explains says nothing: the given label stands.
    alone = np.eye(q.shape[1])[given]
    shared: Doubles = np.where(total > 0, joint / np.where(total > 0, total, 1.0), alone)
    return shared
