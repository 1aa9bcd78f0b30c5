"""Per-example gradients of a pooled head, as the two factors each of them is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tracemend.errors import TraceError
from tracemend.trace.gradients.layout import Part
from tracemend.trace.gradients.tap import Tap


class HeadTap(Tap):
    r"""Layers of ``modules_to_save`` that see one vector an example: :math:`dW_i = g_i x_i^T`, :math:`db_i = g_i`.

    A row holds [x, 1] and g, in + 1 + out numbers in place of out (in + 1), and inner products come from the factors:
    :math:`\langle dW_i, dW_j \rangle + \langle db_i, db_j \rangle = (x_i \cdot x_j + 1)(g_i \cdot g_j)`.
    """

    def __init__(self, modules: Mapping[str, nn.Linear]) -> None:
        super().__init__()
        self.modules = dict(modules)
        self.names = frozenset(f"{where}.{kind}" for where in self.modules for kind in ("weight", "bias"))
        self.parts = tuple(
            Part(where, (module.out_features, module.in_features + 1), "head", "outer")
            for where, module in self.modules.items()
        )

    @classmethod
    def claim(cls, network: Any, free: Mapping[str, nn.Parameter]) -> Self | None:
        modules = {
            where: module
            for where, module in network.named_modules()
            if isinstance(module, nn.Linear)
            and ".modules_to_save." in where
            and f"{where}.weight" in free
            and f"{where}.bias" in free
        }
        return cls(modules) if modules else None

    def hook(self) -> list[RemovableHandle]:
        return self.listen(self.modules)

    def rows(self, gradients: Sequence[Tensor], batch: int) -> Tensor:
        found: dict[str, Tensor] = {}
        for (where, x), g in zip(self.inputs, gradients, strict=True):
            if x.shape[:-1] != (batch,) or where in found:
                raise TraceError(
                    f"the head {where} saw inputs of shape {tuple(x.shape)} in a batch of {batch}, where one vector an "
                    "example and one call was expected; use method='loop'."
                )
            found[where] = torch.cat([x.float(), x.new_ones(batch, 1, dtype=torch.float32), g.float()], dim=1)
        return self.joined(found)

    def chain(self, row: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        offset = 0
        for name, (out, width), _, _ in self.parts:
            a, g = row[offset : offset + width + out].split((width, out))
            found |= {f"{name}.weight": torch.outer(g, a[:-1]), f"{name}.bias": g}
            offset += width + out
        return found
