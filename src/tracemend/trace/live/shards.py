"""Gradients of a training on their way to disk: one thread, bounded memory, immutable shards."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import Any, Literal, Self

import pandas as pd
import torch
from safetensors.torch import save
from torch import Tensor

from tracemend.errors import TraceError
from tracemend.runs import atomic, fingerprint, read_json, write_json, write_parquet
from tracemend.trace.gradients.layout import Layout, squared_norms
from tracemend.trace.live.capture import Seen

SCHEMA = 1
# What a killed training loses at most, and what the writer holds.
SHARD_BYTES = 16 * 2**20
_STEPS_WAITING = 4

Dtype = Literal["bfloat16", "float32"]


@dataclass(frozen=True, eq=False)
class Step:
    """One optimizer step.

    Attributes:
        number: optimizer steps taken before it.
        lr: learning rate.
        clip: what clipping multiplied the gradient by; None without clipping.
        seen: its batches.
    """

    number: int
    lr: float
    clip: Tensor | None
    seen: Sequence[Seen]


class ShardWriter:
    """Writes ``shard-N.safetensors`` in a folder while the training goes on.

    Steps are handed over with :meth:`put`; where the disk falls behind by a few of them, the training waits. Whatever
    goes wrong in the thread is raised, once, by the next call.

    Args:
        first: number of the first shard.
        examples: the number of examples in the training set, None where it is not known.
    """

    def __init__(
        self, folder: Path, layout: Layout, dtype: Dtype, *, first: int = 0, examples: int | None = None
    ) -> None:
        self.folder = folder
        self._layout = layout
        self._examples = examples
        self._next = first
        width = sum(block.size for block in layout)
        kind = getattr(torch, dtype)
        self._grads = torch.empty(max(1, SHARD_BYTES // (width * kind.itemsize)), width, dtype=kind)
        self._scaled = _linear_columns(layout, width)
        self._facts: list[dict[str, Tensor]] = []
        self._filled = 0
        self._error: Exception | None = None
        self._queue: Queue[Step | Event | None] = Queue(maxsize=_STEPS_WAITING)
        self._thread = Thread(target=self._run, name="tracemend-live", daemon=True)
        self._thread.start()
        # A training that ends by an exception leaves nothing unwritten when the process ends.
        self._exit = weakref.finalize(self, _finish, self._queue, self._thread)

    @classmethod
    def open(
        cls,
        folder: Path,
        layout: Layout,
        dtype: Dtype,
        *,
        step: int,
        fingerprints: Mapping[str, str],
        uid: Sequence[str] | None,
    ) -> Self:
        """A writer for a training that begins or resumes at ``step``; a manifest says where.

        Raises:
            TraceError: the folder holds the gradients of another training.
        """
        blocks = [asdict(block) for block in layout]
        identity = {"schema": SCHEMA, "dtype": dtype, "fingerprints": dict(fingerprints), "layout": blocks}
        path = folder / "manifest.json"
        attempts: list[dict[str, int]] = []
        if path.exists():
            there = read_json(path)
            differing = [key for key in identity if fingerprint(there.get(key)) != fingerprint(identity[key])]
            if step == 0 or differing:
                raise TraceError(
                    f"{folder} holds the gradients of another training"
                    f"{' (' + ', '.join(differing) + ' differ)' if differing else ''}; name a new folder."
                )
            attempts = there["attempts"]
        first = 1 + max((int(p.name[6:12]) for p in folder.glob("shard-*.safetensors")), default=-1)
        for unfinished in folder.glob(".shard-*.tmp"):  # of a training that was killed
            unfinished.unlink()
        if uid is not None:
            write_parquet(folder / "rows.parquet", pd.DataFrame({"row": range(len(uid)), "uid": list(uid)}))
        write_json(path, {**identity, "attempts": [*attempts, {"step": step, "shard": first}]})
        return cls(folder, layout, dtype, first=first, examples=None if uid is None else len(uid))

    def put(self, step: Step) -> None:
        """Hand one step over."""
        self._check()
        self._queue.put(step)

    def flush(self) -> None:
        """Have everything handed over on disk."""
        done = Event()
        self._queue.put(done)
        done.wait()
        self._check()

    def close(self) -> None:
        """Write the rest and end the thread; further calls do nothing."""
        self._exit()
        self._check()

    def _check(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        failed = False
        while True:
            given = self._queue.get()
            try:
                if isinstance(given, Step) and not failed:
                    self._add(given)
                elif not failed:
                    self._write()
            except Exception as error:  # raised in the training's own thread; what still comes is let go
                self._error, failed = error, True
            if isinstance(given, Event):
                given.set()
            if given is None:
                return

    @torch.no_grad()
    def _add(self, step: Step) -> None:
        count = sum(len(seen.row) for seen in step.seen)
        for seen in step.seen:
            row = seen.row.cpu().long()
            if self._examples is not None and len(row) and not 0 <= int(row.min()) <= int(row.max()) < self._examples:
                raise TraceError(
                    f"a batch holds the row {int(row.max())}, but only {self._examples} examples were named; "
                    "rows count from 0 in the order of `uid`."
                )
            grads = seen.grads.cpu()
            # The mean over the step's examples is the step's gradient, whatever the loss and its weights.
            grads = torch.where(self._scaled, grads * count, grads)
            facts = {
                "row": row,
                "step": torch.full((len(row),), step.number),
                "lr": torch.full((len(row),), step.lr, dtype=torch.float64),
                "clip": torch.full((len(row),), 1.0 if step.clip is None else float(step.clip)),
                "share": torch.full((len(row),), 1.0 / count, dtype=torch.float64),
                "loss": seen.losses.cpu().float(),
                "norm": squared_norms(grads, self._layout).sqrt(),
            }
            self._append(grads, facts)

    def _append(self, grads: Tensor, facts: Mapping[str, Tensor]) -> None:
        done = 0
        while done < len(grads):
            part = slice(done, done + min(len(self._grads) - self._filled, len(grads) - done))
            size = part.stop - part.start
            self._grads[self._filled : self._filled + size].copy_(grads[part])
            self._facts.append({name: values[part] for name, values in facts.items()})
            self._filled += size
            done += size
            if self._filled == len(self._grads):
                self._write()

    def _write(self) -> None:
        if not self._filled:
            return
        tensors = {name: torch.cat([facts[name] for facts in self._facts]) for name in self._facts[0]}
        tensors["grads"] = self._grads[: self._filled]
        with atomic(self.folder / f"shard-{self._next:06d}.safetensors", "wb") as file:
            file.write(save(tensors))
        self._next += 1
        self._facts, self._filled = [], 0


def _finish(queue: Queue[Any], thread: Thread) -> None:
    queue.put(None)
    thread.join()


def _linear_columns(layout: Layout, width: int) -> Tensor:
    """Columns that grow with the gradient [P]: all but the inputs in the factors of an outer block."""
    found = torch.ones(width, dtype=torch.bool)
    for block in layout:
        if block.kind == "outer":
            found[block.offset : block.offset + block.shape[1]] = False
    return found
