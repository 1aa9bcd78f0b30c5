"""From influence scores to the training examples to act on: G-BAIR's vote and its relatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import softmax

from tracemend.arrays import Floats
from tracemend.errors import TraceError, did_you_mean

Drivers = Literal["misclassified", "all", "residual"]
Rule = Literal["votes", "mean", "weighted"]


def driver_weights(logits: Floats, y: npt.NDArray[np.int64], how: Drivers) -> npt.NDArray[np.float64]:
    """How much each query counts [q].

    Args:
        logits: of the queries [q, C].
        y: their labels [q].
        how: ``misclassified``: one where the model decides otherwise, else zero (the paper's choice); ``all``: one;
            ``residual``: the probability the model denies the label, ``1 - p_y``.

    Raises:
        TraceError: no such choice.
    """
    if how == "misclassified":
        return np.asarray(logits.argmax(axis=1) != y, dtype=np.float64)
    if how == "all":
        return np.ones(len(y))
    if how == "residual":
        return np.asarray(1.0 - softmax(logits.astype(np.float64), axis=1)[np.arange(len(y)), y])
    raise TraceError(f"the drivers {how!r} are {did_you_mean(how, get_args(Drivers))}")


@dataclass(frozen=True, eq=False)
class Candidates:
    """Training examples, the most harmful first.

    Attributes:
        order: positions [n], the most harmful first.
        harm: what they are ranked by [n], by position: votes, or minus the mean or weighted sum of the scores.
        votes: weight of the queries that have the example among their strongest opponents [n].
        pushed: one row a vote: ``row`` (position of the training example), ``query`` (position), ``score``, ``rank``
            (1 is the query's strongest opponent).
    """

    order: npt.NDArray[np.int64]
    harm: npt.NDArray[np.float64]
    votes: npt.NDArray[np.float64]
    pushed: pd.DataFrame

    def evidence(self, row: int, top: int | None = None) -> pd.DataFrame:
        """The queries that voted for one training example, the most harmed first."""
        found = self.pushed[self.pushed["row"] == row].sort_values("score", kind="stable").reset_index(drop=True)
        return found if top is None else found.head(top)


def candidates(scores: Floats, *, weights: Floats | None = None, top: int = 20, rule: Rule = "votes") -> Candidates:
    """Rank training examples by the harm they do to the queries.

    A score is about the loss of the query's right label, so what pushes a query towards its error is an opponent: the
    lower the score, the more harmful.

    Args:
        scores: influence [n, q], positive for proponents.
        weights: of the queries [q], see :func:`driver_weights`; None counts all alike.
        top: opponents a query may vote for.
        rule: ``votes``: how many queries have it among their ``top`` opponents (only negative scores count), ties
            broken by the sum of those scores; ``mean``: minus the mean score; ``weighted``: minus the weighted sum,
            which is the influence on the weighted validation loss.

    Raises:
        TraceError: shapes that do not fit, or no query counts.

    Example:
        >>> candidates(np.array([[-1.0, -2.0], [3.0, -0.1], [0.5, 0.2]]), top=1).order.tolist()
        [0, 1, 2]
    """
    score = np.asarray(scores, dtype=np.float64)
    if score.ndim != 2 or not score.size:
        raise TraceError(
            f"scores have the shape {score.shape}; expected [training examples, queries], at least one each."
        )
    n, q = score.shape
    weight = np.ones(q) if weights is None else np.asarray(weights, dtype=np.float64)
    if weight.shape != (q,):
        raise TraceError(f"there are {len(weight)} weights for {q} queries; expected one each.")
    if rule not in get_args(Rule):
        raise TraceError(f"the rule {rule!r} is {did_you_mean(rule, get_args(Rule))}")
    driving = np.flatnonzero(weight > 0)
    if not len(driving):
        raise TraceError("no query drives the ranking (none is misclassified?); use drivers='all' or 'residual'.")
    pushed = _pushed(score, driving, top)
    votes, summed = np.zeros(n), np.zeros(n)
    np.add.at(votes, pushed["row"].to_numpy(), weight[pushed["query"].to_numpy()])
    np.add.at(summed, pushed["row"].to_numpy(), pushed["score"].to_numpy())
    if rule == "votes":
        harm = votes
        order = np.lexsort((np.arange(n), summed, -votes))
    else:
        harm = -score[:, driving].mean(axis=1) if rule == "mean" else -score @ weight
        order = np.argsort(-harm, kind="stable")
    return Candidates(order.astype(np.int64), harm, votes, pushed)


def _pushed(scores: npt.NDArray[np.float64], driving: npt.NDArray[np.intp], top: int) -> pd.DataFrame:
    order = np.argsort(scores[:, driving], axis=0, kind="stable")[:top]
    found = pd.DataFrame(
        {
            "row": order.T.ravel(),
            "query": np.repeat(driving, len(order)),
            "rank": np.tile(np.arange(1, len(order) + 1), len(driving)),
        }
    )
    found["score"] = scores[found["row"], found["query"]]
    return found[found["score"] < 0].reset_index(drop=True)
