"""captum: ``TracInCP.self_influence`` of the batch, from its Jacobian row by row or from hooks on linear layers."""

from __future__ import annotations

from typing import Any

import torch
from captum.influence import TracInCP
from torch import Tensor
from torch.utils.data import TensorDataset

from benchmarks.peers.case import Prepared
from benchmarks.peers.protocol import Work, serve


class _Loss(torch.nn.Module):
    """Losses under the name of the reduction that captum looks for."""

    def __init__(self, prepared: Prepared, reduction: str) -> None:
        super().__init__()
        self.prepared, self.reduction = prepared, reduction

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = self.prepared.losses(outputs, targets)
        return losses if self.reduction == "none" else losses.sum()


def work(prepared: Prepared, request: dict[str, Any]) -> Work:
    """Self-influence [B]; ``"variant": "hooks"`` takes the path with hooks."""
    hooks = request.get("variant") == "hooks"
    # The modules that own a trainable parameter; all of their parameters are trainable.
    names = [name for name, p in prepared.model.named_parameters() if p.requires_grad]
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    if hooks:
        # Its hooks sit on what enters a layer, which in front of the first adapter has no gradient by itself.
        prepared.classifier.network.enable_input_require_grads()
    tracin = TracInCP(
        prepared.model,
        TensorDataset(prepared.ids, prepared.mask, prepared.targets),
        checkpoints=["loaded"],
        # The one checkpoint is in place; captum would load it again for every batch.
        checkpoints_load_func=lambda model, checkpoint: 1.0,
        layers=layers,
        loss_fn=_Loss(prepared, "sum" if hooks else "none"),
        batch_size=len(prepared.ids),
        sample_wise_grads_per_batch=hooks,
    )
    batch = (prepared.ids, prepared.mask, prepared.targets)
    return Work(
        once=lambda: tracin.self_influence(batch),
        squares=lambda found: found,
        note="its hooks know linear and convolutional layers" if hooks else "",
    )


if __name__ == "__main__":
    serve("captum", work)
