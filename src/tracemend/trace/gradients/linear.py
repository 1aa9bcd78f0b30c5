"""Per-example gradients of linear layers: LoRA's two matrices, and a head that sees whole sequences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from tracemend.errors import TraceError
from tracemend.trace.gradients.tap import ModuleTap


class LinearTap(ModuleTap):
    r"""Gradients of every trainable ``nn.Linear``: :math:`dW_i = \sum_s g_{is} x_{is}^T`, :math:`db_i = \sum_s g_{is}`.

    Here x [batch, seq, in] is what entered the layer and g [batch, seq, out] the gradient at its output. The LoRA
    matrices A and B are such layers; scaling and dropout lie outside them. Variants of LoRA (DoRA and others) use the
    weights in other ways and are not claimed.
    """

    projects = True

    @classmethod
    def claim(cls, network: Any, free: Mapping[str, nn.Parameter]) -> Self | None:
        variants = tuple(
            f"{where}."
            for where, module in network.named_modules()
            if isinstance(module, LoraLayer) and getattr(module, "lora_variant", None)
        )
        modules = {
            where: module
            for where, module in network.named_modules()
            if isinstance(module, nn.Linear) and f"{where}.weight" in free and not where.startswith(variants)
        }
        return cls(modules, free) if modules else None

    def of(self, where: str, x: Tensor, g: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        x, g = by_example(where, x, g, batch)
        return self.sums(f"{where}.weight", g, x), g.float().sum(1)


def by_example(where: str, x: Tensor, g: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """What entered a layer [batch, seq, in] and the gradient at its output [batch, seq, out], of one dtype.

    Under autocast the products run in bfloat16, as those of the plain step would: sums are taken in float32.

    Raises:
        TraceError: the layer saw other rows than the batch has examples.
    """
    if len(x) != batch:
        raise TraceError(
            f"{where} saw {len(x)} rows in a batch of {batch}, so its examples cannot be told apart; use method='loop'."
        )
    return x.reshape(batch, -1, x.shape[-1]).to(g.dtype), g.reshape(batch, -1, g.shape[-1])
