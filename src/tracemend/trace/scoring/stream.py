"""Every stored row against every query, in bounded memory: queries by block, shards, checkpoints innermost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tracemend.arrays import Indices
from tracemend.errors import TraceError
from tracemend.progress import Progress
from tracemend.runs import fingerprint
from tracemend.trace.scoring.dense import DenseMatrix
from tracemend.trace.scoring.dot import TracInScore
from tracemend.trace.scoring.product import BUFFER
from tracemend.trace.scoring.queries import Queries, TracedQueries
from tracemend.trace.scoring.score import VANISHED, Fitted, Operand, Score
from tracemend.trace.scoring.scored import Scored
from tracemend.trace.scoring.sinks import Extremes, PerTrain, Sink
from tracemend.trace.scoring.stored import ROWS, Shard, Stored, complete, parts, prefetched, written_out


@dataclass(frozen=True, eq=False)
class _Pass:
    """One block of queries against the whole store."""

    store: Stored
    how: Score
    operands: dict[int, Operand]
    queries: slice

    def over(self, shards: Sequence[int]) -> Iterator[tuple[int, Indices, Tensor]]:
        """Shard, positions of some of its rows [r] and their final scores [r, q]."""
        buffer = torch.empty(BUFFER)
        numbers = list(self.operands)
        held = torch.empty(ROWS, self.queries.stop - self.queries.start)
        work = ((c, shard, part) for shard, part in parts(self.store, shards) for c in numbers)
        for checkpoint, number, _, shard in prefetched(self.store, work):
            total = held[: len(shard.rows)]
            if checkpoint == numbers[0]:
                total.zero_()
            self._add(self.operands[checkpoint], shard, total, buffer)
            if checkpoint == numbers[-1]:
                yield number, np.asarray(shard.rows, dtype=np.int64), total

    def _add(self, operand: Operand, shard: Shard, total: Tensor, buffer: Tensor) -> None:
        if not self.how.normalise_train:
            for segment in operand.segments:
                segment.add(shard.grads, total, buffer)
            return
        # Norms differ between checkpoints, so each one's products are divided before they are added.
        own = torch.zeros_like(total)
        for segment in operand.segments:
            segment.add(shard.grads, own, buffer)
        total.addcdiv_(own, self._norms(operand, shard, buffer)[:, None])

    def _norms(self, operand: Operand, shard: Shard, buffer: Tensor) -> Tensor:
        if operand.whole:
            found = torch.as_tensor(np.asarray(shard.norm, dtype=np.float32))
        else:
            found = torch.zeros(len(shard.grads))
            for segment in operand.segments:
                segment.squares(shard.grads, found, buffer)
            found = found.sqrt()
        return found.clamp(min=VANISHED)


def score(
    store: Stored,
    queries: Queries,
    how: Score | None = None,
    *,
    top: int = 20,
    dense: Path | str | None = None,
    memory: int = 256 * 2**20,
    progress: Progress = Progress(),
) -> Scored:
    """Score every stored example for every query.

    The store is read once for each block of queries; a curvature score adds its own passes. Memory is bounded by
    ``memory`` and two buffers of at most 64 MB (bfloat16; 128 MB in float32); besides, the table of rows and 28 bytes
    for each row's results are held. The same store, queries and options give the same result.

    Args:
        store: complete at the checkpoints that the score uses.
        queries: with gradients at each of these checkpoints.
        how: :class:`TracInScore` (the default), :class:`DataInf` or :class:`EkFac`.
        top: proponents and opponents kept for each query.
        dense: ``.npy`` file for the whole matrix [n, q], rows in the order of the data. It is written shard by shard,
            and scoring that was interrupted goes on from it.
        memory: bytes for queries and scores in flight; a smaller number means smaller blocks of queries, and as many
            more passes over the store.

    Returns:
        Tables of the strongest rows of each query, and of what each row comes to over all queries.

    Raises:
        TraceError: the store lacks shards, the queries were traced in another way or at other checkpoints, ``top`` or
            ``memory`` is not positive, or ``dense`` holds other scores.

    Example:
        >>> store = GradientStore.open("runs/mine/store")
        >>> found = score(store, HeldQueries([gradients]), top=20)  # the queries' gradients at its one checkpoint
        >>> found.bottom(0, 5)[["uid", "label", "score"]]
    """
    how = TracInScore() if how is None else how
    if top < 1 or memory < 1:
        raise TraceError(f"top is {top} and memory {memory}; both must be at least 1.")
    if isinstance(queries, TracedQueries):
        queries.check(store)
    numbers = how.numbers(store)
    shards = complete(store, numbers)
    n, q = len(store.rows), len(queries.uid)
    if not np.array_equal(np.sort(store.rows["row"].to_numpy()), np.arange(n)):
        raise TraceError(f"the rows of {store.path} are not numbered from 0 to {n - 1}; verify the store.")
    matrix = None
    if dense is not None:
        matrix = DenseMatrix(Path(dense), n, q, fingerprint(dict(store.manifest), queries.fingerprint, how.config))
    proponents, opponents = Extremes(q, min(top, n)), Extremes(q, min(top, n), lowest=True)
    each = PerTrain(n)
    sinks: list[Sink] = [proponents, opponents, each]
    fitted: dict[int, Fitted | None] = {}
    width = _block_width(store, len(numbers), q, memory)
    for number, start in enumerate(range(0, q, width)):
        part = slice(start, min(start + width, q))
        missing = [s for s in shards if matrix is None or not matrix.holds(part, s)]
        if missing and not fitted:
            fitted = {c: how.fit(store, c, progress=progress) for c in numbers}
        operands = {
            c: how.operand(store, c, fitted[c], queries.gradients(c, part, progress=progress), progress=progress)
            for c in (numbers if missing else [])
        }
        found = _Pass(store, how, operands, part).over(missing)
        if matrix is not None:
            found = _kept(matrix, store, part, [s for s in shards if s not in set(missing)], found)
        task = f"score block {number + 1}/{ceil(q / width)} of the queries"
        for _, rows, scores in progress.track(found, task=task, total=sum(1 for _ in parts(store, shards))):
            for sink in sinks:
                sink.take(rows, part, scores)
    if matrix is not None:
        matrix.finish()
    return Scored.of(store, queries.uid, how, proponents, opponents, each, None if matrix is None else matrix.path)


def _kept(
    matrix: DenseMatrix,
    store: Stored,
    queries: slice,
    held: Sequence[int],
    found: Iterator[tuple[int, Indices, Tensor]],
) -> Iterator[tuple[int, Indices, Tensor]]:
    """What the matrix holds already, then what is found, written to it."""
    position, of_shard = (store.rows[column].to_numpy(dtype=np.int64) for column in ("row", "shard"))
    for shard, part in parts(store, held):
        rows = position[of_shard == shard][part]
        yield shard, rows, matrix.read(rows, queries)
    writing = None
    for shard, rows, scores in found:
        if writing not in (None, shard):
            matrix.keep(queries, writing)
        writing = shard
        matrix.write(rows, queries, scores)
        yield shard, rows, scores
    if writing is not None:
        matrix.keep(queries, writing)


def _block_width(store: Stored, checkpoints: int, queries: int, memory: int) -> int:
    """Queries in a block: their rows at every checkpoint, twice more while they are weighed, and scores in flight."""
    dense: int = written_out(store.layout)[-1].columns.stop
    each = 4 * (dense * (checkpoints + 2) + 3 * ROWS)
    return max(1, min(queries, memory // each))
