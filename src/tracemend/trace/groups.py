"""What a group (an author, a conversation) tells of its members: who errs again and again is believed less."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, logsumexp

from tracemend.arrays import Doubles
from tracemend.data import Labelled
from tracemend.data.schema import members
from tracemend.errors import TraceError
from tracemend.trace.confident import checked

# Groups differ by more than chance where the likelihood says so at 5 % (half of 2.71, one side of a boundary).
_SHOWN = 1.353
# Strengths of the Beta prior of a group's share, from "each group for itself" to "all groups alike".
_STRENGTHS = np.geomspace(0.5, 500.0, 31)
# The shares of wrong labels that a group may have, as cells of equal width.
_EDGES = np.linspace(0.0, 1.0, 201)
_SHARES = (_EDGES[1:] + _EDGES[:-1]) / 2
_SURE = 1e-3


def by_group(
    wrong: npt.ArrayLike, groups: Sequence[Hashable], *, strength: float | None = None
) -> tuple[Doubles, float]:
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
    held: Doubles = np.clip(p, _SURE, 1 - _SURE)
    mean = float(held.mean())
    says: Doubles = held / (1 - held) * (1 - mean) / mean
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


def _log_beta(strength: float, mean: float) -> Doubles:
    """Log mass of Beta(s e, s (1 - e)) on each of the shares."""
    mass = np.diff(betainc(strength * mean, strength * (1.0 - mean), _EDGES))
    found: Doubles = np.log(np.maximum(mass, 1e-300))
    return found


def shifted(posterior: npt.ArrayLike, y: npt.ArrayLike, wrong: npt.ArrayLike) -> Doubles:
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
    found: Doubles = np.where(total > 0, others / np.where(total > 0, total, 1.0), even) * target[:, None]
    found[rows, given] = 1.0 - target
    return found


def _likeliest_strength(evidence: Doubles, says: Doubles, mean: float) -> float:
    # That all groups share one rate is the limit of infinite strength.
    alike = float(np.log1p(mean * (says - 1.0)).sum())
    likelihood = np.array([logsumexp(_log_beta(s, mean) + evidence, axis=1).sum() for s in _STRENGTHS])
    best = int(likelihood.argmax())
    return float(_STRENGTHS[best]) if likelihood[best] > alike + _SHOWN else math.inf


def groups_of(data: Labelled) -> Sequence[Hashable] | None:
    """The group of each example [n]; None where no example has one."""
    found = list(data.frame["group"])
    return found if any(group is not None for group in found) else None
