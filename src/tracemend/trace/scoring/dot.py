"""TracIn over a store: plain inner products, or Adam's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from tracemend.errors import TraceError
from tracemend.progress import Progress
from tracemend.trace.gradients.layout import Layout
from tracemend.trace.gradients.projection import Projection
from tracemend.trace.scores import adam_metric
from tracemend.trace.scoring.score import Fitted, Score
from tracemend.trace.scoring.stored import Stored, written_out
from tracemend.tuning.checkpoints import BETA2


@dataclass(frozen=True, eq=False)
class _Adam(Fitted):
    metric: Tensor

    def weigh(self, query: Tensor, layout: Layout, *, progress: Progress) -> tuple[Tensor, Tensor | None]:
        return query * self.metric, self.metric


@dataclass(frozen=True, kw_only=True)
class TracInScore(Score):
    r"""TracInCP (Pruthi et al. 2020, arXiv 2002.08484) from stored gradients, see :class:`tracemend.trace.TracIn`.

    .. math:: score(i, j) = \sum_c w_c \langle g_i^c, D_c q_j^c \rangle

    with D the identity, or Adam's :math:`1 / (\sqrt{\hat v} + \epsilon)`. With both sides normalised (the default) it
    is the cosine in that metric.

    Attributes:
        optimizer: ``adam`` preconditions the query with the checkpoint's second moments, as the tuning did.

    Example:
        >>> found = score(store, queries, TracInScore(optimizer="adam"), top=20)
        >>> found.bottom(0, 3)[["uid", "label", "score"]]
    """

    name: ClassVar[str] = "tracin"
    normalise_train: bool = True
    normalise_query: bool = True
    optimizer: Literal["sgd", "adam"] = "sgd"

    def fit(self, store: Stored, checkpoint: int, *, progress: Progress) -> Fitted | None:
        """Read the second moments for Adam's metric.

        Raises:
            TraceError: the store kept none for a part of its rows, or its rows are projected.
        """
        if self.optimizer == "sgd":
            return None
        if Projection.of(store.manifest) is not None:
            raise TraceError(
                f"the gradients in {store.path} are projected, and Adam's metric is one number a parameter; score with "
                "optimizer sgd, or build a store without a projection."
            )
        _, layout = self._blocks(store)
        facts = store.manifest["checkpoints"][checkpoint]
        step, beta = int(facts["step"]), facts.get("beta2", BETA2)
        return _Adam(adam_metric(written_out(layout), store.second_moments(checkpoint), step=step, beta=beta))
