"""What a score is made of: which checkpoints, which parameters, and what it does to a query before the product."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tracemend.errors import TraceError
from tracemend.progress import Progress
from tracemend.trace.gradients import Gradients
from tracemend.trace.gradients.layout import Layout, Part, expand, lay_out
from tracemend.trace.gradients.projection import Projection
from tracemend.trace.scores import norms
from tracemend.trace.scoring.product import Segment, factored, weighed
from tracemend.trace.scoring.stored import Stored, kept

# Below this norm a gradient has no direction: its cosine with anything counts as zero.
VANISHED = 1e-20


@dataclass(frozen=True, eq=False)
class Operand:
    """Queries at one checkpoint, ready to be multiplied with stored rows.

    Attributes:
        segments: by columns of the stored rows.
        whole: the segments cover every column, without a metric: norms are those the store holds.
    """

    segments: list[Segment]
    whole: bool


class Fitted(ABC):
    """A score at one checkpoint, after what passes over the store it needs."""

    @abstractmethod
    def weigh(self, query: Tensor, layout: Layout, *, progress: Progress) -> tuple[Tensor, Tensor | None]:
        """What the queries become.

        Args:
            query: gradients [q, D], float32, outer blocks written out.
            layout: of the columns.

        Returns:
            The queries [q, D] to multiply raw training gradients with, and the diagonal [D] of the metric that norms
            are taken in, or None where that is the plain one.
        """


@dataclass(frozen=True, kw_only=True)
class Score(ABC):
    r"""An influence score over stored gradients: :math:`\sum_c w_c \langle g_i^c, M_c q_j^c \rangle`.

    w is the sum of the learning rates that a checkpoint stands for. Positive: a proponent, training on i lowers the
    loss of j. Training gradients stay raw: whatever a score weighs, it weighs the query, so one store serves all.

    Attributes:
        checkpoints: ``all`` adds the store's checkpoints up; ``last`` takes the last one alone.
        normalise_train, normalise_query: divide by that side's norm.
        parts: groups of parameters to look at (``prompt``, ``head``, ``layer.3``, ``layer`` for all layers); none
            means all.
    """

    name: ClassVar[str]
    checkpoints: Literal["all", "last"] = "all"
    normalise_train: bool = False
    normalise_query: bool = False
    parts: tuple[str, ...] = ()

    @abstractmethod
    def fit(self, store: Stored, checkpoint: int, *, progress: Progress) -> Fitted | None:
        """Whatever depends on the store alone; None where queries stay as they are."""

    @property
    def config(self) -> dict[str, Any]:
        """Name and fields as JSON values."""
        fields: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {"score": self.name, **fields}

    def numbers(self, store: Stored) -> list[int]:
        """The store's checkpoints that are added up."""
        every = list(range(len(store.manifest["checkpoints"])))
        return every if self.checkpoints == "all" else every[-1:]

    def operand(
        self, store: Stored, checkpoint: int, fitted: Fitted | None, query: Gradients, *, progress: Progress
    ) -> Operand:
        """Queries with this score's weights, metric and norms in them.

        Raises:
            TraceError: the queries were traced in another way than the store.
        """
        projection = Projection.of(store.manifest)
        # Norms are those of the whole gradients, as the store's are.
        own = query.only(self.parts) if self.parts else query
        length = torch.from_numpy(own.norms)
        if projection is not None:
            query = projection.gradients(query)
        if query.layout != store.layout:
            raise TraceError(
                f"the queries were traced in another way than the store {store.path} "
                f"({len(query.layout)} and {len(store.layout)} blocks of parameters); trace them at the store's "
                "checkpoints, with the same method and compact=True."
            )
        if projection is not None:
            own = projection.gradients(own)
        blocks = kept(store.layout, self.parts)
        weight = float(store.manifest["checkpoints"][checkpoint]["lr_sum"])
        if fitted is None:
            return Operand(factored(blocks, own.grads, self._scale(weight, length)), whole=not self.parts)
        dense, layout = expand(own.grads, own.layout)
        changed, metric = fitted.weigh(dense, layout, progress=progress)
        length = norms(changed) if metric is None else norms(dense, metric)
        segments = weighed(blocks, changed, layout, self._scale(weight, length), metric)
        return Operand(segments, whole=not self.parts and metric is None)

    def _scale(self, weight: float, length: Tensor) -> Tensor:
        return weight / length.clamp(min=VANISHED) if self.normalise_query else torch.full_like(length, weight)

    def _blocks(self, store: Stored) -> tuple[Layout, Layout]:
        """The blocks looked at as they stand in the store, and as they are laid out alone."""
        blocks = kept(store.layout, self.parts)
        if not blocks:
            known = ", ".join(dict.fromkeys(b.group for b in store.layout))
            raise TraceError(f"the store has no parameters in {', '.join(self.parts)}; its groups are: {known}")
        return blocks, lay_out(Part(b.name, b.shape, b.group, b.kind) for b in blocks)
