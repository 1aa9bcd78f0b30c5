"""What a scoring found, as tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracemend.arrays import Indices
from tracemend.errors import TraceError
from tracemend.trace.scoring.score import Score
from tracemend.trace.scoring.sinks import Extremes, PerTrain, votes
from tracemend.trace.scoring.stored import Stored


@dataclass(frozen=True, eq=False)
class Scored:
    """Who pushed which prediction, from a store.

    Attributes:
        examples: the stored examples in the order of the data: row, uid, label and whatever else the store says.
        queries: uids of the queries [q].
        config: of the score.
        proponents, opponents: the strongest rows of each query.
        each: what each row's scores come to over all queries.
        dense: file of the whole matrix [n, q], where it was asked for.
    """

    examples: pd.DataFrame
    queries: tuple[str, ...]
    config: dict[str, Any]
    proponents: Extremes
    opponents: Extremes
    each: PerTrain
    dense: Path | None

    @classmethod
    def of(
        cls,
        store: Stored,
        queries: tuple[str, ...],
        how: Score,
        proponents: Extremes,
        opponents: Extremes,
        each: PerTrain,
        dense: Path | None,
    ) -> Self:
        """Put the sinks of one scoring together."""
        examples = store.rows.sort_values("row").drop(columns="shard").reset_index(drop=True)
        return cls(examples, queries, how.config, proponents, opponents, each, dense)

    def top(self, query: int | str, k: int | None = None) -> pd.DataFrame:
        """The training examples that lower the query's loss most: rank, uid, label and what else the store says, score.

        Args:
            query: position or uid.
            k: at most as many as were kept (the default).

        Raises:
            TraceError: no such query, or more than were kept.
        """
        return self._strongest(self.proponents, query, k)

    def bottom(self, query: int | str, k: int | None = None) -> pd.DataFrame:
        """The training examples that raise the query's loss most, the strongest first; see :meth:`top`."""
        return self._strongest(self.opponents, query, k)

    def per_train(self) -> pd.DataFrame:
        """Each training example over all queries, in the order of the data.

        Returns:
            row, uid, label and what else the store says, then mean, max and min of its scores, and votes: the number of
            queries that have it among their kept opponents.
        """
        return self.examples.assign(
            mean=self.mean,
            max=self.each.highest,
            min=self.each.lowest,
            votes=votes(self.opponents, len(self.examples)),
        )

    def strongest(self) -> pd.DataFrame:
        """All kept rows of all queries: query, side (proponent or opponent), rank, then as :meth:`top`."""
        parts = []
        for position, uid in enumerate(self.queries):
            for side, of in (("proponent", self.proponents), ("opponent", self.opponents)):
                table = self._strongest(of, position, None)
                table.insert(0, "side", side)
                table.insert(0, "query", uid)
                parts.append(table)
        return pd.concat(parts, ignore_index=True)

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Mean score of each training example over all queries [n]."""
        found: npt.NDArray[np.float64] = self.each.total / self.each.queries
        return found

    def matrix(self) -> npt.NDArray[np.float32]:
        """The whole matrix [n, q], read from disk as it is used.

        Raises:
            TraceError: it was not asked for.
        """
        if self.dense is None:
            raise TraceError("the matrix of scores was not kept; score with dense=PATH.")
        found: npt.NDArray[np.float32] = np.load(self.dense, mmap_mode="r")
        return found

    def _strongest(self, of: Extremes, query: int | str, k: int | None) -> pd.DataFrame:
        position = self._position(query)
        kept = of.rows.shape[1]
        k = kept if k is None else k
        if not 1 <= k <= kept and kept < len(self.examples):
            raise TraceError(f"{k} examples a query were asked for and {kept} were kept; score with top={k}.")
        rows: Indices = of.rows[position, :k]
        found = self.examples.iloc[rows].reset_index(drop=True)
        found.insert(0, "rank", np.arange(1, len(rows) + 1))
        return found.assign(score=of.scores[position, :k])

    def _position(self, query: int | str) -> int:
        if isinstance(query, str):
            if query not in self.queries:
                raise TraceError(f"no query has the uid {query!r}; the first one is {self.queries[0]!r}.")
            return self.queries.index(query)
        if not -len(self.queries) <= query < len(self.queries):
            raise TraceError(f"query {query} does not exist; there are {len(self.queries)}, counted from 0.")
        return query
