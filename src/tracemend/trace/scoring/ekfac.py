"""EK-FAC-style curvature of adapters, from stored gradients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tracemend.errors import TraceError
from tracemend.progress import Progress
from tracemend.trace.gradients.layout import Block, Layout
from tracemend.trace.scoring.score import Fitted, Score
from tracemend.trace.scoring.stored import Stored, dense_rows, written_out


@dataclass(eq=False)
class _Basis:
    """Eigenbases of a block's two sides, and the second moments of the gradients in them.

    Attributes:
        shape: of the block as a matrix (out, in); a vector is one row.
        out, inner: eigenvectors in columns [out, out] and [in, in]; None for a side that keeps its coordinates.
        moments: [out, in].
    """

    shape: tuple[int, int]
    out: Tensor | None
    inner: Tensor | None
    moments: Tensor

    def into(self, rows: Tensor) -> Tensor:
        """Gradients [n, out * in] in the bases [n, out, in]."""
        found = rows.reshape(-1, *self.shape)
        found = found if self.inner is None else found @ self.inner
        return found if self.out is None else self.out.T @ found

    def back(self, turned: Tensor) -> Tensor:
        """From the bases [n, out, in] to gradients [n, out * in]."""
        found = turned if self.inner is None else turned @ self.inner.T
        found = found if self.out is None else self.out @ found
        return found.flatten(1)


@dataclass(frozen=True, eq=False)
class _Fitted(Fitted):
    bases: list[_Basis]
    damping: float
    kept: list[float]  # share of each block's numbers that the store keeps: a projection does not spare the rest

    def weigh(self, query: Tensor, layout: Layout, *, progress: Progress) -> tuple[Tensor, Tensor | None]:
        found = torch.zeros_like(query)
        for block, basis, kept in zip(layout, self.bases, self.kept, strict=True):
            damping = self.damping * kept * float(basis.moments.mean())
            if damping > 0:  # else no example has a gradient here, and the block weighs nothing
                turned = basis.into(query[:, block.columns]) / (basis.moments + damping)
                found[:, block.columns] = basis.back(turned)
        return found, None


@dataclass(frozen=True, kw_only=True)
class EkFac(Score):
    r"""An influence function with eigenvalue-corrected Kronecker factors as its curvature.

    George et al. 2018 (arXiv 1806.03884), Grosse et al. 2023 (arXiv 2308.03296).
    For each block of parameters with per-example gradient matrices G [out, in]:

    .. math::

        U \Lambda_1 U^T = \mathrm{mean}_i \, G_i G_i^T, \quad V \Lambda_2 V^T = \mathrm{mean}_i \, G_i^T G_i, \quad
        \Lambda = \mathrm{mean}_i \, (U^T G_i V)^2, \quad
        F^{-1} Q = U \frac{U^T Q V}{\Lambda + \lambda} V^T, \quad \lambda = \alpha \, \mathrm{mean}(\Lambda)

    The factors come from the gradient matrices of whole examples, not from activations and output gradients token by
    token as in those papers: that is what a store holds, and it needs no assumption of independence between tokens.
    The Fisher matrix is the empirical one, with the labels as given. A vector is a matrix of one row, so its block is
    treated exactly. It is fitted in two passes over the store and applied to the query.

    Memory: the bases, :math:`out^2 + in^2 + out \cdot in` numbers a block.

    Attributes:
        damping: :math:`\alpha`, 0.1 by default as in Grosse et al.
        widest: a side longer than this keeps its own coordinates instead of an eigenbasis (2,048 by default).
        normalise_train, normalise_query: divide by the Euclidean norm of g and of the weighed query.

    Raises:
        TraceError: ``damping`` or ``widest`` is not positive.

    Example:
        >>> score(store, queries, EkFac(), top=20).top(0, 5)
    """

    name: ClassVar[str] = "ekfac"
    checkpoints: Literal["all", "last"] = "last"
    damping: float = 0.1
    widest: int = 2048

    def __post_init__(self) -> None:
        if not self.damping > 0:
            raise TraceError(f"the damping is {self.damping}; it must be positive (0.1 is usual).")
        if self.widest < 1:
            raise TraceError(f"the widest side is {self.widest}; it must be at least 1.")

    def fit(self, store: Stored, checkpoint: int, *, progress: Progress) -> Fitted:
        """Two passes: covariances of both sides, then second moments in their eigenbases."""
        blocks, alone = self._blocks(store)
        layout = written_out(alone)

        def rows(task: str) -> Iterator[Tensor]:
            yield from progress.track(dense_rows(store, checkpoint, blocks), task=task)

        bases = self._bases(layout, rows("EK-FAC: first pass over the store"))
        n = 0
        for part in rows("EK-FAC: second pass over the store"):
            n += len(part)
            for block, basis in zip(layout, bases, strict=True):
                basis.moments += basis.into(part[:, block.columns]).square().sum(dim=0)
        for basis in bases:
            basis.moments /= n
        whole = store.manifest.get("sizes") or {}
        return _Fitted(bases, self.damping, [block.size / whole.get(block.name, block.size) for block in layout])

    def _bases(self, layout: Layout, parts: Iterator[Tensor]) -> list[_Basis]:
        shapes = [_matrix(block) for block in layout]
        # A side of length one has the trivial basis.
        turned = [tuple(1 < side <= self.widest for side in shape) for shape in shapes]
        sides = [
            tuple(torch.zeros(side, side, dtype=torch.float64) if t else None for side, t in zip(s, which, strict=True))
            for s, which in zip(shapes, turned, strict=True)
        ]
        for part in parts:
            for block, shape, (out, inner) in zip(layout, shapes, sides, strict=True):
                g = part[:, block.columns].reshape(-1, *shape)
                if out is not None:
                    flat = g.transpose(0, 1).reshape(shape[0], -1)
                    out += flat @ flat.T
                if inner is not None:
                    flat = g.reshape(-1, shape[1])
                    inner += flat.T @ flat
        found = []
        for shape, pair in zip(shapes, sides, strict=True):
            out, inner = (None if side is None else torch.linalg.eigh(side)[1].float() for side in pair)
            found.append(_Basis(shape, out, inner, torch.zeros(shape)))
        return found


def _matrix(block: Block) -> tuple[int, int]:
    return (1, block.size) if len(block.shape) < 2 else (block.shape[0], block.size // block.shape[0])
