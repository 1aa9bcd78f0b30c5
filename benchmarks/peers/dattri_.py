"""dattri: ``TracInAttributor.self_attribute`` of the batch."""

from __future__ import annotations

from typing import Any

import torch
from dattri.algorithm.tracin import TracInAttributor
from dattri.task import AttributionTask
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.peers.case import Prepared
from benchmarks.peers.protocol import Work, serve


def work(prepared: Prepared, request: dict[str, Any]) -> Work:
    """Self-influence [B] of the trainable parameters."""
    model = prepared.model
    model.unmask()

    def loss(parameters: dict[str, Tensor], example: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        ids, mask, target = example
        outputs = torch.func.functional_call(model, parameters, (ids[None], mask[None]))
        return prepared.losses(outputs, target[None])[0]

    task = AttributionTask(
        loss_func=loss,
        model=model,
        checkpoints=["loaded"],
        checkpoints_load_func=lambda model, checkpoint: model,  # it is in place
    )
    attributor = TracInAttributor(task=task, weight_list=torch.ones(1), normalized_grad=False, device="cpu")
    # Given None, it falls back to a projection on 512 dimensions, which costs time and exactness.
    attributor.projector_kwargs = None
    data = TensorDataset(prepared.ids, prepared.mask, prepared.targets)
    batches = DataLoader(data, batch_size=len(prepared.ids), shuffle=False)
    return Work(once=lambda: attributor.self_attribute(batches), squares=lambda found: found)


if __name__ == "__main__":
    serve("dattri", work)
