"""The gradient store: what it offers to whoever builds and reads one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pyarrow import ArrowException
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tracemend.data import Examples
from tracemend.errors import RunError, TraceError
from tracemend.progress import Progress
from tracemend.runs import read_json
from tracemend.trace.gradients import Block, Gradients, Layout
from tracemend.trace.gradients.collect import Precision, Way
from tracemend.trace.gradients.projection import Projection
from tracemend.trace.store import build, edits
from tracemend.trace.store.claims import PATIENCE
from tracemend.trace.store.manifest import SCHEMA, table_hash
from tracemend.trace.store.shards import DTYPES, Shard, ShardFile, memory
from tracemend.tuning import Adapted, Checkpoint

Dtype = Literal["bfloat16", "float32"]


@dataclass(frozen=True, eq=False)
class GradientStore:
    """The per-example gradients of a data set at some checkpoints, finished or unfinished.

    Attributes:
        path: its folder, laid out as docs/design.md says.
        manifest: what it holds and what that depends on.
        rows: one row an example, shard by shard: row (position in the data), uid, label, length (tokens), shard, text
            (hash of the texts); and where its gradients lie: depth (0 in this store, 1 in its parent, ...), origin
            (number of the shard's file there) and place (in that file).
        parent: the store this one was edited from, or None.

    Example:
        >>> store = GradientStore.build("runs/mine/store", classifier, train, tuned.until_best())
        >>> for positions, gradients in store.shards(checkpoint=0):
        ...     gradients.grads.shape
    """

    path: Path
    manifest: Mapping[str, Any]
    rows: pd.DataFrame
    parent: GradientStore | None = None

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Read the manifest and the rows, and those of the parents.

        Raises:
            RunError: there is no store, or its manifest or its rows are damaged.
            TraceError: it was written by another version, or its parent is gone or another one.
        """
        path = Path(path)
        manifest = read_json(path / "manifest.json")
        if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
            found = manifest.get("schema") if isinstance(manifest, dict) else None
            raise TraceError(
                f"{path} has the schema {found!r} and this version reads {SCHEMA}; delete the folder and build the "
                "store again."
            )
        try:
            rows = pd.read_parquet(path / "rows.parquet")
            if table_hash(rows) != manifest["rows"]:
                raise ValueError("its content is not what was written")
        except (OSError, ValueError, KeyError, ArrowException) as error:
            raise RunError(
                f"{path / 'rows.parquet'} is missing or damaged ({error}); `tracemend store verify --repair` clears "
                "the way, and the next build writes it again and keeps the shards."
            ) from error
        return cls(path, manifest, rows, edits.parent_of(cls, path, manifest))

    @classmethod
    def build(
        cls,
        path: Path | str,
        classifier: Adapted,
        data: Examples,
        checkpoints: Sequence[Checkpoint],
        *,
        dtype: Dtype = "bfloat16",
        shard_rows: int | None = None,
        method: Way = "auto",
        batch_size: int = 16,
        precision: Precision = "fp32",
        project: int | None = None,
        seed: int = 0,
        patience: float = PATIENCE,
        progress: Progress = Progress(),
    ) -> Self:
        """Write the shards that are missing, all of them in a new folder, and return when none is missing.

        Any number of processes may build the same store at once, see :func:`tracemend.trace.store.ranks.rank`: each
        takes its own part first and then what others have left. A shard's bytes do not depend on who computes it, as
        long as all processes run on equal machines with equal numbers of threads.

        Args:
            dtype: of the stored gradients; losses, norms and logits are float32 always.
            shard_rows: examples a shard; default as many as make 64 MB.
            method: see :func:`tracemend.trace.per_example_gradients`.
            batch_size: likewise.
            precision: likewise.
            project: numbers kept of a matrix's long side, see :class:`tracemend.trace.gradients.Projection`; None
                keeps all. Losses and norms are those of the whole gradients.
            seed: of the projection.
            patience: seconds after which the work of a process that gives no sign of life is taken over.

        Raises:
            TraceError: the folder holds the gradients of another model, adapter, data or configuration; or the
                gradients cannot be had.
            RunError: the disk is full or not writable; the same call goes on afterwards.
        """
        found: Self = build.build(
            cls,
            Path(path),
            classifier,
            data,
            checkpoints,
            dtype=dtype,
            shard_rows=shard_rows,
            method=method,
            batch_size=batch_size,
            precision=precision,
            projection=None if project is None else Projection(width=project, seed=seed),
            patience=patience,
            progress=progress,
        )
        return found

    def edited(
        self,
        path: Path | str,
        classifier: Adapted,
        data: Examples,
        checkpoints: Sequence[Checkpoint],
        *,
        patience: float = PATIENCE,
        progress: Progress = Progress(),
    ) -> GradientStore:
        """A store of edited data: what changed or is new is computed, all else is read from this one.

        It reads like any other store, and may be edited again. It needs this one where it lies, seen from there.

        Args:
            path: a folder of its own; one that is there goes on.
            data: with other labels, fewer examples or more of them.
            classifier: that this store was built with.
            checkpoints: likewise.

        Raises:
            TraceError: model, adapter, tokenizer or checkpoints are other ones, or this store is not complete.
            RunError: the disk is full or not writable; the same call goes on afterwards.

        Example:
            >>> child = store.edited("runs/mine/store-2", classifier, train.relabelled({uid: "safe"}), checkpoints)
        """
        return edits.edit(self, Path(path), classifier, data, checkpoints, patience=patience, progress=progress)

    @cached_property
    def layout(self) -> Layout:
        """Which columns belong to which parameter; a pooled head is kept as factors."""
        return tuple(Block(**{**block, "shape": tuple(block["shape"])}) for block in self.manifest["layout"])

    @property
    def width(self) -> int:
        """How many numbers a row holds, P."""
        return sum(block.size for block in self.layout)

    @property
    def dtype(self) -> torch.dtype:
        """Of the stored gradients."""
        return DTYPES[self.manifest["dtype"]]

    @property
    def options(self) -> dict[str, Any]:
        """What it was built with, as :meth:`build` takes it."""
        projection = Projection.of(self.manifest)
        return {
            **{key: self.manifest[key] for key in ("dtype", "method", "batch_size", "precision")},
            "project": None if projection is None else projection.width,
            "seed": 0 if projection is None else projection.seed,
        }

    @property
    def chain(self) -> tuple[GradientStore, ...]:
        """This store, its parent, the parent's parent, and so on."""
        return (self,) if self.parent is None else (self, *self.parent.chain)

    def missing(self, checkpoint: int) -> list[int]:
        """Numbers of the shards that this checkpoint still lacks."""
        folder = self.folder(checkpoint)
        there = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
        return [s for s in self.own if self.file(checkpoint, s).name not in there]

    def lacks_moments(self, checkpoint: int) -> bool:
        """Whether the second moments of this checkpoint are still to be kept here."""
        wanted = self.parent is None and self.manifest["checkpoints"][checkpoint]["moments"] is not None
        return wanted and not self.moments_file(checkpoint).exists()

    def second_moments(self, checkpoint: int) -> dict[str, Tensor]:
        """Adam's second moments by parameter name; empty where the tuning kept none."""
        if self.parent is not None:
            return self.parent.second_moments(checkpoint)
        if self.manifest["checkpoints"][checkpoint]["moments"] is None:
            return {}
        path = self.moments_file(checkpoint)
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise TraceError(
                f"{path} is missing or damaged ({error}); `tracemend store verify --repair` and the next build bring "
                "it back."
            ) from error

    def buffer(self, rows: int | None = None) -> Tensor:
        """A tensor for the gradients of so many rows, by default of any shard; to be used again and again."""
        rows = rows or int(np.diff(self._bounds).max())
        # NumPy asks for huge pages where there are any (4 MB and more), into which the kernel copies faster.
        raw = np.empty(rows * self.width * self.dtype.itemsize, dtype=np.uint8)
        return torch.from_numpy(raw).view(self.dtype).view(rows, self.width)

    def read(self, checkpoint: int, shard: int, out: Tensor | None = None, *, part: slice = slice(None)) -> Shard:
        """A shard, or a part of it, its gradients in the stored dtype.

        Args:
            out: where the gradients go [at least n, P], in the stored dtype, contiguous, on the CPU (pinned or not);
                the result's ``grads`` are its first n rows then. See :meth:`buffer`. Else they get memory of their own.
            part: which of the shard's rows.

        Raises:
            TraceError: the shard is missing, damaged or of another store, or ``out`` does not fit.
        """
        rows = self.positions(shard)
        n = len(rows[part])
        if not n:
            raise TraceError(f"the part {part} of shard {shard} holds no row; it has {len(rows)}.")
        out = torch.empty(n, self.width, dtype=self.dtype) if out is None else out
        self._check_buffer(out, n)
        return next(self.blocks(checkpoint, shard, out, part=part))

    def blocks(self, checkpoint: int, shard: int, out: Tensor, *, part: slice = slice(None)) -> Iterator[Shard]:
        """A shard, as many rows at a time as ``out`` holds; each block overwrites the one before.

        A buffer of a few megabytes stays in the processor's cache, and is filled faster than memory is written.

        Raises:
            TraceError: see :meth:`read`.

        Example:
            >>> total = torch.zeros(store.width)
            >>> for block in store.blocks(0, 17, store.buffer(256)):
            ...     total += block.grads.float().sum(dim=0)
        """
        self._check_buffer(out, 1)
        rows, places = self.positions(shard)[part], self._of(shard, "place")[part]
        target, width = memory(out), self.width * self.dtype.itemsize
        with ShardFile(self.file(checkpoint, shard)) as file:
            self._check(file, checkpoint, shard)
            small = {name: file.tensor(name)[places].numpy() for name in ("loss", "norm", "logits", "label")}
            for first in range(0, len(rows), len(out)):
                block = slice(first, min(first + len(out), len(rows)))
                n = block.stop - first
                file.rows("grads", target[: n * width], places[block])
                yield Shard(rows[block], out[:n], **{name: held[block] for name, held in small.items()})

    def shards(self, checkpoint: int) -> Iterator[tuple[npt.NDArray[np.int64], Gradients]]:
        """Positions in the data and gradients (float32), shard by shard.

        Raises:
            TraceError: a shard is missing or damaged.
        """
        missing = self.missing(checkpoint)
        if missing:
            raise TraceError(
                f"{self.path} lacks {len(missing)} of {self.manifest['shards']} shards of checkpoint {checkpoint}; "
                "give the command that builds it again, it goes on."
            )
        uid = self.rows["uid"].to_numpy(dtype=object)
        for shard in range(self.manifest["shards"]):
            found = self.read(checkpoint, shard)
            names = tuple(uid[self._bounds[shard] : self._bounds[shard + 1]])
            yield (
                found.rows,
                Gradients(found.grads.float(), found.loss, found.logits, found.label, names, self.layout),
            )

    def summary(self) -> dict[str, Any]:
        """What it holds and how much of it is there, as JSON values."""
        manifest = self.manifest
        files = [file for file in self.path.rglob("*") if file.is_file()]
        checkpoints = [
            {"step": c["step"], "lr_sum": c["lr_sum"], "missing_shards": len(self.missing(i))}
            for i, c in enumerate(manifest["checkpoints"])
        ]
        return {
            "path": str(self.path),
            "rows": len(self.rows),
            "own_rows": int((self.rows["depth"] == 0).sum()),
            "width": self.width,
            "projection": manifest.get("projection"),
            "groups": list(dict.fromkeys(block.group for block in self.layout)),
            "shards": manifest["shards"],
            "bytes": sum(file.stat().st_size for file in files),
            "complete": not any(c["missing_shards"] for c in checkpoints),
            "parent": None if self.parent is None else str(self.parent.path),
            "id": manifest["id"],
            **{key: manifest[key] for key in ("dtype", "precision", "batch_size", "way", "labels")},
            "fingerprints": dict(manifest["fingerprints"]),
            "checkpoints": checkpoints,
        }

    @cached_property
    def own(self) -> tuple[int, ...]:
        """Numbers of the shards whose files lie in this store, not in a parent."""
        depth = self._columns["depth"][self._bounds[:-1]]
        return tuple(np.flatnonzero(depth == 0).tolist())

    def file(self, checkpoint: int, shard: int) -> Path:
        """Where a shard lies, in this store or in a parent."""
        depth, origin = (int(self._columns[c][self._bounds[shard]]) for c in ("depth", "origin"))
        return self.chain[depth].folder(checkpoint) / f"shard-{origin:05d}.safetensors"

    def folder(self, checkpoint: int) -> Path:
        """Where this store's own files of a checkpoint lie."""
        return self.path / f"ckpt-{checkpoint:04d}"

    def moments_file(self, checkpoint: int) -> Path:
        """Where the second moments of a checkpoint lie, in a store without a parent."""
        return self.folder(checkpoint) / "second_moments.safetensors"

    def facts(self, checkpoint: int, shard: int) -> dict[str, Any]:
        """What the file of a shard says of itself."""
        first = self._bounds[shard]
        depth, origin = (self._columns[c][first] for c in ("depth", "origin"))
        return {"store": self.chain[depth].manifest["id"], "checkpoint": checkpoint, "shard": int(origin)}

    def positions(self, shard: int) -> npt.NDArray[np.int64]:
        """Positions in the data of a shard's examples."""
        return self._of(shard, "row")

    @cached_property
    def _columns(self) -> dict[str, npt.NDArray[np.int64]]:
        return {
            c: self.rows[c].to_numpy(dtype=np.int64, copy=True) for c in ("row", "shard", "depth", "origin", "place")
        }

    @cached_property
    def _bounds(self) -> npt.NDArray[np.int64]:
        """Where each shard begins in the table of rows, and where the last one ends."""
        return np.searchsorted(self._columns["shard"], np.arange(self.manifest["shards"] + 1))

    def _of(self, shard: int, column: str) -> npt.NDArray[np.int64]:
        if not 0 <= shard < self.manifest["shards"]:
            raise TraceError(f"there is no shard {shard}; {self.path} has {self.manifest['shards']}, counted from 0.")
        return self._columns[column][self._bounds[shard] : self._bounds[shard + 1]]

    def _check_buffer(self, out: Tensor, rows: int) -> None:
        fits = out.ndim == 2 and out.shape[1] == self.width and len(out) >= rows
        if not (fits and out.dtype == self.dtype and out.is_contiguous() and out.device.type == "cpu"):
            raise TraceError(
                f"the buffer is {out.dtype} {tuple(out.shape)} on {out.device}; expected contiguous {self.dtype} "
                f"({rows} or more, {self.width}) on the cpu, as store.buffer() gives it."
            )

    def _check(self, file: ShardFile, checkpoint: int, shard: int) -> None:
        expected = self.facts(checkpoint, shard)
        found = {key: file.facts.get(key) for key in expected}
        if found != expected:
            raise TraceError(
                f"{file.path} is of another store, checkpoint or shard ({found}, expected {expected}); "
                "`tracemend store verify --repair` deletes it, and the next build computes the right one."
            )
