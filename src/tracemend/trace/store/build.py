"""Building a store: begun once, filled shard by shard by any number of processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from math import ceil, prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save

from tracemend.data import Examples
from tracemend.errors import TraceError, did_you_mean
from tracemend.progress import Progress
from tracemend.runs import atomic, versions, write_json, write_parquet
from tracemend.trace.gradients.collect import Precision, Way, choose, gradient_batches
from tracemend.trace.gradients.engine import Batched, Loop, evaluation
from tracemend.trace.gradients.layout import Layout
from tracemend.trace.gradients.projection import Projection
from tracemend.trace.gradients.vmap import Vmap
from tracemend.trace.store.claims import Claims
from tracemend.trace.store.manifest import (
    differences,
    hashes,
    identity,
    label_names,
    lengths,
    row_table,
    store_id,
    table_hash,
    text_hashes,
)
from tracemend.trace.store.ranks import Rank, rank
from tracemend.trace.store.shards import DTYPES, ShardFile, write_shard
from tracemend.trace.tracin import at
from tracemend.tuning import Adapted, Checkpoint

if TYPE_CHECKING:
    from tracemend.trace.store.store import GradientStore

_SHARD_BYTES = 64 * 2**20
# Examples on which the way to the gradients is chosen, for all processes alike.
_SAMPLE = 8
_WAYS: Mapping[type, Way] = {Batched: "fast", Vmap: "vmap", Loop: "loop"}
# Seconds between two looks at what others do: first, and at most.
_PAUSES = (0.02, 2.0)

# Gives the table of rows, and what the manifest says beyond the identity.
Plan = Callable[[], tuple[pd.DataFrame, dict[str, Any]]]


def build(
    kind: type[GradientStore],
    path: Path,
    classifier: Adapted,
    data: Examples,
    checkpoints: Sequence[Checkpoint],
    *,
    dtype: str,
    shard_rows: int | None,
    method: Way,
    batch_size: int,
    precision: Precision,
    projection: Projection | None,
    patience: float,
    progress: Progress,
) -> Any:
    """See :meth:`GradientStore.build`."""
    if dtype not in DTYPES:
        raise TraceError(f"the dtype {dtype!r} is {did_you_mean(dtype, DTYPES)}")
    if method not in get_args(Way):
        raise TraceError(f"the method {method!r} is {did_you_mean(method, get_args(Way))}")
    for name, number in (("shard_rows", shard_rows), ("batch_size", batch_size)):
        if number is not None and number < 1:
            raise TraceError(f"{name} is {number}; it must be at least 1.")
    if not len(data):
        raise TraceError("there are no examples to trace.")
    wanted = identity(
        classifier,
        data,
        checkpoints,
        dtype=dtype,
        precision=precision,
        batch_size=batch_size,
        method=method,
        projection=projection,
    )

    def plan() -> tuple[pd.DataFrame, dict[str, Any]]:
        way, layout = _way(classifier, data, checkpoints[-1], method, progress)
        whole = layout
        layout = whole if projection is None else projection.layout(whole)
        width = sum(block.size for block in layout)
        size = shard_rows or max(1, _SHARD_BYTES // (width * DTYPES[dtype].itemsize))
        rows = row_table(data, lengths(classifier, data, progress), size)
        facts = {
            "way": way,
            "layout": [asdict(block) for block in layout],
            # Of the whole matrices, where the layout tells of projected ones.
            "sizes": None if projection is None else {block.name: prod(block.shape) for block in whole},
            "shard_rows": size,
            "shards": ceil(len(data) / size),
            "parent": None,
        }
        return rows, facts

    with Claims(path / ".claims", patience=patience) as claims:
        store = begin(kind, path, wanted if shard_rows is None else {**wanted, "shard_rows": shard_rows}, plan, claims)
        fill(store, classifier, data, checkpoints, claims=claims, progress=progress)
    return store


def begin(kind: type[GradientStore], path: Path, wanted: Mapping[str, Any], plan: Plan, claims: Claims) -> Any:
    """Open the store at ``path``, or write its manifest; one of several processes does, and the others wait for it.

    Raises:
        TraceError: what lies there is another store, or shards of one.
    """
    manifest = path / "manifest.json"
    for _ in _patiently():
        if manifest.exists():
            store = kind.open(path)
            found = differences(store.manifest, wanted)
            if found:
                raise TraceError(
                    f"{path} holds the gradients of something else ({'; '.join(found)}); name another folder, or "
                    "delete this one. Nothing was changed."
                )
            return store
        with claims.held("manifest") as mine:
            if mine and not manifest.exists():
                rows, facts = plan()
                made = {**wanted, **facts, "rows": table_hash(rows)}
                made["id"] = store_id(made)
                _refuse_foreign(path, made["id"])
                write_parquet(path / "rows.parquet", rows)
                write_json(manifest, {**made, "versions": versions()})
    raise TraceError(f"{manifest} was not written.")  # not reached: the loop above has no end of its own


def fill(
    store: GradientStore,
    classifier: Adapted,
    data: Examples,
    checkpoints: Sequence[Checkpoint],
    *,
    claims: Claims,
    progress: Progress,
) -> None:
    """Compute this process's part of the missing shards, then what others left; return when none is missing."""
    work = _Filling(store, classifier, data, claims, progress)
    work.sweep(checkpoints, rank())
    waiting = False
    for pauses in _patiently():
        left = sum(len(store.missing(c)) + store.lacks_moments(c) for c in range(len(checkpoints)))
        if not left:
            claims.tidy()
            return
        if work.sweep(checkpoints, Rank(0, 1)):
            pauses.clear()
        elif not waiting:
            waiting = True
            progress.note("waiting for other processes", shards=left)


class _Pauses:
    """Grows from look to look, until something happened."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def clear(self) -> None:
        self.seconds = 0.0

    def take(self) -> None:
        first, most = _PAUSES
        if self.seconds:
            time.sleep(self.seconds)
        self.seconds = min(max(first, 2 * self.seconds), most)


def _patiently() -> Iterator[_Pauses]:
    pauses = _Pauses()
    while True:
        yield pauses
        pauses.take()


class _Filling:
    def __init__(
        self, store: GradientStore, classifier: Adapted, data: Examples, claims: Claims, progress: Progress
    ) -> None:
        self.store = store
        self.classifier = classifier
        self.data = data
        self.claims = claims
        self.progress = progress
        # Whether the fast way was compared with the reference in this process, on this machine.
        self.checked = False
        self.order = {shard: i for i, shard in enumerate(store.own)}

    def sweep(self, checkpoints: Sequence[Checkpoint], who: Rank) -> int:
        """Go once through what is missing; how many files this process wrote."""
        written = 0
        for c, checkpoint in enumerate(checkpoints):
            written += self._moments(c, checkpoint)
            shards = [s for s in self.store.missing(c) if who.owns(c * len(self.order) + self.order[s])]
            if not shards:
                continue
            with at(self.classifier, checkpoint):
                for shard in self.progress.track(shards, task=f"store checkpoint {c + 1}/{len(checkpoints)}"):
                    written += self._once(c, shard)
        return written

    def _once(self, checkpoint: int, shard: int) -> bool:
        path = self.store.file(checkpoint, shard)
        if path.exists():
            return False
        with self.claims.held(f"{path.parent.name}-{path.stem}") as mine:
            if not mine or path.exists():
                return False
            for left in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed
                left.unlink(missing_ok=True)
            tensors = self._computed(shard)
            # Where a process was held up for so long that another took its work over, the other's shard stands.
            with suppress(FileNotFoundError):
                write_shard(path, tensors, self.store.facts(checkpoint, shard))
        return path.exists()

    def _moments(self, number: int, checkpoint: Checkpoint) -> bool:
        if not self.store.lacks_moments(number):
            return False
        path = self.store.moments_file(number)
        with self.claims.held(f"{path.parent.name}-moments") as mine:
            if mine and not path.exists():
                moments = {name: v.contiguous() for name, v in checkpoint.second_moments().items()}
                with atomic(path, "wb") as file:
                    file.write(save(moments))
        return mine

    def _computed(self, shard: int) -> dict[str, torch.Tensor]:
        manifest, positions = self.store.manifest, self.store.positions(shard)
        part = self.data.take(positions)
        n = len(part)
        tensors = {
            "grads": torch.empty(n, self.store.width, dtype=self.store.dtype),
            "loss": torch.empty(n),
            "norm": torch.empty(n),
            "logits": torch.empty(n, len(self.classifier.labels)),
            "label": torch.from_numpy(np.asarray(part.y, dtype=np.int64)),
            "row": torch.from_numpy(positions.copy()),
            "text_hash": torch.from_numpy(text_hashes(part)),
            "label_hash": torch.from_numpy(hashes(label_names(part))),
        }
        batches = gradient_batches(
            self.classifier,
            part,
            method=manifest["way"],
            batch_size=manifest["batch_size"],
            precision=manifest["precision"],
            check=not self.checked,
            compact=True,
            progress=self.progress,
        )
        projection = Projection.of(manifest)
        for where, whole in batches:
            found = whole if projection is None else projection.gradients(whole)
            if found.layout != self.store.layout:
                raise TraceError(
                    f"shard {shard} was traced in another way than the store's first examples; build it with "
                    "method='loop'."
                )
            at_rows = torch.as_tensor(where)
            tensors["grads"][at_rows] = found.grads.to(self.store.dtype)
            tensors["loss"][at_rows] = torch.from_numpy(found.losses)
            tensors["norm"][at_rows] = torch.from_numpy(whole.norms)
            tensors["logits"][at_rows] = torch.from_numpy(found.logits)
        self.checked = True
        return tensors


def _way(
    classifier: Adapted, data: Examples, checkpoint: Checkpoint, method: Way, progress: Progress
) -> tuple[Way, Layout]:
    sample = data.take(np.unique(np.linspace(0, len(data) - 1, _SAMPLE).astype(int)))
    rows, _ = classifier.encode(sample.pairs)
    y = torch.tensor(sample.y, device=classifier.device)
    with at(classifier, checkpoint), evaluation(classifier.network):
        engine = choose(classifier, rows, y, method=method, progress=progress)
    return _WAYS[type(engine)], engine.layout


def _refuse_foreign(path: Path, store: str) -> None:
    """A folder that lost its manifest gets it again, but only for the same store."""
    for file in path.glob("ckpt-*/shard-*.safetensors"):
        with ShardFile(file) as shard:
            if shard.facts.get("store") != store:
                raise TraceError(f"{path} holds {file.name} of another store; name another folder, or delete this one.")
