"""A pretrained model with an adapter: what classifiers and models that write have in common."""

from __future__ import annotations

import copy
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tracemend.errors import TuningError
from tracemend.models import LanguageModel
from tracemend.runs import fingerprint
from tracemend.tuning.adapters import Kind

Pair = tuple[str, str | None]
PROMPTS = ("prompt", "p-tuning", "prefix")


def twin(network: Any) -> Any:
    """A second tree of modules over the same tensors, so that an adapter changes nothing in the first one."""
    shared: dict[int, Tensor] = {id(buffer): buffer for buffer in network.buffers()}
    # Parameters of its own over the same storage: PEFT freezes what it wraps, and a Trainer moves it.
    shared |= {id(p): torch.nn.Parameter(p.detach(), requires_grad=p.requires_grad) for p in network.parameters()}
    return copy.deepcopy(network, memo=shared)


class Adapted(ABC):
    """An adapted model with a loss an example: what is tuned, kept in checkpoints and traced.

    Attributes:
        network: the ``PeftModel``; what requires grad is the adapter and the head.
        language_model: what it was made from.
        labels: names of the classes; none where the loss is not about classes.
        kind: of adapter.
        virtual_tokens: length of its prompt or prefix.
        max_length: the most tokens of one example, without virtual tokens.
        loss: what the loss of an example is, in words; a store of gradients says so.
    """

    loss: str
    network: Any
    language_model: LanguageModel
    labels: tuple[str, ...]
    kind: Kind
    virtual_tokens: int
    max_length: int

    @abstractmethod
    def encode(self, pairs: Sequence[Pair]) -> tuple[list[list[int]], int]:
        """Token ids of each example, and how many examples were cut to ``max_length``."""

    @abstractmethod
    def batch(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Padded inputs of these examples, each tensor [batch, ...], on the network's device."""

    @abstractmethod
    def measure(
        self, batch: Mapping[str, Tensor], y: Tensor, *, call: Callable[..., Any] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Loss of each example [batch], in double precision, and logits [batch, C], with autograd."""

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        found: torch.device = next(self.network.parameters()).device
        return found

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """The adapter's and head's parameters by name."""
        return {name: p for name, p in self.network.named_parameters() if p.requires_grad}

    @property
    def fingerprint(self) -> str:
        """Sha256 (16 hex digits) over the model, the labels and what was tuned."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.float().contiguous().numpy().tobytes())
        return fingerprint(self.language_model.fingerprint, self.labels, digest.hexdigest())

    def state(self) -> dict[str, Tensor]:
        """A copy of the trainable parameters by name: what a checkpoint holds."""
        return {name: p.detach().to("cpu", copy=True) for name, p in self.trainable().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Put a checkpoint's parameters back.

        Raises:
            TuningError: the state is of another adapter.
        """
        own = self.trainable()
        if set(own) != set(state) or any(own[n].shape != state[n].shape for n in own):
            raise TuningError(
                "the checkpoint is of another adapter: its parameters do not fit this model; "
                "build it with the configuration the checkpoint was made with."
            )
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])

    def padded(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Token ids and attention mask of right-padded rows [batch, longest, up to a multiple of 8]."""
        # Few different lengths: bfloat16 kernels on a CPU are compiled anew for every shape.
        longest = max(len(row) for row in rows)
        longest = max(longest, min(-(-longest // 8) * 8, self.max_length))
        pad = self.language_model.tokenizer.pad_token_id
        ids = torch.full((len(rows), longest), pad, dtype=torch.long)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        return ids.to(self.device), mask.to(self.device)

    def buckets(self, rows: Sequence[Sequence[int]], size: int) -> list[npt.NDArray[np.int64]]:
        """Positions of the rows in batches of near-equal length."""
        order = np.argsort([len(row) for row in rows], kind="stable")
        return [order[i : i + size] for i in range(0, len(order), size)]

    @contextmanager
    def precision(self, name: str) -> Iterator[None]:
        """Autocast to bfloat16 inside the block where ``name`` is ``"bf16"``."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=name == "bf16"):
            yield
