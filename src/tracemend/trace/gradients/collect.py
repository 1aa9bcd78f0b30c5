"""Exact per-example gradients of a model's adapter and head over a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tracemend.data import Examples
from tracemend.errors import TraceError, did_you_mean
from tracemend.progress import Progress
from tracemend.trace.gradients.engine import PROJECTED, Batched, Engine, Loop, Pass, evaluation
from tracemend.trace.gradients.layout import Block, Layout, Part, expand, lay_out, squared_norms
from tracemend.trace.gradients.projection import Projection
from tracemend.trace.gradients.room import check_room
from tracemend.trace.gradients.selftest import agreement
from tracemend.trace.gradients.traced import Traced
from tracemend.trace.gradients.vmap import Vmap

Way = Literal["auto", "fast", "vmap", "loop"]
Precision = Literal["fp32", "bf16"]
_REMEDY = (
    "project them (project=64; on disk: tracemend store build --project 64), look at some layers alone "
    "(parts=('layer.5', 'head')), trace fewer examples, or tune with --adapter lora"
)


@dataclass(frozen=True, eq=False)
class Gradients:
    """Gradients of each example's loss, and what else the same pass gives.

    Attributes:
        grads: float32 [n, P], on the CPU; an outer block of the layout holds factors.
        losses: cross-entropy of each example under its label [n], nats; of completions, what their model says.
        logits: over the labels [n, C]; C is 0 for completions.
        y: label indices [n]; zeros for completions.
        uid: ids of the examples [n].
        layout: which columns belong to which parameter.
    """

    grads: Tensor
    losses: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]
    uid: tuple[str, ...]
    layout: Layout

    def __len__(self) -> int:
        return len(self.uid)

    @property
    def norms(self) -> npt.NDArray[np.float32]:
        """Euclidean norm of each gradient [n]."""
        found: npt.NDArray[np.float32] = squared_norms(self.grads, self.layout).sqrt().numpy()
        return found

    @property
    def margins(self) -> npt.NDArray[np.float32]:
        """Logit of the label less the highest other logit [n]; negative where the model decides otherwise.

        Raises:
            TraceError: there are no labels, as with completions.
        """
        if self.logits.shape[1] < 2:
            raise TraceError(f"a margin needs at least two labels, here are {self.logits.shape[1]}; use the losses.")
        rows = np.arange(len(self.y))
        others = self.logits.copy()
        others[rows, self.y] = -np.inf
        found: npt.NDArray[np.float32] = self.logits[rows, self.y] - others.max(axis=1)
        return found

    @property
    def probability(self) -> npt.NDArray[np.float32]:
        """Probability of each example's own label [n]; of completions, the geometric mean over the tokens."""
        found: npt.NDArray[np.float32] = np.exp(-self.losses)
        return found

    def only(self, groups: Iterable[str]) -> Gradients:
        """The same examples with the columns of these groups alone; ``layer`` means all layers.

        Raises:
            TraceError: the adapter has no such group.
        """
        wanted = tuple(groups)
        known = list(dict.fromkeys(block.group for block in self.layout))
        for group in wanted:
            if not any(_within(name, group) for name in known):
                raise TraceError(f"the group {group!r} is {did_you_mean(group, known)}")
        kept = [block for block in self.layout if any(_within(block.group, group) for group in wanted)]
        grads = torch.cat([self.grads[:, block.columns] for block in kept], dim=1)
        return replace(self, grads=grads, layout=lay_out(Part(b.name, b.shape, b.group, b.kind) for b in kept))


def _within(name: str, group: str) -> bool:
    return name == group or (group == "layer" and "layer." in name)


def per_example_gradients(
    classifier: Traced,
    data: Examples,
    *,
    method: Way = "auto",
    batch_size: int = 16,
    precision: Precision = "fp32",
    check: bool = True,
    compact: bool = False,
    parts: Iterable[str] = (),
    project: int | None = None,
    progress: Progress = Progress(),
) -> Gradients:
    """The gradient of each example's loss with respect to the adapter and the head, all in memory.

    Eval mode, examples in batches of near-equal length, every ``.grad`` untouched. For more examples than fit, see
    :func:`gradient_batches`.

    Args:
        method: ``fast`` takes one backward pass a batch and refuses what it cannot do exactly; ``vmap`` maps one over
            the batch with ``torch.func``; ``loop`` takes one an example, for any adapter. ``auto`` is the first of them
            that is exact here, and notes when that is not the fast one.
        precision: ``bf16`` computes under autocast; the gradients then carry three significant digits.
        check: compare a sample with the loop first (cosine >= 0.9999), in fp32 whatever the precision: this proves
            the structure of the fast way, not how much bf16 rounds.
        compact: keep the gradient of a pooled head as its two factors, see
            :class:`~tracemend.trace.gradients.layout.Block`.
        parts: groups of parameters to keep, as :meth:`Gradients.only` names them; none keeps all.
        project: numbers kept of a matrix's long side, see :class:`Projection`; None keeps them whole.

    Returns:
        Rows in the order of ``data``.

    Raises:
        TraceError: the data is empty, its labels are not the classifier's, a gradient is not finite, the fast way was
            demanded and is not exact, or there is no room for so many numbers.

    Example:
        >>> found = per_example_gradients(tuned.classifier, splits.train)
        >>> found.grads.shape, found.layout[0].group
        (torch.Size([500, 4610]), 'prompt')
    """
    groups = tuple(parts)
    batches = gradient_batches(
        classifier,
        data,
        method=method,
        batch_size=batch_size,
        precision=precision,
        check=check,
        compact=compact,
        project=project,
        progress=progress,
    )
    grads, layout = torch.zeros(0), tuple[Block, ...]()
    losses = np.zeros(len(data), dtype=np.float32)
    logits = np.zeros((len(data), len(classifier.labels)), dtype=np.float32)
    for rows, whole in batches:
        part = whole.only(groups) if groups else whole
        if not layout:
            check_room(len(data), part.grads.shape[1], remedy=_REMEDY)
            grads, layout = torch.zeros(len(data), part.grads.shape[1]), part.layout
        grads[torch.as_tensor(rows)] = part.grads
        losses[rows], logits[rows] = part.losses, part.logits
    return Gradients(grads, losses, logits, data.y, tuple(data.uid), layout)


def gradient_batches(
    classifier: Traced,
    data: Examples,
    *,
    method: Way = "auto",
    batch_size: int = 16,
    precision: Precision = "fp32",
    check: bool = True,
    compact: bool = False,
    project: int | None = None,
    progress: Progress = Progress(),
    task: str = "gradients",
) -> Iterator[tuple[npt.NDArray[np.int64], Gradients]]:
    """As :func:`per_example_gradients`, batch by batch: positions in ``data`` and their gradients.

    Memory does not grow with the data. Batches come in the order of length, not of the data.
    """
    if not len(data):
        raise TraceError("there are no examples to trace.")
    if data.labels != classifier.labels:
        raise TraceError(
            f"the data has the labels {', '.join(data.labels) or 'none'} and the model "
            f"{', '.join(classifier.labels) or 'none'}; they must be the same, in the same order."
        )
    if method not in get_args(Way):
        raise TraceError(f"the method {method!r} is {did_you_mean(method, get_args(Way))}")
    rows, _ = classifier.encode(data.pairs)
    y = torch.tensor(data.y, device=classifier.device)
    uid = np.array(data.uid, dtype=object)
    with evaluation(classifier.network):
        engine = choose(classifier, rows, y, method=method, check=check, progress=progress)
    projection = None if project is None else Projection(width=project)
    if projection is not None and isinstance(engine, Batched):
        engine, projection = Batched(classifier, PROJECTED, projection=projection), None
    if classifier.device.type == "cpu":  # a GPU without room says so, and the batch is halved
        width = sum(block.size for block in engine.layout)
        check_room(min(batch_size, len(data)), width, times=2, remedy=f"give a batch size below {batch_size}")
    passes = (
        one
        for part in progress.track(classifier.buckets(rows, batch_size), task=task)
        for one in _passes(engine, classifier, rows, y, part, precision)
    )
    for part, found in passes:
        finite = torch.isfinite(found.gradients.sum(dim=1)).cpu().numpy()
        if not finite.all():
            raise TraceError(
                f"the gradient of example {uid[part][~finite][0]} is not finite; "
                "tune with a lower --learning-rate, or trace with precision fp32."
            )
        grads, layout = (found.gradients, engine.layout) if compact else expand(found.gradients, engine.layout)
        whole = Gradients(
            grads.cpu(),
            found.losses.cpu().numpy(),
            found.logits.cpu().numpy(),
            data.y[part],
            tuple(uid[part]),
            layout,
        )
        yield part, whole if projection is None else projection.gradients(whole)


def _passes(
    engine: Engine, traced: Traced, rows: list[list[int]], y: Tensor, part: npt.NDArray[np.int64], precision: Precision
) -> Iterator[tuple[npt.NDArray[np.int64], Pass]]:
    """One pass over a batch, or over its halves where the device has no room for the whole."""
    try:
        # Entered for each batch: a consumer that stops half-way must not leave the network in another mode.
        with evaluation(traced.network), traced.precision(precision):
            found = engine([rows[i] for i in part], y[torch.as_tensor(part, device=y.device)])
    except torch.OutOfMemoryError as error:
        if len(part) == 1:
            raise TraceError(
                f"{traced.device} has no room for the gradient of one example of {len(rows[part[0]])} tokens; tune "
                "with a smaller --max-length, or name another device in TRACEMEND_DEVICE."
            ) from error
    else:
        yield part, found
        return
    for half in np.array_split(part, 2):
        yield from _passes(engine, traced, rows, y, half, precision)


def choose(
    traced: Traced,
    rows: list[list[int]],
    y: Tensor,
    *,
    method: Way = "auto",
    check: bool = True,
    progress: Progress = Progress(),
) -> Engine:
    """The fastest engine that is exact for this model.

    Raises:
        TraceError: ``method`` names a way that is not exact here.
    """
    if method == "loop":
        return Loop(traced)
    faults: list[str] = []
    for name, way in (("fast", Batched), ("vmap", Vmap)):
        if method not in ("auto", name):
            continue
        try:
            engine = way(traced)
            fault = agreement(engine, rows, y) if check else None
        except TraceError as error:
            fault = str(error)
        else:
            if fault is None:
                if faults:
                    progress.note("gradients fall back to torch.func.vmap", reason=faults[0])
                return engine
        faults.append(fault)
    if method != "auto":
        raise TraceError(f"gradients with method={method!r} are refused: {faults[0]}")
    progress.note("gradients fall back to one example at a time", reason="; ".join(faults))
    return Loop(traced)
