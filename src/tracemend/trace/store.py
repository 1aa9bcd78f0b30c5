"""Gradients on disk: immutable safetensors shards, a table of rows and a manifest.

A shard is the unit of work and of resume: it exists only if it is complete.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from tracemend.data import Examples
from tracemend.errors import TraceError, TuningError
from tracemend.progress import Progress
from tracemend.runs import atomic, fingerprint, read_json, write_json, write_parquet
from tracemend.trace.gradients import Block, Gradients, Layout, per_example_gradients
from tracemend.trace.gradients.collect import Precision, Way
from tracemend.trace.tracin import at
from tracemend.tuning import Adapted, Checkpoint

SCHEMA = 1
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_SHARD_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class GradientStore:
    """A finished or unfinished store.

    Attributes:
        path: its folder, laid out as docs/design.md says.
        manifest: what it holds and what that depends on.
        rows: one row an example: row (position in the data), uid, label, length (tokens), shard.

    Example:
        >>> store = GradientStore.build("runs/mine/store", classifier, train, tuned.until_best())
        >>> for positions, gradients in store.shards(checkpoint=0):
        ...     gradients.grads.shape
    """

    path: Path
    manifest: Mapping[str, Any]
    rows: pd.DataFrame

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Read the manifest and the rows.

        Raises:
            RunError: there is no store.
        """
        path = Path(path)
        return cls(path, read_json(path / "manifest.json"), pd.read_parquet(path / "rows.parquet"))

    @classmethod
    def build(
        cls,
        path: Path | str,
        classifier: Adapted,
        data: Examples,
        checkpoints: Sequence[Checkpoint],
        *,
        dtype: Literal["float32", "bfloat16"] = "float32",
        shard_rows: int | None = None,
        method: Way = "auto",
        batch_size: int = 16,
        precision: Precision = "fp32",
        progress: Progress = Progress(),
    ) -> Self:
        """Write the shards that are missing, all of them in a new folder.

        Args:
            shard_rows: examples a shard; default as many as make 64 MB.
            method, batch_size, precision: see :func:`tracemend.trace.per_example_gradients`.

        Raises:
            TraceError: the folder holds the gradients of another model, adapter, data or configuration.
        """
        path = Path(path)
        encoded, _ = classifier.encode(data.pairs)
        identity = {
            "schema": SCHEMA,
            "loss": classifier.loss,
            "dtype": dtype,
            "precision": precision,
            "fingerprints": {
                "model": classifier.language_model.fingerprint,
                "adapter": _adapter_fingerprint(classifier),
                "data": data.fingerprint,
                "tokens": fingerprint(encoded),
            },
            "checkpoints": [
                {"step": c.step, "lr_sum": c.lr_sum, "parameters": _digest(c.load_state())} for c in checkpoints
            ],
        }
        if (path / "manifest.json").exists():
            store = cls.open(path)
            store._compare(identity)
        else:
            store = cls._begin(path, classifier, data, encoded, identity, checkpoints, shard_rows, method)
        for number, checkpoint in enumerate(checkpoints):
            missing = store.missing(number)
            if not missing:
                continue
            store._keep_moments(number, checkpoint)
            with at(classifier, checkpoint):
                for shard in progress.track(missing, task=f"store checkpoint {number + 1}/{len(checkpoints)}"):
                    positions = store._positions(shard)
                    found = per_example_gradients(
                        classifier,
                        data.take(positions),
                        method=method,
                        batch_size=batch_size,
                        precision=precision,
                        check=shard == missing[0],
                        progress=progress,
                    )
                    store._write(number, shard, positions, found)
        return store

    @property
    def layout(self) -> Layout:
        """Which columns belong to which parameter."""
        return tuple(Block(b["name"], tuple(b["shape"]), b["offset"], b["group"]) for b in self.manifest["layout"])

    def missing(self, checkpoint: int) -> list[int]:
        """Numbers of the shards that this checkpoint still lacks."""
        return [s for s in range(self.manifest["shards"]) if not self._file(checkpoint, s).exists()]

    def second_moments(self, checkpoint: int) -> dict[str, Tensor]:
        """Adam's second moments by parameter name; empty where the tuning kept none."""
        path = self._file(checkpoint, 0).with_name("second_moments.safetensors")
        return load_file(path) if path.exists() else {}

    def shards(self, checkpoint: int) -> Iterator[tuple[npt.NDArray[np.int64], Gradients]]:
        """Positions in the data and gradients, shard by shard.

        Raises:
            TraceError: a shard is missing or damaged.
        """
        missing = self.missing(checkpoint)
        if missing:
            raise TraceError(
                f"{self.path} lacks {len(missing)} of {self.manifest['shards']} shards of checkpoint {checkpoint}; "
                "give the command that builds it again, it goes on."
            )
        for shard in range(self.manifest["shards"]):
            yield self._read(checkpoint, shard)

    @classmethod
    def _begin(
        cls,
        path: Path,
        classifier: Adapted,
        data: Examples,
        encoded: list[list[int]],
        identity: Mapping[str, Any],
        checkpoints: Sequence[Checkpoint],
        shard_rows: int | None,
        method: Way,
    ) -> Self:
        if not checkpoints:
            raise TraceError("a store needs at least one checkpoint; none was given.")
        layout = per_example_gradients(classifier, data.take(range(min(4, len(data)))), method=method).layout
        width = sum(block.size for block in layout)
        size = shard_rows or max(1, _SHARD_BYTES // (width * DTYPES[identity["dtype"]].itemsize))
        # Sorted by length, so that the examples of a shard make even batches.
        lengths = np.array([len(row) for row in encoded])
        order = np.argsort(lengths, kind="stable")
        rows = pd.DataFrame(
            {
                "row": order,
                "uid": np.array(data.uid, dtype=object)[order],
                "label": data.frame["label"].to_numpy()[order],
                "length": lengths[order],
                "shard": np.arange(len(order)) // size,
            }
        )
        write_parquet(path / "rows.parquet", rows)
        shards = ceil(len(order) / size)
        write_json(path / "manifest.json", {**identity, "layout": [asdict(b) for b in layout], "shards": shards})
        return cls.open(path)

    def _compare(self, identity: Mapping[str, Any]) -> None:
        # As JSON gives it back, so that tuples and lists compare alike.
        there = {key: self.manifest.get(key) for key in identity}
        differences = [key for key in identity if fingerprint(there[key]) != fingerprint(identity[key])]
        if differences:
            raise TraceError(
                f"{self.path} holds the gradients of something else ({', '.join(differences)} differ); "
                "name another folder, or delete this one. Nothing was changed."
            )

    def _file(self, checkpoint: int, shard: int) -> Path:
        return self.path / f"ckpt-{checkpoint:04d}" / f"shard-{shard:05d}.safetensors"

    def _positions(self, shard: int) -> npt.NDArray[np.int64]:
        return np.asarray(self.rows.loc[self.rows["shard"] == shard, "row"], dtype=np.int64)

    def _keep_moments(self, checkpoint: int, source: Checkpoint) -> None:
        path = self._file(checkpoint, 0).with_name("second_moments.safetensors")
        try:
            moments = source.second_moments()
        except TuningError:  # saved without its optimizer: only Adam-preconditioned scores need them
            return
        if moments and not path.exists():
            with atomic(path, "wb") as file:
                file.write(save({name: v.contiguous() for name, v in moments.items()}))

    def _write(self, checkpoint: int, shard: int, positions: npt.NDArray[np.int64], found: Gradients) -> None:
        if found.layout != self.layout:
            raise TraceError(
                f"shard {shard} was traced in another way than the store's first examples; build it with method='loop'."
            )
        tensors = {
            "grads": found.grads.to(DTYPES[self.manifest["dtype"]]).contiguous(),
            "loss": torch.from_numpy(found.losses),
            "norm": torch.from_numpy(found.norms),
            "logits": torch.from_numpy(found.logits),
            "label": torch.from_numpy(found.y),
            "row": torch.tensor(positions),
        }
        with atomic(self._file(checkpoint, shard), "wb") as file:
            file.write(save(tensors, metadata={"uids": fingerprint(found.uid)}))

    def _read(self, checkpoint: int, shard: int) -> tuple[npt.NDArray[np.int64], Gradients]:
        path = self._file(checkpoint, shard)
        try:
            held = load_file(path)
        except SafetensorError as error:
            raise TraceError(f"{path} is damaged ({error}); delete it and build the store again.") from error
        uid = self.rows.loc[self.rows["shard"] == shard, "uid"]
        return held["row"].numpy(), Gradients(
            held["grads"].float(),
            held["loss"].numpy(),
            held["logits"].numpy(),
            held["label"].numpy(),
            tuple(uid),
            self.layout,
        )


def _adapter_fingerprint(classifier: Adapted) -> str:
    # Sets have no order, and fields may hold objects of PEFT's own.
    config = classifier.network.active_peft_config.to_dict()
    return fingerprint({key: sorted(v) if isinstance(v, set) else str(v) for key, v in config.items()})


def _digest(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
