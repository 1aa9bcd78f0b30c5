"""Attention maps drawn at random for each pattern: what a classifier of maps learns from."""

from __future__ import annotations

import numpy as np

from tracemend.arrays import Floats
from tracemend.errors import ProbeError, did_you_mean

KINDS = ("vertical", "diagonal", "vertical-diagonal", "block", "uniform", "heterogeneous")


def drawn(kind: str, length: int, border: int, rng: np.random.Generator, *, causal: bool) -> Floats:
    """One map of that pattern [length, length], rows of sum 1.

    A share of each row, 45 to 95 %, goes where the pattern says, the rest anywhere: uneven, as Dirichlet draws are.
    Heterogeneous rows have one to four peaks each at places of their own, beside up to 45 % for columns and 15 % for a
    diagonal; uniform ones are even but for noise.

    Args:
        kind: one of ``KINDS``.
        length: of the map.
        border: where the second sentence begins.
        rng: of all draws.
        causal: whether a row sees only what stands before it.

    Raises:
        ProbeError: no such kind.

    Example:
        >>> drawn("diagonal", 12, 6, np.random.default_rng(0), causal=False).sum(1).round(6).tolist() == [1.0] * 12
        True
    """
    if kind not in KINDS:
        raise ProbeError(f"the kind of map {kind!r} is {did_you_mean(kind, KINDS)}")
    share = rng.uniform(0.45, 0.95)
    even = np.ones((length, length))
    if kind == "uniform":
        return _rows(rng.gamma(rng.uniform(3, 100), size=even.shape), causal)
    if kind == "heterogeneous":
        # Most heads rest on a token such as [SEP] where they find nothing: a column alone makes no pattern.
        rest, near = rng.uniform(0, 0.45), rng.uniform(0, 0.15)
        peaks = _rows(_peaks(length, rng) + 0.02 * even, causal)
        mixed: Floats = (1 - rest - near) * peaks + rest * _columns(length, rng, causal)
        return mixed + near * _diagonal(length, rng, causal)
    if kind == "block":
        side = np.arange(length) < border
        pattern = (side[:, None] == side[None]) * rng.gamma(rng.uniform(1, 20), size=even.shape)
        # Beside nothing else, a share of 45 % would be less than what an even map gives to its own side.
        share = rng.uniform(0.85, 0.99)
    elif kind == "vertical-diagonal":
        mix = rng.uniform(0.35, 0.65)
        pattern = mix * _columns(length, rng, causal) + (1 - mix) * _diagonal(length, rng, causal)
        share = rng.uniform(0.65, 0.98)
    else:
        pattern = _columns(length, rng, causal) if kind == "vertical" else _diagonal(length, rng, causal)
    noise = rng.gamma(rng.uniform(0.3, 3), size=even.shape)
    return share * _rows(pattern, causal) + (1 - share) * _rows(noise, causal)


def _columns(length: int, rng: np.random.Generator, causal: bool) -> Floats:
    """One to three columns that all rows attend to, one of them seen by most rows."""
    number = int(rng.integers(1, 4))
    places = rng.choice(length, size=number, replace=False)
    if causal:
        places[0] = rng.integers(max(1, length // 4))
    found = np.zeros((length, length))
    found[:, places] = rng.dirichlet(np.full(number, 2.0)) * rng.gamma(10, size=(length, 1))
    return _rows(found, causal)


def _diagonal(length: int, rng: np.random.Generator, causal: bool) -> Floats:
    """The word itself, or one beside it; a little of it spills over to its neighbours."""
    offset = int(rng.choice([-1, 0] if causal else [-1, 0, 1]))
    spill = rng.uniform(0, 0.3)
    between = np.arange(length)[None] - np.arange(length)[:, None] - offset
    found = (between == 0) + spill * (np.abs(between) == 1) * rng.random((length, length))
    # The first or last row has nothing there: it attends to itself.
    empty = found.sum(1) < 0.5
    found[empty, np.arange(length)[empty]] = 1
    return _rows(found, causal)


def _peaks(length: int, rng: np.random.Generator) -> Floats:
    found = np.zeros((length, length))
    for row in found:
        number = int(rng.integers(1, 5))
        row[rng.choice(length, size=number, replace=False)] = rng.dirichlet(np.ones(number))
    return found + rng.gamma(0.3, 0.02, size=found.shape)


def _rows(weights: Floats, causal: bool) -> Floats:
    """Rows of sum 1; a row of a causal map that sees nothing of its pattern attends to itself."""
    seen = np.tril(weights) if causal else weights.copy()
    empty = seen.sum(1) < 1e-9
    seen[empty, np.arange(len(seen))[empty]] = 1
    found: Floats = seen / seen.sum(1, keepdims=True)
    return found
