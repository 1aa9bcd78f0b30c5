"""opacus: ``GradSampleModule`` leaves the gradient of each example in ``parameter.grad_sample``."""

from __future__ import annotations

from typing import Any

import torch
from opacus import GradSampleModule
from torch import Tensor

from benchmarks.peers.case import Prepared
from benchmarks.peers.protocol import Work, serve, squared_norms


def work(prepared: Prepared, request: dict[str, Any]) -> Work:
    """Gradients by parameter, each [B, ...]."""
    # It captures nothing outside of training mode, so randomness is taken out and training mode switched on.
    for module in prepared.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    wrapped = GradSampleModule(prepared.model, batch_first=True, loss_reduction="sum")
    wrapped.train()
    parameters = list(prepared.classifier.trainable().values())

    def once() -> list[Tensor]:
        wrapped.zero_grad(set_to_none=True)
        prepared.losses(wrapped(prepared.ids, prepared.mask), prepared.targets).sum().backward()
        return [p.grad_sample for p in parameters]  # type: ignore[attr-defined]

    def squares(found: list[Tensor]) -> Tensor:
        wrong = next((g for g in found if len(g) != len(prepared.ids)), None)
        if wrong is not None:
            raise ValueError(f"grad_sample is {list(wrong.shape)} for a batch of {len(prepared.ids)}")
        return squared_norms(found)

    return Work(once=once, squares=squares)


if __name__ == "__main__":
    serve("opacus", work)
