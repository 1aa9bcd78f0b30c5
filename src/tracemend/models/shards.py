"""Tensors in files that are written whole and hashed, and read into a buffer that is used again.

The common form of what is kept on disk by rows: gradients, representations.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save
from torch import Tensor

from tracemend.errors import ModelError, TracemendError
from tracemend.runs import atomic

# The one key of a shard's metadata: several would be written in an order that differs from process to process.
_KEY = "tracemend"
_CODES = {"F32": (torch.float32, np.float32), "BF16": (torch.bfloat16, np.uint16), "I64": (torch.int64, np.int64)}
# No header comes near this; a damaged one can claim anything.
_LONGEST_HEADER = 2**24


def digest(tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """Sha256 over a shard's facts and over name, dtype, shape and bytes of its tensors, in the order of their names."""
    found = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(memory(tensor.detach().cpu().contiguous()))
    return found.hexdigest()


def write_shard(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write a shard in one rename; equal tensors and facts make equal bytes.

    Raises:
        RunError: the disk is full or not writable; the shard does not exist then.
    """
    noted = json.dumps({**facts, "sha256": digest(tensors, facts)}, sort_keys=True)
    with atomic(path, "wb") as file:
        file.write(save(dict(tensors), metadata={_KEY: noted}))


class ShardFile:
    """An open shard: its header is read, its tensors are when they are asked for.

    Class attributes:
        error: what is raised where the file cannot be used.
        if_missing: what to do where it is not there.
        if_damaged: what to do where it is damaged.

    Raises:
        TracemendError: the file is missing, or its header and its size do not fit together.
    """

    error: ClassVar[type[TracemendError]] = ModelError
    if_missing: ClassVar[str] = "give the command that made it again, it goes on."
    if_damaged: ClassVar[str] = "delete it, and give the command that made it again."

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise self.error(f"{path} is missing; {self.if_missing}") from None
        try:
            self.tensors, self.facts, self._start = self._header()
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def rows(self, name: str, target: memoryview, places: npt.NDArray[np.int64]) -> None:
        """Copy the rows of a tensor at ``places``, ascending, into memory that holds just these."""
        width = len(target) // max(1, len(places))
        offset = self._start + self.tensors[name]["data_offsets"][0]
        done = 0
        for first, count in _runs(places):
            self._fill(target[done : done + count * width], offset + first * width)
            done += count * width

    def tensor(self, name: str) -> Tensor:
        """A tensor, whole."""
        facts = self.tensors[name]
        made = torch.empty(facts["shape"], dtype=_CODES[facts["dtype"]][0])
        self._fill(memory(made), self._start + facts["data_offsets"][0])
        return made

    def sha256(self) -> str:
        """The hash of what is there, as :func:`digest` takes it; that of what was written is ``facts['sha256']``."""
        facts = {key: value for key, value in self.facts.items() if key != "sha256"}
        return digest({name: self.tensor(name) for name in self.tensors}, facts)

    def _fill(self, target: memoryview, offset: int) -> None:
        while len(target):
            read = os.preadv(self._descriptor, [target], offset)
            if not read:
                raise self._damaged("it ends too early")
            target, offset = target[read:], offset + read

    def _header(self) -> tuple[dict[str, Any], dict[str, Any], int]:
        size = os.fstat(self._descriptor).st_size
        length = int.from_bytes(os.pread(self._descriptor, 8, 0), "little")
        if size < 8 or not 0 < length <= min(_LONGEST_HEADER, size - 8):
            raise self._damaged("it ends too early")
        try:
            header = json.loads(os.pread(self._descriptor, length, 8))
            facts = json.loads(header.pop("__metadata__")[_KEY])
            end = 0
            for tensor in header.values():
                first, last = tensor["data_offsets"]
                width = np.dtype(_CODES[tensor["dtype"]][1]).itemsize
                if last - first != prod(tensor["shape"]) * width or first < 0:
                    raise ValueError("a tensor's size is not that of its shape")
                end = max(end, last)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(f"its header cannot be read: {error}") from None
        if size != 8 + length + end:
            raise self._damaged(f"it has {size} bytes and should have {8 + length + end}")
        return header, facts, 8 + length

    def _damaged(self, why: str) -> TracemendError:
        return self.error(f"{self.path} is damaged ({why}); {self.if_damaged}")


def memory(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor on the CPU."""
    raw: Any = tensor.view(-1).view(torch.uint8).numpy()
    return memoryview(raw)


def _runs(places: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """First place and length of each stretch of places that follow one another."""
    if len(places) and places[-1] - places[0] == len(places) - 1:  # as in every store without a parent
        yield int(places[0]), len(places)
        return
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    for stretch in np.split(places, breaks):
        if len(stretch):
            yield int(stretch[0]), len(stretch)
