"""Inner products of stored rows with queries, block by block of columns, in float32."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tracemend.trace.gradients.layout import Block, Layout, factors
from tracemend.trace.scoring.stored import ROWS

# Columns of one product: with as many rows as are read together, the widened rows stay in cache.
_COLUMNS = 8192
# Numbers that a product widens.
BUFFER = ROWS * _COLUMNS


class Segment(ABC):
    """The query side of some columns of the stored rows, and the metric that training norms are taken in."""

    @abstractmethod
    def add(self, rows: Tensor, out: Tensor, buffer: Tensor) -> None:
        """Add the inner products of rows [r, P], as stored, with the queries to out [r, q].

        Args:
            buffer: float32, room for ``BUFFER`` numbers, that the rows are widened into.
        """

    @abstractmethod
    def squares(self, rows: Tensor, found: Tensor, buffer: Tensor) -> None:
        """Add the squared norms of these columns of the rows, in the metric, to found [r]."""


@dataclass(frozen=True, eq=False)
class DenseSegment(Segment):
    """Adjacent columns that hold gradients.

    Attributes:
        columns: of the stored rows.
        query: [q, K].
        metric: [K], or None for the plain norm.
    """

    columns: slice
    query: Tensor
    metric: Tensor | None

    def add(self, rows: Tensor, out: Tensor, buffer: Tensor) -> None:
        _accumulate(_widened(rows, self.columns, buffer), self.query, out)

    def squares(self, rows: Tensor, found: Tensor, buffer: Tensor) -> None:
        wide = _widened(rows, self.columns, buffer).square_()
        found += wide.sum(dim=1) if self.metric is None else wide @ self.metric


@dataclass(frozen=True, eq=False)
class FactoredSegment(Segment):
    r"""An outer block without a metric: :math:`\langle g a^T, g' a'^T \rangle = (a \cdot a') (g \cdot g')`.

    Attributes:
        block: of the stored rows.
        a, g: factors of the queries [q, in + 1] and [q, out].
    """

    block: Block
    a: Tensor
    g: Tensor

    def add(self, rows: Tensor, out: Tensor, buffer: Tensor) -> None:
        a, g = _factors(rows, self.block)
        out.addcmul_(a @ self.a.T, g @ self.g.T)

    def squares(self, rows: Tensor, found: Tensor, buffer: Tensor) -> None:
        a, g = _factors(rows, self.block)
        found.addcmul_(a.square().sum(dim=1), g.square().sum(dim=1))


@dataclass(frozen=True, eq=False)
class WeighedSegment(Segment):
    r"""An outer block whose queries are no outer products any more: :math:`g^T M a = \sum_o g_o \, (M a)_o`.

    Attributes:
        block: of the stored rows.
        query: M, output by output [out, q, in + 1].
        metric: [out, in + 1], or None for the plain norm.
    """

    block: Block
    query: Tensor
    metric: Tensor | None

    def add(self, rows: Tensor, out: Tensor, buffer: Tensor) -> None:
        a, g = _factors(rows, self.block)
        for output, query in enumerate(self.query):
            _accumulate(a * g[:, output, None], query, out)

    def squares(self, rows: Tensor, found: Tensor, buffer: Tensor) -> None:
        a, g = (factor.square() for factor in _factors(rows, self.block))
        metric = torch.ones(self.block.shape) if self.metric is None else self.metric
        found += ((g @ metric) * a).sum(dim=1)


def factored(blocks: Sequence[Block], query: Tensor, scale: Tensor) -> list[Segment]:
    """Segments for queries that are gradients themselves.

    Args:
        blocks: columns of the stored rows to look at; the query holds these alone, one after another.
        query: [q, P of these blocks], outer blocks as factors.
        scale: of each query [q].
    """
    found: list[Segment] = []
    offset = 0
    for block in blocks:
        own = query[:, offset : offset + block.size]
        offset += block.size
        if block.kind == "dense":
            found += _dense(block, own * scale[:, None], None)
        else:
            a, g = own.split((block.shape[1], block.shape[0]), dim=1)
            found.append(FactoredSegment(block, a.contiguous(), g * scale[:, None]))
    return _joined(found)


def weighed(
    blocks: Sequence[Block], query: Tensor, layout: Layout, scale: Tensor, metric: Tensor | None
) -> list[Segment]:
    """Segments for queries that a metric or a curvature changed.

    Args:
        blocks: columns of the stored rows to look at.
        query: [q, D], with all outer blocks written out.
        layout: of the query's columns; the blocks' in the same order, weight and bias for an outer one.
        scale: of each query [q].
        metric: diagonal that norms of training rows are taken in [D].
    """
    found: list[Segment] = []
    parts = iter(layout)
    scaled = query * scale[:, None]
    for block in blocks:
        at = next(parts).columns
        own, d = scaled[:, at], None if metric is None else metric[at]
        if block.kind == "dense":
            found += _dense(block, own, d)
            continue
        bias = next(parts).columns
        out, inner = block.shape[0], block.shape[1] - 1
        whole = torch.cat([own.reshape(-1, out, inner), scaled[:, bias, None]], dim=2)
        both = None if d is None or metric is None else torch.cat([d.reshape(out, inner), metric[bias, None]], dim=1)
        found.append(WeighedSegment(block, whole.transpose(0, 1).contiguous(), both))
    return _joined(found)


def _dense(block: Block, query: Tensor, metric: Tensor | None) -> list[Segment]:
    found: list[Segment] = []
    for at in range(0, block.size, _COLUMNS):
        part = slice(at, min(at + _COLUMNS, block.size))
        columns = slice(block.offset + part.start, block.offset + part.stop)
        d = None if metric is None else metric[part].contiguous()
        found.append(DenseSegment(columns, query[:, part].contiguous(), d))
    return found


def _joined(segments: list[Segment]) -> list[Segment]:
    """Adjacent narrow dense segments as one: fewer, larger products."""
    found: list[Segment] = []
    for segment in segments:
        last = found[-1] if found else None
        if (
            isinstance(segment, DenseSegment)
            and isinstance(last, DenseSegment)
            and last.columns.stop == segment.columns.start
            and segment.columns.stop - last.columns.start <= _COLUMNS
        ):
            metric = None if last.metric is None or segment.metric is None else torch.cat([last.metric, segment.metric])
            query = torch.cat([last.query, segment.query], dim=1)
            found[-1] = DenseSegment(slice(last.columns.start, segment.columns.stop), query, metric)
        else:
            found.append(segment)
    return found


def _factors(rows: Tensor, block: Block) -> tuple[Tensor, Tensor]:
    a, g = factors(rows, block)
    return a.float(), g.float()


def _widened(rows: Tensor, columns: slice, buffer: Tensor) -> Tensor:
    n, width = len(rows), columns.stop - columns.start
    wide = buffer[: n * width].view(n, width)
    return wide.copy_(rows[:, columns])


# oneDNN's float32 product is as exact as the BLAS of a PyTorch wheel, and on processors that the latter knows no
# kernel for it takes half the time.
_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _accumulate(rows: Tensor, query: Tensor, out: Tensor) -> None:
    """Add rows [r, K] times query [q, K] to out [r, q]."""
    if _ONEDNN:
        out += torch.ops.mkldnn._linear_pointwise(rows, query, None, "none", [], "")
    else:
        torch.addmm(out, rows, query.T, out=out)
