"""DataInf: influence functions of adapters in closed form, from stored gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tracemend.errors import TraceError
from tracemend.progress import Progress
from tracemend.trace.gradients.layout import Layout
from tracemend.trace.scoring.score import Fitted, Score
from tracemend.trace.scoring.stored import Stored, dense_rows, written_out


@dataclass(frozen=True, eq=False)
class _Fitted(Fitted):
    store: Stored
    checkpoint: int
    blocks: Layout
    damping: list[float]
    n: int

    def weigh(self, query: Tensor, layout: Layout, *, progress: Progress) -> tuple[Tensor, Tensor | None]:
        removed = torch.zeros_like(query)
        for rows in progress.track(
            dense_rows(self.store, self.checkpoint, self.blocks), task="DataInf: second pass over the store"
        ):
            for block, damping in zip(layout, self.damping, strict=True):
                g = rows[:, block.columns]
                share = g @ query[:, block.columns].T / (damping + g.square().sum(dim=1))[:, None]
                removed[:, block.columns] += share.nan_to_num_(nan=0.0).T @ g
        for block, damping in zip(layout, self.damping, strict=True):
            # Where no example has a gradient the block weighs nothing, whatever its queries are.
            factor = 1 / damping if damping > 0 else 0.0
            removed[:, block.columns] = (query[:, block.columns] - removed[:, block.columns] / self.n) * factor
        return removed, None


@dataclass(frozen=True, kw_only=True)
class DataInf(Score):
    r"""DataInf (Kwon et al. 2024, arXiv 2310.00902): an influence function in closed form.

    The mean of rank-one curvatures is inverted as if that were the mean of their inverses.

    For each block l of parameters (each matrix of an adapter, the head's weight, its bias), over the n stored examples

    .. math::

        H_l^{-1} q \approx \frac{1}{n} \sum_i (g_{li} g_{li}^T + \lambda_l I)^{-1} q
        = \frac{1}{\lambda_l} \Big( q - \frac{1}{n} \sum_i \frac{g_{li} \cdot q}{\lambda_l + |g_{li}|^2} g_{li} \Big),
        \qquad \lambda_l = \alpha \, \frac{1}{n d_l} \sum_i |g_{li}|^2

    with d the block's number of parameters and :math:`\alpha` = ``damping``. It is applied to the query, in two passes
    over the store; then scores are inner products with raw gradients, as for TracIn. Sign: positive for proponents,
    the opposite of the paper's.

    Attributes:
        damping: :math:`\alpha`, the paper's 0.1 by default.
        normalise_train, normalise_query: divide by the Euclidean norm of g and of the weighed query. The paper does
            neither.

    Raises:
        TraceError: ``damping`` is not positive.

    Example:
        >>> score(store, queries, DataInf(), top=20).top(0, 5)
    """

    name: ClassVar[str] = "datainf"
    checkpoints: Literal["all", "last"] = "last"
    damping: float = 0.1

    def __post_init__(self) -> None:
        if not self.damping > 0:
            raise TraceError(f"the damping is {self.damping}; it must be positive (the paper's is 0.1).")

    def fit(self, store: Stored, checkpoint: int, *, progress: Progress) -> Fitted:
        """The first pass: mean squared gradient of each block."""
        blocks, alone = self._blocks(store)
        layout = written_out(alone)
        squares = torch.zeros(len(layout), dtype=torch.float64)
        n = 0
        for rows in progress.track(dense_rows(store, checkpoint, blocks), task="DataInf: first pass over the store"):
            n += len(rows)
            squares += torch.stack([rows[:, block.columns].square().sum() for block in layout]).double()
        # A projected block's damping is that of the matrix it stands for.
        whole = store.manifest.get("sizes") or {}
        sizes = torch.tensor([whole.get(block.name, block.size) for block in layout], dtype=torch.float64)
        damping = self.damping * squares / (n * sizes)
        return _Fitted(store, checkpoint, blocks, damping.tolist(), n)
