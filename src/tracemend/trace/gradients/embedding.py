"""Per-example gradients of embeddings of words and places, which full tuning moves too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tracemend.errors import TraceError
from tracemend.trace.gradients.layout import Part, group_of, lay_out, outer_sums
from tracemend.trace.gradients.tap import Tap


class EmbeddingTap(Tap):
    r"""Gradients of embeddings: row v of dE_i is the sum of the gradients at the places where example i has v.

    Embeddings whose weights something else uses too (an output layer that is tied to them), and those of distances
    between places, which belong to no example, are not claimed. Places are often embedded once for the whole batch:
    what they give is spread over its examples, so that each has its own gradient.
    """

    projects = True

    def __init__(self, modules: Mapping[str, nn.Embedding], network: nn.Module) -> None:
        super().__init__()
        self.modules = dict(modules)
        self.network = network
        self.batch = 0
        self.parts = tuple(
            Part(f"{where}.weight", tuple(module.weight.shape), group_of(f"{where}.weight"))
            for where, module in self.modules.items()
        )
        self.names = frozenset(part.name for part in self.parts)

    @classmethod
    def claim(cls, network: Any, free: Mapping[str, nn.Parameter]) -> Self | None:
        holders = Counter(id(p) for module in network.modules() for p in module.parameters(recurse=False))
        modules = {
            where: module
            for where, module in network.named_modules()
            if type(module) is nn.Embedding
            and "relative" not in where
            and f"{where}.weight" in free
            and holders[id(module.weight)] == 1
            and module.max_norm is None
            and not module.scale_grad_by_freq
        }
        return cls(modules, network) if modules else None

    def hook(self) -> list[RemovableHandle]:
        def size(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            given = (one for one in (*args, *named.values()) if isinstance(one, Tensor))
            self.batch = len(next(given))

        def capture(where: str) -> Any:
            def after(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
                if len(output) == 1:  # the same for every example
                    output = output.expand(self.batch, *output.shape[1:])
                self.inputs.append((where, args[0].detach()))
                self.roots.append(output)
                return output

            return after

        handles = [module.register_forward_hook(capture(where)) for where, module in self.modules.items()]
        return [self.network.register_forward_pre_hook(size, with_kwargs=True), *handles]

    def rows(self, gradients: Sequence[Tensor], batch: int) -> Tensor:
        found: dict[str, Tensor] = {}
        for (where, ids), g in zip(self.inputs, gradients, strict=True):
            if len(g) != batch:
                raise TraceError(
                    f"{where} saw {len(g)} rows in a batch of {batch}, so its examples cannot be told apart; use "
                    "method='loop'."
                )
            module, name = self.modules[where], f"{where}.weight"
            places = ids.expand(batch, *ids.shape[1:]).reshape(batch, -1)
            g = g.float().reshape(batch, places.shape[1], -1)
            if module.padding_idx is not None:  # it is not learnt
                g = g * (places != module.padding_idx)[..., None]
            gradient = self._sums(name, places, g)
            found[name] = found[name] + gradient if name in found else gradient
        return self.joined(found)

    def _sums(self, name: str, places: Tensor, g: Tensor) -> Tensor:
        """Gradients g [batch, seq, width] added up by what stands at each place [batch, seq]."""
        part = next(part for part in self.parts if part.name == name)
        rows, batch = part.shape[0], len(places)
        if self.projection is not None and self.projection.shortens(part) and rows > part.shape[1]:
            # The projected row of a word is its row of signs: no table of all words is made.
            return outer_sums(self.projection.signs(part).to(g.device)[places], g)
        found = g.new_zeros(batch, *part.shape)
        words = places + rows * torch.arange(batch, device=places.device)[:, None]
        found.flatten(0, 1).index_add_(0, words.flatten(), g.flatten(0, 1))
        if self.projection is None:
            return found
        return self.projection.rows(found.flatten(1), lay_out([part]))
