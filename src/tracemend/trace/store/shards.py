"""A shard of the gradient store: its file, and the examples that are read from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tracemend.errors import TraceError
from tracemend.models import shards
from tracemend.models.shards import digest, memory, write_shard

__all__ = ["DTYPES", "Shard", "ShardFile", "digest", "memory", "write_shard"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, eq=False)
class Shard:
    """The examples of a shard.

    Attributes:
        rows: their positions in the data [n].
        grads: gradients [n, P] in the stored dtype, on the CPU; outer blocks hold factors.
        loss: under their labels [n], nats.
        norm: Euclidean norm of each gradient [n], from before it was rounded to the stored dtype.
        logits: [n, C].
        label: label indices [n].
    """

    rows: npt.NDArray[np.int64]
    grads: Tensor
    loss: npt.NDArray[np.float32]
    norm: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    label: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)


class ShardFile(shards.ShardFile):
    """An open shard of a gradient store."""

    error = TraceError
    if_missing = "give the command that builds the store again, it goes on."
    if_damaged = "`tracemend store verify --repair` deletes what is damaged, and the next build computes it again."
