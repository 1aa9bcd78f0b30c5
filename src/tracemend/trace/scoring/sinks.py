"""What scores are poured into as they become final: several at once, in one pass over the store."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tracemend.arrays import Indices

Floats = npt.NDArray[np.float32]


class Sink(Protocol):
    """Takes blocks of final scores: every checkpoint is already in them."""

    def take(self, rows: Indices, queries: slice, scores: Tensor) -> None:
        """Scores [r, q] of these rows (positions in the data) for these queries."""


class Extremes:
    """The strongest rows of each query: exact, whatever the blocks, ties to the row that stands earlier.

    Args:
        queries: how many.
        k: rows a query, at most.
        lowest: the opponents, from the lowest score up, instead of the proponents.

    Attributes:
        rows: [q, k] positions in the data, -1 where there are fewer than k rows.
        scores: [q, k], strongest first.
    """

    def __init__(self, queries: int, k: int, *, lowest: bool = False) -> None:
        self.sign = -1.0 if lowest else 1.0
        self.rows: Indices = np.full((queries, k), -1, dtype=np.int64)
        # As if all were proponents, so that one comparison serves both; `scores` turns the sign back.
        self._strength: Floats = np.full((queries, k), -np.inf, dtype=np.float32)

    @property
    def scores(self) -> Floats:
        found: Floats = np.where(self.rows < 0, np.nan, self.sign * self._strength).astype(np.float32)
        return found

    def take(self, rows: Indices, queries: slice, scores: Tensor) -> None:
        """Merge a block; only what reaches a query's k-th strength is looked at again."""
        k = self.rows.shape[1]
        strength = scores if self.sign > 0 else -scores
        bar = torch.from_numpy(self._strength[queries, -1])
        if len(rows) > k and not bool(torch.isfinite(bar).all()):
            # Nothing to beat yet: the block's own k-th strength spares sorting it whole.
            bar = torch.maximum(bar, strength.topk(k, dim=0).values[-1])
        at, query = (found.numpy() for found in torch.nonzero(strength >= bar, as_tuple=True))
        if not len(at):
            return
        before = self.rows[queries]
        known, column = np.nonzero(before >= 0)
        owner = np.concatenate([known, query])
        row = np.concatenate([before[known, column], rows[at]])
        value = np.concatenate([self._strength[queries][known, column], strength.numpy()[at, query]])
        order = np.lexsort((row, -value, owner))
        owner, row, value = owner[order], row[order], value[order]
        rank = np.arange(len(owner)) - np.searchsorted(owner, owner)
        best = rank < k
        place = (owner[best] + queries.start, rank[best])
        self.rows[place], self._strength[place] = row[best], value[best]


class PerTrain:
    """For each training row what its scores over all queries come to.

    Attributes:
        total: sum of its scores [n], float64.
        highest, lowest: among its scores [n].
        queries: how many queries each row has been scored for [n].
    """

    def __init__(self, n: int) -> None:
        self.total = np.zeros(n, dtype=np.float64)
        self.highest: Floats = np.full(n, -np.inf, dtype=np.float32)
        self.lowest: Floats = np.full(n, np.inf, dtype=np.float32)
        self.queries: Indices = np.zeros(n, dtype=np.int64)

    def take(self, rows: Indices, queries: slice, scores: Tensor) -> None:
        """Add a block up."""
        self.total[rows] += scores.sum(dim=1, dtype=torch.float64).numpy()
        self.highest[rows] = np.maximum(self.highest[rows], scores.amax(dim=1).numpy())
        self.lowest[rows] = np.minimum(self.lowest[rows], scores.amin(dim=1).numpy())
        self.queries[rows] += scores.shape[1]


def votes(opponents: Extremes, n: int) -> Indices:
    """In how many queries' list of strongest opponents each row stands [n]."""
    named = opponents.rows[opponents.rows >= 0]
    return np.bincount(named, minlength=n).astype(np.int64)
