"""``torch.func.vmap(grad)`` over the trainable parameters, with nothing around it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.case import Prepared
from benchmarks.peers.protocol import Work, serve, squared_norms


def work(prepared: Prepared, request: dict[str, Any]) -> Work:
    """Gradients by parameter, each [B, ...]."""
    model = prepared.model
    model.unmask()
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    parameters = {name: model.get_parameter(name).detach() for name in names}

    def loss(given: dict[str, Tensor], ids: Tensor, mask: Tensor, target: Tensor) -> Tensor:
        outputs = torch.func.functional_call(model, given, (ids[None], mask[None]))
        return prepared.losses(outputs, target[None])[0]

    mapped = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0, 0))
    return Work(
        once=lambda: mapped(parameters, prepared.ids, prepared.mask, prepared.targets),
        squares=lambda found: squared_norms(found.values()),
    )


if __name__ == "__main__":
    serve("vmap", work)
