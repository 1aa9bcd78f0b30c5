"""Per-example gradients of LoRA, from a pass in which its product is a part of the weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self, cast

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tracemend.trace.gradients.layout import Part, group_of, outer_sums
from tracemend.trace.gradients.linear import by_example
from tracemend.trace.gradients.tap import Tap

# Bytes of weights that may be held twice during a pass.
_MOST = 2**30


class LoraTap(Tap):
    r"""Gradients of plain LoRA layers :math:`y = (W + s B A) x`, in evaluation.

    With x [batch, seq, in] at a layer's input and g [batch, seq, out] the gradient at its output,

    .. math:: dB_i = s \sum_t g_{it} (A x_{it})^T \qquad dA_i = s \sum_t (B^T g_{it}) x_{it}^T

    so the two narrow layers need not be run: W + s B A stands in for W while a pass lasts, and the pass costs what the
    model without an adapter costs, which is less than a training step. The weights themselves are set aside and put
    back, not computed back. Under autocast, where a small s B A could drown in the rounding of W, and for weights of
    other types or over 1 GiB of them, the layers run as they are and the formulas are the same.
    """

    def __init__(self, layers: Mapping[str, LoraLinear], names: Mapping[str, str]) -> None:
        super().__init__()
        self.layers = dict(layers)
        self.adapters = dict(names)
        self.parts = tuple(
            Part(f"{where}.lora_{side}.{adapter}.weight", tuple(matrix.shape), group_of(where + "."))
            for where, adapter in self.adapters.items()
            for side, matrix in zip("AB", self._matrices(where), strict=True)
        )
        self.names = frozenset(part.name for part in self.parts)
        bases = [_weight(layer) for layer in self.layers.values()]
        self._mergeable = (
            all(type(w) is nn.Parameter and w.dtype == torch.float32 and not w.is_meta for w in bases)
            and not any(hasattr(layer.get_base_layer(), "_hf_hook") for layer in self.layers.values())
            and sum(w.nbytes for w in bases) <= _MOST
        )

    @classmethod
    def claim(cls, network: Any, free: Mapping[str, nn.Parameter]) -> Self | None:
        # Who uses a weight: layers that hold it, and modules that call such a layer.
        uses = Counter(id(p) for m in network.modules() for p in m.parameters(recurse=False))
        uses.update(id(layer) for m in network.modules() for layer in m.children())
        layers: dict[str, LoraLinear] = {}
        names: dict[str, str] = {}
        for where, module in network.named_modules():
            if type(module) is not LoraLinear or not _plain(module, uses):
                continue
            adapter = module.active_adapters[0]
            if all(f"{where}.lora_{side}.{adapter}.weight" in free for side in "AB"):
                layers[where], names[where] = module, adapter
        return cls(layers, names) if layers else None

    def hook(self) -> list[RemovableHandle]:
        def capture(where: str) -> Any:
            def after(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
                if not output.requires_grad:  # the first layers: nothing trainable lies before them
                    output.requires_grad_(True)
                self.inputs.append((where, args[0].detach()))
                self.roots.append(output)

            return after

        return [layer.register_forward_hook(capture(where)) for where, layer in self.layers.items()]

    @contextmanager
    def attached(self) -> Iterator[None]:
        with super().attached():
            device = _weight(next(iter(self.layers.values()))).device.type
            merged = any(layer.merged for layer in self.layers.values())  # by somebody else, since
            if not self._mergeable or merged or torch.is_autocast_enabled(device):
                yield
                return
            kept: list[tuple[LoraLinear, Tensor]] = []
            try:
                for where, layer in self.layers.items():
                    weight = _weight(layer)
                    a, b = self._matrices(where)
                    kept.append((layer, weight.data))
                    weight.data = torch.addmm(weight.data, b, a, alpha=self._scale(where))
                    # PEFT's own mark: its forward leaves the adapter out.
                    layer.merged_adapters.append(self.adapters[where])
                yield
            finally:
                for layer, data in kept:
                    _weight(layer).data = data
                    layer.merged_adapters.clear()

    def rows(self, gradients: Sequence[Tensor], batch: int) -> Tensor:
        found: dict[str, Tensor] = {}
        for (where, x), g in zip(self.inputs, gradients, strict=True):
            x, g = by_example(where, x, g, batch)
            a, b = (matrix.to(g.dtype) for matrix in self._matrices(where))
            adapter = self.adapters[where]
            for name, gradient in (
                (f"{where}.lora_A.{adapter}.weight", outer_sums(g @ b, x)),
                (f"{where}.lora_B.{adapter}.weight", outer_sums(g, x @ a.T)),
            ):
                gradient *= self._scale(where)
                # A layer may be called more than once in a pass (shared weights): its gradients add up.
                found[name] = found[name] + gradient if name in found else gradient
        return self.joined(found)

    def _matrices(self, where: str) -> tuple[Tensor, Tensor]:
        """A [r, in] and B [out, r]."""
        layer, adapter = self.layers[where], self.adapters[where]
        a, b = cast(nn.Linear, layer.lora_A[adapter]), cast(nn.Linear, layer.lora_B[adapter])
        return a.weight.detach(), b.weight.detach()

    def _scale(self, where: str) -> float:
        return float(self.layers[where].scaling[self.adapters[where]])


def _weight(layer: LoraLinear) -> nn.Parameter:
    return cast(nn.Parameter, layer.get_base_layer().weight)


def _plain(layer: LoraLinear, uses: Mapping[int, int]) -> bool:
    """Whether the layer is W x + s B A x, with nothing else in it and nobody else using W, tied or called."""
    base = layer.get_base_layer()
    if type(base) is not nn.Linear or layer.fan_in_fan_out or layer.merged or layer.disable_adapters:
        return False
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    return (
        len(active) == len(layer.active_adapters) == 1
        and not layer.lora_variant
        and layer.lora_A[active[0]].bias is None
        and layer.lora_B[active[0]].bias is None
        and uses[id(base.weight)] == uses[id(base)] == 1
    )
