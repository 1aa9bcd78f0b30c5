"""TracIn: influence as inner products of gradients, summed over checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tracemend.data import Examples
from tracemend.errors import TraceError
from tracemend.fields import check_fields
from tracemend.progress import Progress
from tracemend.trace.gradients import Gradients, Layout, gradient_batches, per_example_gradients
from tracemend.trace.gradients.collect import Precision, Way
from tracemend.trace.gradients.layout import groups
from tracemend.trace.influence import Influence
from tracemend.trace.scores import Aggregate, adam_metric, aggregate, inner, norms
from tracemend.tuning import Adapted, Checkpoint


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sums:
    """What the checkpoints add up to; losses, logits and query gradients are of the last one."""

    products: Tensor
    among: Tensor
    own: Tensor
    losses: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    query: Gradients


def _added(sums: _Sums, one: _Sums) -> _Sums:
    return replace(one, products=sums.products + one.products, among=sums.among + one.among, own=sums.own + one.own)


@dataclass(frozen=True, kw_only=True)
class TracIn:
    r"""TracInCP (Pruthi et al. 2020, arXiv 2002.08484) in the space of the adapter and the head.

    .. math:: score(i, j) = \sum_c w_c \langle g_i^c, q_j^c \rangle

    over checkpoints c, with w the sum of the learning rates a checkpoint stands for. Positive: a proponent, training
    on i lowers the loss of j.

    Attributes:
        normalise_train, normalise_query: divide by that side's norm. Both: cosine, which no large gradient dominates
            but which forgets how wrong the model is on i. Neither: the plain product.
        optimizer: ``adam`` preconditions the query with the checkpoint's second moments, as the tuning did.
        parts: groups of parameters to look at (``prompt``, ``head``, ``layer.3``, ``layer`` for all layers); none
            means all.
        aggregate: ``whole`` takes the product over all parameters; ``mean``, ``rank`` and ``vote`` take one a group and
            join them, see :func:`tracemend.trace.scores.aggregate`.
        top: examples a group votes for, of either sign.
        project: numbers kept of a matrix's long side, see :class:`tracemend.trace.gradients.Projection`: products
            and norms then hold on average, in a fraction of the memory. None keeps the gradients whole.
        method, batch_size, precision: of the gradients.

    Example:
        >>> found = TracIn().influence(tuned.classifier, train, errors, checkpoints=tuned.until_best())
        >>> found.opponents(0, top=3)[["text", "label", "score"]]
    """

    normalise_train: bool = True
    normalise_query: bool = True
    optimizer: Literal["sgd", "adam"] = "sgd"
    parts: tuple[str, ...] = ()
    aggregate: Aggregate = "whole"
    top: int = 20
    project: int | None = None
    method: Way = "auto"
    batch_size: int = 16
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        check_fields(self, TraceError, at_least={"top": 1, "project": 1, "batch_size": 1})

    def influence(
        self,
        classifier: Adapted,
        train: Examples,
        queries: Examples,
        *,
        checkpoints: Sequence[Checkpoint] = (),
        progress: Progress = Progress(),
    ) -> Influence:
        """Score every training example for every query.

        Args:
            classifier: its parameters are the same afterwards.
            queries: with the labels they should have: the score is about the loss of that label.
            checkpoints: none takes the classifier as it is, with weight one.

        Raises:
            TraceError: the gradients cannot be had, or ``optimizer="adam"`` without checkpoints or with ``project``.
        """
        # One checkpoint is loaded at a time. The matrix of scores is held in any case, so the training examples'
        # gradients need not be: they are used batch by batch.
        states: Sequence[Checkpoint | None] = list(checkpoints) or [None]
        sums = None
        for number, checkpoint in enumerate(states):
            with at(classifier, checkpoint):
                one = self._at_checkpoint(
                    classifier,
                    train,
                    queries,
                    checkpoint,
                    progress,
                    task=f"trace checkpoint {number + 1}/{len(states)}",
                )
            sums = one if sums is None else _added(sums, one)
        if sums is None:
            raise TraceError("there is no checkpoint to trace.")
        return Influence(
            scores=self._aggregated(sums.products),
            query_scores=self._aggregated(sums.among),
            self_influence=sums.own.numpy(),
            losses=sums.losses,
            logits=sums.logits,
            query_losses=sums.query.losses,
            query_logits=sums.query.logits,
            train=train,
            queries=queries,
        )

    def _aggregated(self, products: Tensor) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = products.numpy()
        return found[0] if self.aggregate == "whole" else np.asarray(aggregate(found, self.aggregate, top=self.top))

    def _at_checkpoint(
        self,
        classifier: Adapted,
        train: Examples,
        queries: Examples,
        checkpoint: Checkpoint | None,
        progress: Progress,
        task: str,
    ) -> _Sums:
        weight = 1.0 if checkpoint is None else checkpoint.lr_sum
        query = self._gradients(classifier, queries, progress)
        metric = self._metric(query.layout, checkpoint)
        columns = self._columns(query.layout)
        sums = _Sums(
            products=torch.zeros(len(columns), len(train), len(queries)),
            among=weight * self._products(query.grads, query.grads, columns, metric),
            own=torch.zeros(len(train)),
            losses=np.zeros(len(train), dtype=np.float32),
            logits=np.zeros((len(train), len(train.labels)), dtype=np.float32),
            query=query,
        )
        for rows, batch in gradient_batches(
            classifier,
            train,
            method=self.method,
            batch_size=self.batch_size,
            precision=self.precision,
            project=self.project,
            progress=progress,
            task=task,
        ):
            part = batch.only(self.parts) if self.parts else batch
            if part.layout != query.layout:
                raise TraceError("training examples and queries were traced in different ways; use method='loop'.")
            where = torch.as_tensor(rows)
            sums.products[:, where] = weight * self._products(part.grads, query.grads, columns, metric)
            sums.own[where] = weight * norms(part.grads, metric).square()
            sums.losses[rows], sums.logits[rows] = part.losses, part.logits
        return sums

    def _gradients(self, classifier: Adapted, data: Examples, progress: Progress) -> Gradients:
        return per_example_gradients(
            classifier,
            data,
            method=self.method,
            batch_size=self.batch_size,
            precision=self.precision,
            parts=self.parts,
            project=self.project,
            progress=progress,
        )

    def _metric(self, layout: Layout, checkpoint: Checkpoint | None) -> Tensor | None:
        if self.optimizer == "sgd":
            return None
        if self.project is not None:
            raise TraceError(
                "optimizer='adam' weighs every parameter by a number of its own, and projected gradients have none; "
                "take optimizer='sgd', or no projection."
            )
        if checkpoint is None:
            raise TraceError("optimizer='adam' needs the second moments of a checkpoint; give checkpoints.")
        return adam_metric(layout, checkpoint.second_moments(), step=checkpoint.step, beta=checkpoint.beta2)

    def _columns(self, layout: Layout) -> list[slice | Tensor]:
        if self.aggregate == "whole":
            return [slice(None)]  # a view: an index of all columns would copy the gradients
        every = torch.arange(sum(block.size for block in layout))
        return [
            slice(parts[0].start, parts[-1].stop)
            if all(one.stop == other.start for one, other in pairwise(parts))
            else torch.cat([every[part] for part in parts])
            for parts in groups(layout).values()
        ]

    def _products(self, train: Tensor, query: Tensor, columns: list[slice | Tensor], metric: Tensor | None) -> Tensor:
        return torch.stack(
            [
                inner(
                    train[:, at],
                    query[:, at],
                    metric=None if metric is None else metric[at],
                    by_train=self.normalise_train,
                    by_query=self.normalise_query,
                )
                for at in columns
            ]
        )


def self_influence(
    classifier: Adapted,
    data: Examples,
    *,
    checkpoints: Sequence[Checkpoint] = (),
    method: Way = "auto",
    batch_size: int = 16,
    precision: Precision = "fp32",
    progress: Progress = Progress(),
) -> npt.NDArray[np.float32]:
    r"""How much training on an example lowers its own loss, :math:`\sum_c w_c |g_i^c|^2` [n].

    High values mark memorised examples, wrong labels among them. Normalised gradients would give a constant.
    """
    found = np.zeros(len(data), dtype=np.float32)
    states: Sequence[Checkpoint | None] = list(checkpoints) or [None]
    for checkpoint in states:
        weight = 1.0 if checkpoint is None else checkpoint.lr_sum
        with at(classifier, checkpoint):
            for rows, part in gradient_batches(
                classifier,
                data,
                method=method,
                batch_size=batch_size,
                precision=precision,
                progress=progress,
                task="self-influence",
            ):
                found[rows] += weight * part.norms**2
    return found


@contextmanager
def at(classifier: Adapted, checkpoint: Checkpoint | None) -> Iterator[None]:
    """The classifier with a checkpoint's parameters inside the block, its own after it."""
    if checkpoint is None:
        yield
        return
    before = classifier.state()
    classifier.restore(checkpoint.load_state())
    try:
        yield
    finally:
        classifier.restore(before)
