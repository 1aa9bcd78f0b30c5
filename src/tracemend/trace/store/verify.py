"""Is every byte of a store what was written? Finds what is damaged, and clears the way for the next build."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from tracemend.errors import RunError, TraceError
from tracemend.progress import Progress
from tracemend.runs import explained
from tracemend.trace.store.claims import Claims
from tracemend.trace.store.manifest import hashes
from tracemend.trace.store.shards import ShardFile, digest
from tracemend.trace.store.store import GradientStore

_SHARD = re.compile(r"\.?(shard-\d+)\.safetensors(\..*\.tmp)?")


@dataclass(frozen=True)
class Fault:
    """A file that is not as it should be, and why."""

    file: Path
    why: str


def verify(path: Path | str, *, repair: bool = False, progress: Progress = Progress()) -> list[Fault]:
    """Check every shard's hash, shape and rows, in the store and in those it was edited from.

    A missing shard is no fault: the next build computes it. Files that a live process is writing are left alone.

    Args:
        repair: delete what is damaged or strays, so that the next build computes it again.

    Raises:
        RunError: there is no store; or nothing can be deleted there.
        TraceError: its parent is gone, or it was written by another version.

    Example:
        >>> verify("runs/mine/store")
        []
    """
    path = Path(path)
    if not path.is_dir():
        raise RunError(f"{path} does not exist; name the folder of a store.")
    try:
        stores = GradientStore.open(path).chain
    except RunError as error:
        ground = [file for file in (path / "manifest.json", path / "rows.parquet") if file.exists()]
        if not ground:
            raise
        # Both are made from the data again, and then the shards prove by their ids that they belong to them.
        faults = [Fault(file, str(error)) for file in ground]
    else:
        faults = []
        for store in stores:
            faults += _moments(store)
            faults += _shards(store, progress)
            faults += _strays(store)
    if repair:
        for fault in faults:
            with explained(fault.file):
                fault.file.unlink(missing_ok=True)
    return faults


def _shards(store: GradientStore, progress: Progress) -> Iterator[Fault]:
    there = [
        (c, shard)
        for c in range(len(store.manifest["checkpoints"]))
        for shard in store.own
        if store.file(c, shard).exists()
    ]
    for c, shard in progress.track(there, task="verify"):
        why = _why(store, c, shard)
        if why is not None:
            yield Fault(store.file(c, shard), why)


def _why(store: GradientStore, checkpoint: int, shard: int) -> str | None:
    try:
        with ShardFile(store.file(checkpoint, shard)) as file:
            if file.sha256() != file.facts.get("sha256"):
                return "its bytes are not those that were written (sha256 differs)"
            expected = store.facts(checkpoint, shard)
            if {key: file.facts.get(key) for key in expected} != expected:
                return "it is of another store, checkpoint or shard"
            rows = store.rows[store.rows["shard"] == shard]
            if tuple(file.tensors["grads"]["shape"]) != (len(rows), store.width):
                return f"its gradients are {file.tensors['grads']['shape']}, expected {[len(rows), store.width]}"
            if file.tensor("grads").dtype != store.dtype:
                return f"its gradients are {file.tensors['grads']['dtype']}, expected {store.dtype}"
            for name, wanted in (
                ("row", rows["row"].to_numpy()),
                ("text_hash", rows["text"].to_numpy()),
                ("label_hash", hashes(list(rows["label"]))),
            ):
                if not np.array_equal(file.tensor(name).numpy(), wanted):
                    return f"its {name} are not those of the table of rows"
            if not torch.isfinite(file.tensor("grads")).all():
                return "it holds gradients that are not finite"
    except TraceError as error:
        return str(error).removeprefix(f"{store.file(checkpoint, shard)} ")
    return None


def _moments(store: GradientStore) -> Iterator[Fault]:
    if store.parent is not None:
        return
    for c, checkpoint in enumerate(store.manifest["checkpoints"]):
        file = store.moments_file(c)
        if checkpoint["moments"] is None or not file.exists():
            continue
        try:
            found = digest(load_file(file), {})[:16]
        except (OSError, SafetensorError) as error:
            yield Fault(file, f"it cannot be read ({error})")
            continue
        if found != checkpoint["moments"]:
            yield Fault(file, "its bytes are not those that were written (sha256 differs)")


def _strays(store: GradientStore) -> Iterator[Fault]:
    numbers = range(len(store.manifest["checkpoints"]))
    expected = {store.file(c, shard) for c in numbers for shard in store.own}
    expected |= {store.moments_file(c) for c in numbers}
    claims = Claims(store.path / ".claims")
    for file in sorted([*store.path.glob("ckpt-*/*"), *store.path.glob(".*.tmp")]):
        if file in expected or not file.is_file():
            continue
        shard = _SHARD.fullmatch(file.name)
        if file.name.endswith(".tmp"):
            of_checkpoint = "manifest" if file.parent == store.path else f"{file.parent.name}-moments"
            claim = f"{file.parent.name}-{shard.group(1)}" if shard else of_checkpoint
            if not claims.void(claim):
                continue
            yield Fault(file, "a half-written file of a process that was killed")
        else:
            yield Fault(file, "it is no file of this store")
    for file in sorted(store.path.glob(".claims/*")):
        if claims.void(file.name):
            yield Fault(file, "a claim of a process that is gone")
