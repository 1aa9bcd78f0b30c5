"""One example at a time, as LESS and DataInf collect gradients: forward, backward, copy what each parameter got."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.case import Prepared
from benchmarks.peers.protocol import Work, serve, squared_norms


def work(prepared: Prepared, request: dict[str, Any]) -> Work:
    """Rows [B, P] of all trainable parameters."""
    parameters = list(prepared.classifier.trainable().values())

    def once() -> Tensor:
        rows = []
        for i in range(len(prepared.ids)):
            one = slice(i, i + 1)
            outputs = prepared.model(prepared.ids[one], prepared.mask[one])
            prepared.losses(outputs, prepared.targets[one]).sum().backward()
            rows.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]))
            prepared.model.zero_grad(set_to_none=True)
        return torch.stack(rows)

    return Work(once=once, squares=lambda rows: squared_norms([rows]))


if __name__ == "__main__":
    serve("loop", work)
