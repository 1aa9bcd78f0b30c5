"""Stores of made-up gradients, held in memory, that scoring reads as it reads those on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from tracemend.trace import Gradients
from tracemend.trace.gradients.layout import Layout, Part, lay_out, squared_norms
from tracemend.trace.scoring import HeldQueries

# A prompt, two matrices of an adapter, a vector and a pooled head with weight and bias: (out, in + 1) = (3, 5).
LAYOUT = lay_out(
    [
        Part("prompt", (2, 4), "prompt"),
        Part("layer.0.A", (2, 6), "layer.0"),
        Part("layer.0.B", (6, 2), "layer.0"),
        Part("layer.1.l", (5,), "layer.1"),
        Part("head", (3, 5), "head", "outer"),
    ]
)


@dataclass
class Held:
    rows: np.ndarray
    grads: Tensor
    norm: np.ndarray


@dataclass
class HeldStore:
    """Gradients in memory behind the interface of a store; counts what is read."""

    grads: Sequence[Tensor]
    layout: Layout = LAYOUT
    shard_rows: int = 7
    dtype: str = "float32"
    moments: Sequence[Mapping[str, Tensor]] = ()
    weights: Sequence[float] = (0.5, 0.25, 2.0)
    gone: Mapping[int, list[int]] = field(default_factory=dict)
    fails_at: int = -1
    reads: list[tuple[int, int]] = field(default_factory=list)
    path: Path = Path("made-up")

    def __post_init__(self) -> None:
        n = len(self.grads[0])
        self.order = np.random.default_rng(3).permutation(n)
        columns = {"row": self.order, "uid": [f"u{i}" for i in self.order], "label": "safe"}
        self.rows = pd.DataFrame({**columns, "shard": np.arange(n) // self.shard_rows})
        checkpoints = [{"lr_sum": w, "step": 3 * i + 3} for i, w in enumerate(self.weights[: len(self.grads)])]
        self.manifest: dict[str, Any] = {"checkpoints": checkpoints, "dtype": self.dtype}

    def missing(self, checkpoint: int) -> list[int]:
        return self.gone.get(checkpoint, [])

    def second_moments(self, checkpoint: int) -> Mapping[str, Tensor]:
        return self.moments[checkpoint] if self.moments else {}

    def read(self, checkpoint: int, shard: int, out: Tensor | None = None, *, part: slice = slice(None)) -> Held:
        if shard == self.fails_at:
            raise KeyboardInterrupt
        self.reads.append((checkpoint, shard))
        rows = self.order[shard * self.shard_rows : (shard + 1) * self.shard_rows][part]
        held = self.grads[checkpoint][torch.as_tensor(rows)]
        assert out is not None
        out[: len(rows)] = held
        return Held(rows, out[: len(rows)], squared_norms(held.float(), self.layout).sqrt().numpy())


def rows_of(n: int, seed: int, layout: Layout = LAYOUT) -> Tensor:
    width = sum(block.size for block in layout)
    rows = torch.randn(n, width, generator=torch.Generator().manual_seed(seed))
    for block in layout:
        if block.kind == "outer":
            rows[:, block.offset + block.shape[1] - 1] = 1.0
    return rows


def gradients_of(rows: Tensor, layout: Layout = LAYOUT) -> Gradients:
    n = len(rows)
    return Gradients(
        rows,
        np.ones(n, dtype=np.float32),
        np.zeros((n, 2), dtype=np.float32),
        np.zeros(n, dtype=np.int64),
        tuple(f"q{i}" for i in range(n)),
        layout,
    )


@pytest.fixture
def store() -> HeldStore:
    """25 rows at 3 checkpoints."""
    return HeldStore([rows_of(25, seed) for seed in range(3)])


@pytest.fixture
def queries() -> HeldQueries:
    """6 queries at 3 checkpoints."""
    return HeldQueries([gradients_of(rows_of(6, 10 + seed)) for seed in range(3)])
