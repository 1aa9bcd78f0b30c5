"""Per-example gradients of linear layers: LoRA's two matrices, and a head that sees whole sequences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tracemend.errors import TraceError
from tracemend.trace.gradients.layout import Part, group_of
from tracemend.trace.gradients.tap import Tap


class LinearTap(Tap):
    r"""Gradients of every trainable ``nn.Linear``: :math:`dW_i = \sum_s g_{is} x_{is}^T`, :math:`db_i = \sum_s g_{is}`.

    Here x [batch, seq, in] is what entered the layer and g [batch, seq, out] the gradient at its output. The LoRA
    matrices A and B are such layers; scaling and dropout lie outside them. Variants of LoRA (DoRA and others) use the
    weights in other ways and are not claimed.
    """

    projects = True

    def __init__(self, modules: Mapping[str, nn.Linear], free: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        self.modules = dict(modules)
        named = [f"{where}.{kind}" for where in self.modules for kind in ("weight", "bias")]
        self.parts = tuple(Part(name, tuple(free[name].shape), group_of(name)) for name in named if name in free)
        self.names = frozenset(part.name for part in self.parts)

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

    def hook(self) -> list[RemovableHandle]:
        return self.listen(self.modules)

    def rows(self, gradients: Sequence[Tensor], batch: int) -> Tensor:
        found: dict[str, Tensor] = {}
        for (where, x), g in zip(self.inputs, gradients, strict=True):
            x, g = by_example(where, x, g, batch)
            # A layer may be called more than once in a pass (shared weights): its gradients add up.
            for kind, gradient in (("weight", self.sums(f"{where}.weight", g, x)), ("bias", g.float().sum(1))):
                name = f"{where}.{kind}"
                if name in self.names:
                    found[name] = found[name] + gradient if name in found else gradient
        return self.joined(found)


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
