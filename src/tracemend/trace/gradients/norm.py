"""Per-example gradients of normalisation layers: what full tuning moves between the matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from tracemend.trace.gradients.tap import ModuleTap


class NormTap(ModuleTap):
    r"""Scales and shifts of layer and root-mean-square norms: :math:`dw_i = \sum_s g_{is} \odot \hat x_{is}`.

    Here :math:`\hat x` is the normalised input and g the gradient at the output; a shift b has
    :math:`db_i = \sum_s g_{is}`. The same holds where a norm scales by 1 + w.
    """

    @classmethod
    def claim(cls, network: Any, free: Mapping[str, nn.Parameter]) -> Self | None:
        modules = {
            where: module
            for where, module in network.named_modules()
            if f"{where}.weight" in free and (isinstance(module, nn.LayerNorm) or _is_rms(module))
        }
        return cls(modules, free) if modules else None

    def of(self, where: str, x: Tensor, g: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        g = g.float().reshape(batch, -1, x.shape[-1])
        normal = _normalised(self.modules[where], x.float()).reshape(g.shape)
        return (g * normal).sum(1), g.sum(1)


def _is_rms(module: nn.Module) -> bool:
    """Whether it is a norm without a mean, of which every family of models has a class of its own."""
    kind = type(module).__name__
    own = [name for name, _ in module.named_parameters()]
    return (kind.endswith("RMSNorm") or kind == "T5LayerNorm") and own == ["weight"] and _epsilon(module) is not None


def _epsilon(module: nn.Module) -> float | None:
    found = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return None if found is None else float(found)


def _normalised(module: nn.Module, x: Tensor) -> Tensor:
    if isinstance(module, nn.LayerNorm):
        return layer_norm(x, module.normalized_shape, eps=module.eps)
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + (_epsilon(module) or 0.0))
