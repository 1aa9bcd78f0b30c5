"""What every fast way to per-example gradients has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from tracemend.errors import TraceError
from tracemend.trace.gradients.layout import Part, group_of, lay_out, outer_sums
from tracemend.trace.gradients.projection import Projection


class Tap(ABC):
    """Per-example gradients of some parameters, from what one forward pass leaves behind.

    Examples of a batch do not interact, so the gradient of the summed loss with respect to a tensor [batch, ...] that
    lies behind a shared parameter holds in row i the gradient of example i alone. A tap hooks such tensors (its
    roots), and turns their gradients into the gradients of the parameters.

    Attributes:
        names: parameters it answers for.
        parts: what its rows hold, in order.
        roots: tensors of the last forward pass to differentiate with respect to.
        inputs: for each root what entered the layer, where the tap needs it: (name of the layer, tensor).
        live: another's backward pass runs through the roots, which must stay part of its graph; else a root may be a
            leaf where the pass ends.
        projects: its rows are projected ones where ``projection`` is given, so that no whole matrix is ever made.
    """

    names: frozenset[str]
    parts: tuple[Part, ...]
    projects: ClassVar[bool] = False

    def __init__(self) -> None:
        self.roots: list[Tensor] = []
        self.inputs: list[tuple[str, Tensor]] = []
        self.live = False
        self.projection: Projection | None = None

    @classmethod
    @abstractmethod
    def claim(cls, network: Any, free: Mapping[str, torch.nn.Parameter]) -> Self | None:
        """A tap for those of the free parameters that it can answer for, or None."""

    @abstractmethod
    def hook(self) -> list[RemovableHandle]:
        """Put the hooks on."""

    @abstractmethod
    def rows(self, gradients: Sequence[Tensor], batch: int) -> Tensor:
        """Per-example gradients [batch, P of this tap], float32, from the gradients of the roots."""

    def listen(self, modules: Mapping[str, torch.nn.Module]) -> list[RemovableHandle]:
        """Hooks that keep what enters these layers as inputs, and what they give as roots."""

        def capture(where: str) -> Any:
            def after(module: torch.nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
                self.inputs.append((where, args[0].detach()))
                self.roots.append(output)

            return after

        return [module.register_forward_hook(capture(where)) for where, module in modules.items()]

    def sums(self, name: str, left: Tensor, right: Tensor) -> Tensor:
        r""":math:`\sum_s l_{is} r_{is}^T` [batch, out, in], the gradient of this matrix, projected if that is asked."""
        if self.projection is None:
            return outer_sums(left, right)
        return self.projection.sums(next(part for part in self.parts if part.name == name), left, right)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hooks are on inside the block; the model is as before after it."""
        handles = self.hook()
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self.roots, self.inputs = [], []

    def joined(self, found: Mapping[str, Tensor]) -> Tensor:
        """Gradients [batch, ...] by the names of the parts as rows [batch, P of this tap].

        Raises:
            TraceError: a part is missing: its layer took no part in the pass.
        """
        for part in self.parts:
            if part.name not in found:
                raise TraceError(f"{part.name} took no part in the pass, so that it left no trace; use method='loop'.")
        return torch.cat([found[part.name].flatten(1) for part in self.parts], dim=1)

    def chain(self, row: Tensor) -> dict[str, Tensor]:
        """Gradients by parameter name that one row [P of this tap] stands for."""
        return {block.name: row[block.columns].reshape(block.shape) for block in lay_out(self.parts)}


class ModuleTap(Tap):
    """Weights and shifts of modules that make one tensor of another.

    Args:
        modules: by name; each has a ``weight`` among the free parameters, and may have a ``bias`` there.
        free: parameters that are asked for.
    """

    def __init__(self, modules: Mapping[str, torch.nn.Module], free: Mapping[str, torch.nn.Parameter]) -> None:
        super().__init__()
        self.modules = dict(modules)
        named = [f"{where}.{kind}" for where in self.modules for kind in ("weight", "bias")]
        self.parts = tuple(Part(name, tuple(free[name].shape), group_of(name)) for name in named if name in free)
        self.names = frozenset(part.name for part in self.parts)

    @abstractmethod
    def of(self, where: str, x: Tensor, g: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """Gradients of weight and bias [batch, ...], from what entered the module and the gradient at its output."""

    def hook(self) -> list[RemovableHandle]:
        return self.listen(self.modules)

    def rows(self, gradients: Sequence[Tensor], batch: int) -> Tensor:
        found: dict[str, Tensor] = {}
        for (where, x), g in zip(self.inputs, gradients, strict=True):
            # A layer may be called more than once in a pass (shared weights): its gradients add up.
            for kind, gradient in zip(("weight", "bias"), self.of(where, x, g, batch), strict=True):
                name = f"{where}.{kind}"
                if name in self.names:
                    found[name] = found[name] + gradient if name in found else gradient
        return self.joined(found)
