"""Per-example gradients of (IA)^3's scaling vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from peft.tuners.ia3 import Linear
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tracemend.trace.gradients.layout import Part, group_of
from tracemend.trace.gradients.tap import Tap


class Ia3Tap(Tap):
    r"""Gradients of every vector l in :math:`y = l \odot x`: :math:`dl_i = \sum_s g_{is} \odot x_{is}`.

    Feed-forward layers scale what enters them, the others what they give; g is the gradient at y in both cases.
    """

    def __init__(self, modules: Mapping[str, Linear], adapter: str) -> None:
        super().__init__()
        self.modules = dict(modules)
        shapes = {f"{where}.ia3_l.{adapter}": tuple(m.ia3_l[adapter].shape) for where, m in self.modules.items()}
        self.names = frozenset(shapes)
        self.parts = tuple(Part(name, shape, group_of(name)) for name, shape in shapes.items())

    @classmethod
    def claim(cls, network: Any, free: Mapping[str, nn.Parameter]) -> Self | None:
        adapter = network.active_adapter
        modules = {
            where: module
            for where, module in network.named_modules()
            if isinstance(module, Linear) and f"{where}.ia3_l.{adapter}" in free
        }
        return cls(modules, adapter) if modules else None

    def hook(self) -> list[RemovableHandle]:
        # Unscaled and scaled tensor of a layer follow one another, so `inputs` and `roots` stay in step.
        handles = []
        for where, module in self.modules.items():
            base = module.get_base_layer()
            if module.is_feedforward:
                handles.append(module.register_forward_pre_hook(lambda _, args, at=where: self._unscaled(at, args[0])))
                handles.append(base.register_forward_pre_hook(lambda _, args: self.roots.append(args[0])))
            else:
                handles.append(base.register_forward_hook(lambda _, args, out, at=where: self._unscaled(at, out)))
                handles.append(module.register_forward_hook(lambda _, args, out: self.roots.append(out)))
        return handles

    def _unscaled(self, where: str, tensor: Tensor) -> None:
        self.inputs.append((where, tensor.detach()))

    def rows(self, gradients: Sequence[Tensor], batch: int) -> Tensor:
        found: dict[str, Tensor] = {}
        names = {where: part.name for where, part in zip(self.modules, self.parts, strict=True)}
        for (where, x), g in zip(self.inputs, gradients, strict=True):
            gradient = (g.float() * x.float()).reshape(batch, -1, x.shape[-1]).sum(1)
            name = names[where]
            found[name] = found[name] + gradient if name in found else gradient
        return self.joined(found)
