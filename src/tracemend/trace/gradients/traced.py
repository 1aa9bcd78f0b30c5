"""What a model must offer for its examples to be traced."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class Traced(Protocol):
    """An adapted model with a loss an example, such as :class:`tracemend.tuning.TextClassifier`.

    Attributes:
        network: the ``PeftModel``.
        labels: names of the classes; none where the loss is not about classes.
    """

    network: Any
    labels: tuple[str, ...]

    @property
    def device(self) -> torch.device:
        """Where the network is."""

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """The parameters whose gradients are wanted, by name."""

    def encode(self, pairs: Sequence[tuple[str, str | None]]) -> tuple[list[list[int]], int]:
        """Token ids of each example, and how many examples were cut."""

    def batch(self, rows: Sequence[Sequence[int]]) -> Mapping[str, Tensor]:
        """Padded inputs of these examples, each tensor [batch, ...], on the model's device."""

    def measure(
        self, batch: Mapping[str, Tensor], y: Tensor, *, call: Callable[..., Any] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Loss [B], float64, and logits [B, C], float32, of each example under its label, with autograd.

        Args:
            batch: as :meth:`batch` makes it.
            y: label indices [B].
            call: takes the network's place, with its arguments, where ``torch.func`` maps over examples: nothing may
                then depend on the values of tensors.
        """

    def buckets(self, rows: Sequence[Sequence[int]], size: int) -> list[npt.NDArray[np.int64]]:
        """Positions of the rows in batches of near-equal length."""

    def precision(self, name: str) -> AbstractContextManager[None]:
        """Autocast inside the block, as ``name`` says."""
