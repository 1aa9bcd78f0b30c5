"""Where the gradients of queries come from: memory, or the classifier, a block of queries at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from tracemend.data import Labelled
from tracemend.errors import TraceError
from tracemend.models.shards import digest
from tracemend.progress import Progress
from tracemend.runs import fingerprint
from tracemend.trace.gradients import Gradients, per_example_gradients
from tracemend.trace.gradients.collect import Precision, Way
from tracemend.trace.scoring.stored import Stored
from tracemend.trace.tracin import at
from tracemend.tuning import Checkpoint, TextClassifier


class Queries(Protocol):
    """Examples whose loss is asked about, with gradients at each of the store's checkpoints."""

    @property
    def uid(self) -> tuple[str, ...]:
        """Ids [q]."""

    @property
    def fingerprint(self) -> str:
        """Of ids and labels: a score on disk goes on only for the same queries."""

    def gradients(self, checkpoint: int, rows: slice, *, progress: Progress = Progress()) -> Gradients:
        """Compact gradients of some of them at one checkpoint of the store."""


@dataclass(frozen=True, eq=False)
class HeldQueries:
    """Gradients in memory.

    Attributes:
        parts: compact gradients of all queries, one a checkpoint of the store.

    Raises:
        TraceError: there are none, or they are not of the same examples.
    """

    parts: Sequence[Gradients]

    def __post_init__(self) -> None:
        if not self.parts or not len(self.parts[0]):
            raise TraceError("there is no query to score; give the gradients of one at least.")
        if any(part.uid != self.uid for part in self.parts):
            raise TraceError("the queries differ between checkpoints; trace the same examples at each.")

    @property
    def uid(self) -> tuple[str, ...]:
        """Ids [q]."""
        return self.parts[0].uid

    @property
    def fingerprint(self) -> str:
        """Of ids, labels and gradients."""
        return fingerprint(self.uid, self.parts[0].y, digest({str(i): p.grads for i, p in enumerate(self.parts)}, {}))

    def gradients(self, checkpoint: int, rows: slice, *, progress: Progress = Progress()) -> Gradients:
        """Some of them at one checkpoint.

        Raises:
            TraceError: there are no gradients at that checkpoint.
        """
        if checkpoint >= len(self.parts):
            raise TraceError(
                f"the queries have gradients at {len(self.parts)} checkpoints, the store's number {checkpoint} "
                "is not among them; trace them at each of the store's checkpoints."
            )
        of = self.parts[checkpoint]
        return replace(
            of, grads=of.grads[rows], losses=of.losses[rows], logits=of.logits[rows], y=of.y[rows], uid=of.uid[rows]
        )


@dataclass(frozen=True, eq=False)
class TracedQueries:
    """Gradients taken when they are needed: memory holds a block of queries, however many there are.

    Attributes:
        classifier: its parameters are the same afterwards.
        data: with the labels that the queries should have.
        checkpoints: those the store was built from, in the same order.
        method, batch_size, precision: see :func:`tracemend.trace.per_example_gradients`; the store's.
    """

    classifier: TextClassifier
    data: Labelled
    checkpoints: Sequence[Checkpoint]
    method: Way = "auto"
    batch_size: int = 16
    precision: Precision = "fp32"

    @property
    def uid(self) -> tuple[str, ...]:
        """Ids [q]."""
        return tuple(self.data.uid)

    @property
    def fingerprint(self) -> str:
        """Of ids, labels, and what they are traced with."""
        return fingerprint(self.uid, self.data.y, self._parameters, self.method, self.precision)

    @property
    def _parameters(self) -> list[str]:
        return [digest(c.load_state(), {})[:16] for c in self.checkpoints]

    def check(self, store: Stored) -> None:
        """See that the checkpoints are the store's.

        Raises:
            TraceError: they are others.
        """
        own, there = [c.step for c in self.checkpoints], [c["step"] for c in store.manifest["checkpoints"]]
        if own != there:
            raise TraceError(
                f"{store.path} is of the checkpoints at steps {there}, and the queries are to be traced at {own}; "
                "give those of the store, in its order."
            )
        if self._parameters != [c["parameters"] for c in store.manifest["checkpoints"]]:
            raise TraceError(
                f"{store.path} is of other parameters than those that the queries are to be traced with; give the "
                "checkpoints it was built from."
            )

    def gradients(self, checkpoint: int, rows: slice, *, progress: Progress = Progress()) -> Gradients:
        """Some of them at one checkpoint."""
        with at(self.classifier, self.checkpoints[checkpoint]):
            return per_example_gradients(
                self.classifier,
                self.data.take(range(*rows.indices(len(self.data)))),
                method=self.method,
                batch_size=self.batch_size,
                precision=self.precision,
                compact=True,
                progress=progress,
            )
