"""A seeded random projection of the long side of matrices: smaller stores whose inner products hold on average."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from tracemend.errors import TraceError
from tracemend.trace.gradients.layout import Block, Layout, Part, lay_out, outer_sums

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tracemend.trace.gradients.collect import Gradients


@dataclass(frozen=True, kw_only=True)
class Projection:
    r"""Random signs that shorten the long side of every matrix to ``width`` numbers.

    A LoRA matrix has a short side of r numbers and a long one of hundreds or thousands. With R [long, k] of
    independent signs over :math:`\sqrt k` the gradient G [r, long] is kept as G R [r, k], and

    .. math:: E \langle G R, G' R \rangle = \langle G, G' \rangle, \qquad
        Var \le \frac{2}{k} |G|^2 |G'|^2

    (Johnson and Lindenstrauss; signs: Achlioptas 2003). R depends on the seed and the matrix's name alone, so that
    every process, and every query later on, has the same one. Biases, heads kept as factors and matrices whose long
    side is at most ``width`` stay as they are; a prompt and the scales of IA3 [n, 1] count as matrices.

    Attributes:
        width: k, numbers kept of a long side.
        seed: of the signs.

    Raises:
        TraceError: ``width`` is below 1.

    Example:
        >>> Projection(width=64).layout(lay_out([Part("lora_A.weight", (8, 384), "layer.0")]))[0].shape
        (8, 64)
    """

    width: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.width < 1:
            raise TraceError(f"the projection's width is {self.width}; it must be at least 1 (64 is a good start).")

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Self | None:
        """The projection of a store's rows, or None where they are whole."""
        found = manifest.get("projection")
        return None if found is None else cls(**found)

    @property
    def config(self) -> dict[str, int]:
        """Fields as JSON values."""
        return asdict(self)

    def layout(self, blocks: Iterable[Block | Part]) -> Layout:
        """Where everything lies in a projected row."""
        return lay_out(Part(b.name, self._shape(b), b.group, b.kind) for b in blocks)

    def rows(self, rows: Tensor, layout: Layout) -> Tensor:
        """Rows [n, P] projected [n, P'], float32."""
        return torch.cat([self._block(rows[:, block.columns], block) for block in layout], dim=1)

    def gradients(self, found: Gradients) -> Gradients:
        """The same examples with projected rows; losses and logits stay."""
        return replace(found, grads=self.rows(found.grads, found.layout), layout=self.layout(found.layout))

    def sums(self, part: Part, left: Tensor, right: Tensor) -> Tensor:
        r"""The projected matrices :math:`\sum_s l_{is} r_{is}^T`, without the matrices themselves.

        Args:
            part: which matrix; its shape is [out, in].
            left: factors [n, places, out].
            right: factors [n, places, in].

        Returns:
            As :meth:`rows` has them, [n, out, in] with the long side shortened.
        """
        if self.shortens(part):
            signs = self.signs(part).to(left)
            if part.shape[0] > part.shape[1]:
                left = left @ signs
            else:
                right = right @ signs
        return outer_sums(left, right)

    def signs(self, part: Block | Part) -> Tensor:
        """The signs of a matrix, scaled [long, width]."""
        signs: Tensor = _drawn(self.seed, part.name, max(part.shape), self.width).float() / self.width**0.5
        return signs

    def shortens(self, block: Block | Part) -> bool:
        """Whether this is a matrix whose long side is longer than ``width``."""
        return block.kind == "dense" and len(block.shape) == 2 and max(block.shape) > self.width

    def _shape(self, block: Block | Part) -> tuple[int, ...]:
        if not self.shortens(block):
            return block.shape
        first, second = block.shape
        return (self.width, second) if first > second else (first, self.width)

    def _block(self, rows: Tensor, block: Block) -> Tensor:
        if not self.shortens(block):
            return rows.float()
        matrices = rows.float().unflatten(1, block.shape)
        signs = self.signs(block).to(rows.device)
        first, second = block.shape
        found: Tensor = signs.T @ matrices if first > second else matrices @ signs
        return found.flatten(1)


# Every batch asks for all of them, and drawing them takes as long as the products.
@lru_cache(maxsize=512)
def _drawn(seed: int, name: str, long: int, width: int) -> Tensor:
    """Signs [long, width], int8."""
    hashed = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(hashed[:7], "little"))
    return (2 * torch.randint(0, 2, (long, width), generator=generator) - 1).to(torch.int8)
