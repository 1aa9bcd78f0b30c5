"""Influence of every training example on every query, and the strongest as tables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracemend.data import Examples
from tracemend.errors import TraceError


@dataclass(frozen=True, eq=False)
class Influence:
    """Who pushed which prediction.

    Attributes:
        scores: [n, q]; positive where training on the example lowers the query's loss (a proponent), negative where it
            raises it (an opponent). Units depend on the configuration: nats for plain products weighed by learning
            rates, none for cosines.
        self_influence: squared gradient norms of the training examples, summed like the scores [n].
        losses, logits: of the training examples at the last checkpoint, [n] and [n, C].
        query_losses, query_logits: of the queries, [q] and [q, C].
        query_scores: of the queries among themselves, as if they were trained on [q, q].
        train, queries: the examples.
    """

    scores: npt.NDArray[np.float32]
    self_influence: npt.NDArray[np.float32]
    losses: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    query_losses: npt.NDArray[np.float32]
    query_logits: npt.NDArray[np.float32]
    query_scores: npt.NDArray[np.float32]
    train: Examples
    queries: Examples

    def proponents(self, query: int | str, top: int = 10) -> pd.DataFrame:
        """The training examples that lower the query's loss most: rank, uid, text, reply, label, score.

        Args:
            query: position or uid.

        Raises:
            TraceError: no such query.
        """
        return self._strongest(query, top, sign=-1)

    def opponents(self, query: int | str, top: int = 10) -> pd.DataFrame:
        """The training examples that raise the query's loss most; see :meth:`proponents`."""
        return self._strongest(query, top, sign=1)

    def _strongest(self, query: int | str, top: int, sign: int) -> pd.DataFrame:
        column = self.scores[:, self._position(query)]
        order = np.argsort(sign * column, kind="stable")[:top]
        found = self.train.frame.iloc[order][["uid", "text", "reply", "label"]].reset_index(drop=True)
        found.insert(0, "rank", np.arange(1, len(order) + 1))
        return found.assign(score=column[order])

    def _position(self, query: int | str) -> int:
        if isinstance(query, str):
            if query not in self.queries.uid:
                raise TraceError(f"no query has the uid {query!r}; the first one is {self.queries.uid[0]!r}.")
            return self.queries.uid.index(query)
        if not -len(self.queries) <= query < len(self.queries):
            raise TraceError(f"query {query} does not exist; there are {len(self.queries)}, counted from 0.")
        return query
