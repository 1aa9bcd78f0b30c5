"""What a training's own forward and backward passes tell of each example."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tracemend.errors import TraceError
from tracemend.trace.gradients.engine import LISTENING, Batched
from tracemend.trace.gradients.layout import Layout
from tracemend.trace.gradients.tap import Tap
from tracemend.tuning import Adapted

ROW = "row"


@dataclass(frozen=True, eq=False)
class Seen:
    """The examples of one batch.

    Attributes:
        row: their positions in the training set [B], int64.
        grads: what each added to the gradient of the optimizer step [B, P], float32, outer blocks as factors.
        losses: cross-entropy of each [B], nats, float32; NaN where the batch gave the network no labels.
    """

    row: Tensor
    grads: Tensor
    losses: Tensor


@dataclass(eq=False)
class _Pass:
    """A forward pass and the gradients that come back through it."""

    row: Tensor
    losses: Tensor
    inputs: list[list[tuple[str, Tensor]]]
    gradients: list[list[Tensor]]
    trained: bool = False

    def receive(self, tap: int, place: int) -> Callable[[Tensor], None]:
        def keep(gradient: Tensor) -> None:
            self.gradients[tap][place] = gradient
            self.trained = True

        return keep


class Capture:
    """Listens to a network that another trains: every gradient and every parameter stays what it would be without.

    Forward hooks see what enters the adapter's layers, tensor hooks the gradients at their outputs; the taps of
    :mod:`tracemend.trace.gradients` make rows of them. The batches name their examples under ``row``, which the
    network itself never sees.

    Args:
        classifier: its network is listened to between :meth:`attach` and :meth:`detach`, in training passes only.

    Raises:
        TraceError: the adapter has parameters whose gradients cannot be told apart by example.
    """

    def __init__(self, classifier: Adapted) -> None:
        self.classifier = classifier
        try:
            batched = Batched(classifier, LISTENING)
        except TraceError as error:
            raise TraceError(
                f"the examples of a training batch cannot be told apart here ({error}); leave gradients=True out and "
                "trace the checkpoints."
            ) from error
        self.layout: Layout = batched.layout
        self._taps: list[Tap] = batched.taps
        for tap in self._taps:
            tap.live = True
        # Lives as long as the hooks do.
        self.owner: object = None
        self._network_hooks: list[RemovableHandle] = []
        self._tap_hooks: list[RemovableHandle] = []
        self._row: Tensor | None = None
        self._passes: list[_Pass] = []
        self._norms: dict[str, Tensor] = {}

    def attach(self, *, norms: bool) -> None:
        """Begin to listen.

        Args:
            norms: keep the norms of the parameters' gradients as well, for :meth:`norm`.
        """
        network: nn.Module = self.classifier.network
        self._network_hooks = [
            network.register_forward_pre_hook(self._before, with_kwargs=True),
            network.register_forward_hook(self._after, with_kwargs=True),
        ]
        for name, parameter in self.classifier.trainable().items() if norms else ():
            keep = self._keep_norm(name)
            self._network_hooks.append(parameter.register_post_accumulate_grad_hook(keep))

    def detach(self) -> None:
        """Take every hook off."""
        for handle in [*self._network_hooks, *self._tap_hooks]:
            handle.remove()
        self._network_hooks, self._tap_hooks = [], []
        self._passes, self._norms, self._row, self.owner = [], {}, None, None

    def norm(self) -> Tensor | None:
        """Euclidean norm of the step's gradient before it was clipped, or None where it was not asked for."""
        found, self._norms = self._norms, {}
        return torch.stack(list(found.values())).norm() if found else None

    @torch.no_grad()
    def take(self) -> list[Seen]:
        """Batches that went forward and backward since the last call."""
        found = []
        for one in self._passes:
            if not one.trained:
                continue
            parts = []
            for tap, inputs, gradients in zip(self._taps, one.inputs, one.gradients, strict=True):
                tap.inputs = inputs
                parts.append(tap.rows(gradients, len(one.row)))
                tap.inputs = []
            found.append(Seen(one.row, torch.cat(parts, dim=1), one.losses))
        self._passes = []
        return found

    def _before(self, network: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        self._release()
        row = kwargs.get(ROW)
        if network.training and torch.is_grad_enabled():
            if row is None:
                raise TraceError(
                    f"the batches do not say which examples they hold: give each its position in the training set "
                    f"under {ROW!r}, the Trainer `data_collator=trace.collator(...)` around your collator, and its "
                    "arguments `remove_unused_columns=False`."
                )
            self._row = torch.as_tensor(row)
            # On for this one pass: what gradient checkpointing computes again is not counted again.
            self._tap_hooks = [handle for tap in self._taps for handle in tap.hook()]
        return args, {name: value for name, value in kwargs.items() if name != ROW}

    def _after(self, network: nn.Module, args: Any, kwargs: Mapping[str, Any], output: Any) -> None:
        if self._row is None:
            return
        roots = [tap.roots for tap in self._taps]
        one = _Pass(
            self._row,
            _losses(output, kwargs.get("labels"), len(self._row), self.classifier.language_model.family),
            [tap.inputs for tap in self._taps],
            # What a layer that the loss does not depend on counts for; one number in memory, whatever the shape.
            [[root.new_zeros(()).expand(root.shape) for root in own] for own in roots],
        )
        self._release()
        for t, own in enumerate(roots):
            for i, root in enumerate(own):
                if not root.requires_grad:
                    raise TraceError(
                        f"no gradient comes back through {self._taps[t].parts[0].name}; with gradient checkpointing, "
                        "set gradient_checkpointing_kwargs={'use_reentrant': False}."
                    )
                root.register_hook(one.receive(t, i))
        self._passes.append(one)

    def _release(self) -> None:
        for handle in self._tap_hooks:
            handle.remove()
        self._tap_hooks, self._row = [], None
        for tap in self._taps:
            tap.roots, tap.inputs = [], []

    def _keep_norm(self, name: str) -> Callable[[Tensor], None]:
        def keep(parameter: Tensor) -> None:
            if parameter.grad is not None:
                self._norms[name] = parameter.grad.norm()

        return keep


@torch.no_grad()
def _losses(output: Any, labels: Tensor | None, batch: int, family: str) -> Tensor:
    """Cross-entropy of each example under its labels [B], the mean over its labelled tokens where it has several."""
    logits = output.logits.detach()
    if labels is None:
        return torch.full((batch,), torch.nan)
    if logits.ndim == 2:
        return nn.functional.cross_entropy(logits.float(), labels, reduction="none")
    # A soft prompt stands in front of the tokens and has no labels.
    logits = logits[:, -labels.shape[1] :]
    if family == "decoder":
        logits, labels = logits[:, :-1], labels[:, 1:]
    told = labels != -100
    each = nn.functional.cross_entropy(logits[told].float(), labels[told], reduction="none")
    example = told.nonzero()[:, 0]
    total = torch.zeros(batch, device=logits.device).index_add_(0, example, each)
    return total / told.sum(1).clamp(min=1)
