"""One probability from several, as sure as it proves on labels that are known to be right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp

from tracemend.arrays import Doubles, Indices
from tracemend.errors import TraceError

# No model is surer than this of what it has not seen.
_LEAST = 1e-4
# Strength of the pull of weights towards an equal share.
_PULL = 2.0


@dataclass(frozen=True, eq=False)
class Judged:
    """Probabilities of the labels by models that did not see the example.

    Attributes:
        train: of the examples in question [n, C].
        trusted: of the trusted ones [m, C].
    """

    train: Doubles
    trusted: Doubles


def pooled(sources: list[Judged], trusted_y: Indices) -> tuple[Judged, Doubles]:
    r"""One probability from several: a logarithmic opinion pool with weights learnt on the trusted examples.

    .. math:: p(c) \propto \pi(c) \prod_s \left( \frac{p_s(c)}{\pi(c)} \right)^{w_s}, \qquad w_s \ge 0

    (Genest and Zidek 1986) around the shares :math:`\pi` of the labels among the trusted examples, one of each added:
    what is toned down ends in how often a label is true, not in even odds, by which rare labels would be denied and
    the noise be overestimated where texts say little. The weights are those of the lowest loss on the trusted examples,
    pulled towards an equal share, so that what says nothing weighs nothing and what is too sure is toned down.

    Args:
        sources: of the same examples, none of them judged by what it was taught.
        trusted_y: label indices of the trusted examples [m].

    Returns:
        The pooled probabilities, and the weights [sources].

    Raises:
        TraceError: there is no source.

    Example:
        >>> right, chance = np.array([[0.9, 0.1], [0.2, 0.8]]), np.full((2, 2), 0.5)
        >>> found, weights = pooled([Judged(right, right), Judged(chance, chance)], np.array([0, 1]))
        >>> weights.round(1)
        array([0.7, 0.5])
    """
    if not sources:
        raise TraceError("there is nothing to pool; give the probabilities of one model at least.")
    logs: list[Doubles] = [
        np.log(np.clip([s.train for s in sources], _LEAST, None)),
        np.log(np.clip([s.trusted for s in sources], _LEAST, None)),
    ]
    share = 1.0 / len(sources)
    rows, labels = np.arange(len(trusted_y)), logs[1].shape[2]
    base = np.log((np.bincount(trusted_y, minlength=labels) + 1.0) / (len(trusted_y) + labels))

    def pool(weights: npt.NDArray[Any], log: Doubles) -> Doubles:
        mixed: Doubles = base + np.tensordot(weights, log - base, axes=1)
        return mixed

    def loss(weights: npt.NDArray[Any]) -> float:
        mixed = pool(weights, logs[1])
        own = mixed[rows, trusted_y] - logsumexp(mixed, axis=1)
        return float(-own.sum() + _PULL * ((weights - share) ** 2).sum())

    weights = minimize(loss, np.full(len(sources), share), bounds=[(0.0, None)] * len(sources)).x
    train, trusted = (np.exp(log_softmax(pool(weights, log), axis=1)) for log in logs)
    return Judged(train, trusted), weights
