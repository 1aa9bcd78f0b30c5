"""What scoring asks of a store of gradients, and how rows are read: the next ones while the present ones are used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from tracemend.errors import TraceError
from tracemend.trace.gradients.layout import Block, Layout, Part, expand, lay_out

# Rows of one product: enough for its full speed, few enough for them to stay in cache.
ROWS = 512
# Numbers read together, at most.
_READ = 32 * 2**20


class Shard(Protocol):
    """Some rows at one checkpoint."""

    @property
    def rows(self) -> npt.NDArray[np.int64]:
        """Positions in the data [n]."""

    @property
    def grads(self) -> Tensor:
        """Gradients [n, P] as stored: bfloat16 or float32, outer blocks as factors."""

    @property
    def norm(self) -> Any:
        """Euclidean norms of the gradients [n]."""


class Stored(Protocol):
    """What :class:`tracemend.trace.store.GradientStore` offers to scoring."""

    @property
    def path(self) -> Path:
        """The folder."""

    @property
    def manifest(self) -> Mapping[str, Any]:
        """``checkpoints`` (each with ``lr_sum`` and ``step``), ``dtype``, ``fingerprints``."""

    @property
    def rows(self) -> pd.DataFrame:
        """One row an example: ``row`` (position in the data), ``uid``, ``label``, ``shard``."""

    @property
    def layout(self) -> Layout:
        """Which columns belong to which parameter."""

    def missing(self, checkpoint: int) -> list[int]:
        """Shards that the checkpoint lacks."""

    def second_moments(self, checkpoint: int) -> Mapping[str, Tensor]:
        """Adam's second moments by parameter name."""

    def read(self, checkpoint: int, shard: int, out: Tensor | None = None, *, part: slice = slice(None)) -> Shard:
        """Some rows of a shard, their gradients in ``out`` where that is given."""


def complete(store: Stored, checkpoints: Sequence[int]) -> list[int]:
    """The numbers of the store's shards.

    Raises:
        TraceError: a shard is missing at one of the checkpoints, or the store holds no row.
    """
    shards = sorted(int(shard) for shard in store.rows["shard"].unique())
    if not shards:
        raise TraceError(f"the store {store.path} holds no example; build it from data that has some.")
    for checkpoint in checkpoints:
        missing = store.missing(checkpoint)
        if missing:
            raise TraceError(
                f"{store.path} lacks {len(missing)} of {len(shards)} shards of checkpoint {checkpoint}; "
                "give the command that builds it again, it goes on."
            )
    return shards


def parts(store: Stored, shards: Sequence[int]) -> Iterator[tuple[int, slice]]:
    """Stretches of rows that are read together: a shard's number, and which of its rows."""
    width = sum(block.size for block in store.layout)
    step = min(ROWS, max(1, _READ // width))
    sizes = store.rows.groupby("shard").size()
    for shard in shards:
        for at in range(0, int(sizes[shard]), step):
            yield shard, slice(at, min(at + step, int(sizes[shard])))


def prefetched(store: Stored, work: Iterable[tuple[int, int, slice]]) -> Iterator[tuple[int, int, slice, Shard]]:
    """Read (checkpoint, shard, rows) in their order; one thread reads the next while the present one is used.

    Two buffers take turns, so gradients hold only until the next ones are asked for.
    """
    width = sum(block.size for block in store.layout)
    rows = min(ROWS, max(1, _READ // width))
    dtype = getattr(torch, store.manifest["dtype"])
    free, used = (torch.empty(rows, width, dtype=dtype) for _ in range(2))
    with ThreadPoolExecutor(max_workers=1) as reader:
        before: tuple[tuple[int, int, slice], Future[Shard]] | None = None
        for checkpoint, shard, part in work:
            coming = reader.submit(store.read, checkpoint, shard, out=free, part=part)
            if before is not None:
                yield *before[0], before[1].result()
            before = (checkpoint, shard, part), coming
            free, used = used, free
        if before is not None:
            yield *before[0], before[1].result()


def kept(layout: Layout, parts: Sequence[str]) -> tuple[Block, ...]:
    """The blocks of these groups, in order; all blocks where no group is named.

    ``layer`` means all layers, as in :meth:`tracemend.trace.Gradients.only`, which refuses unknown groups.
    """
    if not parts:
        return layout
    return tuple(b for b in layout if any(b.group == p or (p == "layer" and "layer." in b.group) for p in parts))


def dense_rows(store: Stored, checkpoint: int, blocks: Layout) -> Iterator[Tensor]:
    """The rows of one checkpoint with these blocks written out: float32 [r, D], a few at a time."""
    relaid = lay_out(Part(b.name, b.shape, b.group, b.kind) for b in blocks)
    step = max(1, _READ // written_out(relaid)[-1].columns.stop)
    work = ((checkpoint, shard, part) for shard, part in parts(store, complete(store, [checkpoint])))
    for _, _, _, held in prefetched(store, work):
        for at in range(0, len(held.rows), step):
            rows = held.grads[at : at + step]
            if blocks != store.layout:
                rows = torch.cat([rows[:, b.columns] for b in blocks], dim=1)
            yield expand(rows.float(), relaid)[0]


def written_out(layout: Layout) -> Layout:
    """The layout of rows whose outer blocks are written out as the gradients of weight and bias."""
    return expand(torch.zeros(1, sum(block.size for block in layout)), layout)[1]
