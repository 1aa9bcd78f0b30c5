"""One pass over a batch: gradients, losses and logits of each example."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from tracemend.errors import TraceError
from tracemend.trace.gradients.embedding import EmbeddingTap
from tracemend.trace.gradients.head import HeadTap
from tracemend.trace.gradients.ia3 import Ia3Tap
from tracemend.trace.gradients.layout import Layout, Part, group_of, lay_out
from tracemend.trace.gradients.linear import LinearTap
from tracemend.trace.gradients.lora import LoraTap
from tracemend.trace.gradients.norm import NormTap
from tracemend.trace.gradients.prefix import PrefixTap
from tracemend.trace.gradients.projection import Projection
from tracemend.trace.gradients.prompt import PromptTap
from tracemend.trace.gradients.tap import Tap
from tracemend.trace.gradients.traced import Traced

# In the order they are asked; each takes what it can answer for, the next ones see the rest. The ones that may listen
# to another's training passes as well, and those for passes of our own.
LISTENING: tuple[type[Tap], ...] = (PromptTap, PrefixTap, Ia3Tap, HeadTap, LinearTap)
TAPS: tuple[type[Tap], ...] = (*LISTENING[:-1], LoraTap, LinearTap, NormTap, EmbeddingTap)
# A head's two factors are no matrix to project.
PROJECTED: tuple[type[Tap], ...] = tuple(kind for kind in TAPS if kind is not HeadTap)


@dataclass(frozen=True, eq=False)
class Pass:
    """What one pass gives: gradients [B, P], losses [B] and logits [B, C], float32, detached, on the model's device.

    Gradients are laid out as the engine says, outer blocks as factors.
    """

    gradients: Tensor
    losses: Tensor
    logits: Tensor


class Engine(Protocol):
    """A way to per-example gradients."""

    layout: Layout

    def __call__(self, rows: Sequence[Sequence[int]], y: Tensor) -> Pass:
        """The gradients of the examples with these token ids [B] and labels [B]."""


class Loop:
    """The reference: one backward pass an example, any adapter, exact by construction.

    Rows hold the gradients of all trainable parameters, in the order of :func:`trainable`.
    """

    def __init__(self, traced: Traced) -> None:
        self.traced = traced
        self.parameters = trainable(traced)
        self.layout = lay_out(Part(name, tuple(p.shape), group_of(name)) for name, p in self.parameters.items())

    def __call__(self, rows: Sequence[Sequence[int]], y: Tensor) -> Pass:
        found = [self._one(row, y[i : i + 1]) for i, row in enumerate(rows)]
        return Pass(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _one(self, row: Sequence[int], y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        loss, logits = self.traced.measure(self.traced.batch([row]), y)
        wanted = list(self.parameters.values())
        found = torch.autograd.grad(loss.sum(), wanted, allow_unused=True, materialize_grads=True)
        flat = torch.cat([g.flatten().float() for g in found])
        return flat[None], loss.detach().float(), logits.detach()


class Batched:
    """The fast way: one backward pass a batch, through the taps that fit the adapter.

    Args:
        kinds: of taps, in the order they are asked.
        projection: of the rows; whole matrices are then not made where a tap can do without.

    Raises:
        TraceError: no tap answers for some of the trainable parameters; the message names one.
    """

    def __init__(
        self, traced: Traced, kinds: Sequence[type[Tap]] = TAPS, *, projection: Projection | None = None
    ) -> None:
        self.traced = traced
        self.projection = projection
        free: dict[str, torch.nn.Parameter] = dict(trainable(traced))
        self.taps: list[Tap] = []
        for kind in kinds:
            tap = kind.claim(traced.network, free)
            if tap is not None:
                self.taps.append(tap)
                free = {name: p for name, p in free.items() if name not in tap.names}
        if free:
            raise TraceError(
                f"no batched gradient is known for {next(iter(free))} ({len(free)} such parameters); use method='loop'."
            )
        parts = [part for tap in self.taps for part in tap.parts]
        self.layout = lay_out(parts) if projection is None else projection.layout(parts)
        for tap in self.taps:
            tap.projection = projection

    def __call__(self, rows: Sequence[Sequence[int]], y: Tensor) -> Pass:
        with ExitStack() as hooks:
            for tap in self.taps:
                hooks.enter_context(tap.attached())
            batch = self.traced.batch(rows)
            try:
                losses, logits = self.traced.measure(batch, y)
                roots = [root for tap in self.taps for root in tap.roots]
                found = torch.autograd.grad(losses.sum(), roots)
            except torch.OutOfMemoryError:  # a smaller batch may have room
                raise
            except RuntimeError as error:
                raise TraceError(f"these gradients cannot be had in batches ({error}); use method='loop'.") from error
            parts = []
            for tap in self.taps:
                own, found = found[: len(tap.roots)], found[len(tap.roots) :]
                part = tap.rows(own, len(rows))
                if self.projection is not None and not tap.projects:
                    part = self.projection.rows(part, lay_out(tap.parts))
                parts.append(part)
        return Pass(torch.cat(parts, dim=1), losses.detach().float(), logits.detach())

    def chain(self, row: Tensor) -> Mapping[str, Tensor]:
        """Gradients by parameter name that one row [P] stands for."""
        found: dict[str, Tensor] = {}
        offset = 0
        for tap in self.taps:
            size = sum(block.size for block in lay_out(tap.parts))
            found |= tap.chain(row[offset : offset + size])
            offset += size
        return found


def trainable(traced: Traced) -> dict[str, torch.nn.Parameter]:
    """The model's trainable parameters by name, a prompt before the head, as rows hold them.

    Raises:
        TraceError: there are none, or they do not lie together.
    """
    found = traced.trainable()
    if not found:
        raise TraceError("the adapter has no trainable parameter; load it with is_trainable=True to trace it.")
    devices = sorted({str(p.device) for p in found.values()})
    if len(devices) > 1 or devices == ["meta"]:
        raise TraceError(
            f"the adapter's parameters lie on {' and '.join(devices)} (meta: on disk), since device_map spread the "
            "model so; an adapter that lies on one device can be traced, as a prompt does. Tune a prompt, or load the "
            "model onto one device."
        )
    return dict(sorted(found.items(), key=lambda item: not item[0].startswith("prompt_encoder.")))


@contextmanager
def evaluation(network: Any) -> Iterator[None]:
    """Eval mode with autograd inside the block; every module's mode is put back after it."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        with torch.enable_grad():
            yield
    finally:
        for module in training:
            module.training = True
