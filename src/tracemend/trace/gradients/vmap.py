"""Per-example gradients of any adapter through ``torch.func``: vectorised, but more dearly than by hooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tracemend.errors import TraceError
from tracemend.trace.gradients.engine import Pass, trainable
from tracemend.trace.gradients.layout import Part, group_of, lay_out
from tracemend.trace.gradients.traced import Traced


class Vmap:
    """``vmap(grad)`` over the trainable parameters alone: for adapters that no tap knows.

    Networks that look at the values of tensors (a mask, a router) cannot be mapped; they raise.

    Raises:
        TraceError: on a call, where the network cannot be mapped.
    """

    def __init__(self, traced: Traced) -> None:
        self.traced = traced
        self.parameters = trainable(traced)
        self.layout = lay_out(Part(name, tuple(p.shape), group_of(name)) for name, p in self.parameters.items())

    def __call__(self, rows: Sequence[Sequence[int]], y: Tensor) -> Pass:
        batch = self.traced.batch(rows)
        given = {name: p.detach() for name, p in self.parameters.items()}

        def one(parameters: Mapping[str, Tensor], inputs: Mapping[str, Tensor], label: Tensor) -> Any:
            def call(**arguments: Any) -> Any:
                return torch.func.functional_call(self.traced.network, dict(parameters), kwargs=arguments)

            alone = {name: tensor[None] for name, tensor in inputs.items()}
            losses, logits = self.traced.measure(alone, label[None], call=call)
            return losses[0], (losses[0].detach(), logits[0].detach())

        mapped = torch.func.vmap(torch.func.grad(one, has_aux=True), in_dims=(None, 0, 0))
        try:
            found, (losses, logits) = mapped(given, dict(batch), y)
        except torch.OutOfMemoryError:  # a smaller batch may have room
            raise
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            raise TraceError(f"torch.func.vmap cannot map this network ({error}); use method='loop'.") from error
        flat = torch.cat([found[block.name].flatten(1).float() for block in self.layout], dim=1)
        return Pass(flat, losses.float(), logits)

    def chain(self, row: Tensor) -> Mapping[str, Tensor]:
        """Gradients by parameter name that one row [P] stands for."""
        return {block.name: row[block.columns].reshape(block.shape) for block in self.layout}
