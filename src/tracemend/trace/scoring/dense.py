"""The whole matrix of scores on disk, written shard by shard, so that an interrupted scoring goes on."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tracemend.arrays import Indices
from tracemend.errors import RunError, TraceError
from tracemend.runs import read_json, write_json


class DenseMatrix:
    """Scores [n, q] in float32 as one ``.npy`` file that ``numpy.load(path, mmap_mode="r")`` opens.

    Until it is complete it is called ``.NAME.partial``, and ``.NAME.done`` lists the blocks it holds; a block is listed
    after it has reached the disk. ``NAME.json`` says what was scored.

    Args:
        path: of the finished matrix.
        n, queries: its shape.
        identity: fingerprint of what is scored, and how.

    Raises:
        TraceError: the matrix there, finished or not, is of something else.
    """

    def __init__(self, path: Path, n: int, queries: int, identity: str) -> None:
        self.path = path
        self.partial = path.with_name(f".{path.name}.partial")
        self.facts = path.with_name(f"{path.name}.json")
        self.shape = (n, queries)
        self.log = path.with_name(f".{path.name}.done")
        self.identity = {"identity": identity, "shape": [n, queries]}
        self.done: set[tuple[int, int, int]] = set()
        if self.facts.exists():
            there = read_json(self.facts)
            if {key: there.get(key) for key in self.identity} != self.identity:
                raise TraceError(
                    f"{path} holds the scores of something else (another store, other queries or options); "
                    "name another file, or delete it and its .json. Nothing was changed."
                )
        elif path.exists():
            raise TraceError(f"{path} is there already and was not written by a scoring; name another file.")
        if not path.exists():
            self._begin()

    @property
    def complete(self) -> bool:
        """The matrix has its name."""
        return self.path.exists()

    def holds(self, queries: slice, shard: int) -> bool:
        """Whether a block was written before."""
        return self.complete or self._unit(queries, shard) in self.done

    def read(self, rows: Indices, queries: slice) -> Tensor:
        """Scores [r, q] of a block that was written before."""
        return torch.from_numpy(np.array(self._open("r")[rows, queries]))

    def write(self, rows: Indices, queries: slice, scores: Tensor) -> None:
        """Write a part of a block. The file is opened each time, so that memory does not grow with what was written."""
        self._open("r+")[rows, queries] = scores.numpy()

    def keep(self, queries: slice, shard: int) -> None:
        """List a block, all of which was written."""
        with self.partial.open("rb") as file:
            os.fsync(file.fileno())
        unit = self._unit(queries, shard)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(" ".join(map(str, unit)) + "\n")
        self.done.add(unit)

    def finish(self) -> None:
        """Give the file its name."""
        if not self.complete:
            os.replace(self.partial, self.path)
            self.log.unlink(missing_ok=True)

    def _begin(self) -> None:
        size = self.partial.stat().st_size if self.partial.exists() and self.facts.exists() else 0
        if size == self._header().nbytes + 4 * self.shape[0] * self.shape[1]:
            self._recall()
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.log.unlink(missing_ok=True)
        header = self._header()
        try:
            with self.partial.open("wb") as file:
                file.write(header.tobytes())
                # Reserved now: a disk that fills up under a memory map kills the process.
                _reserve(file, header.nbytes, 4 * self.shape[0] * self.shape[1])
        except OSError as error:
            self.partial.unlink(missing_ok=True)
            raise RunError(
                f"{self.path} ({4 * self.shape[0] * self.shape[1] / 2**20:,.0f} MB) cannot be written "
                f"({error.strerror}); free some space, or choose another folder."
            ) from error
        write_json(self.facts, self.identity)

    def _recall(self) -> None:
        # A last line that a kill cut short has no end: its block is written again.
        lines = self.log.read_text("utf-8").split("\n")[:-1] if self.log.exists() else []
        for line in lines:
            start, stop, shard = map(int, line.split())
            self.done.add((start, stop, shard))

    def _header(self) -> npt.NDArray[np.uint8]:
        held = io.BytesIO()
        facts = {"descr": "<f4", "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(held, facts)
        return np.frombuffer(held.getvalue(), dtype=np.uint8)

    def _open(self, mode: Any) -> np.memmap[Any, np.dtype[np.float32]]:
        path = self.path if self.path.exists() else self.partial
        try:
            found = np.lib.format.open_memmap(path, mode=mode)
        except (OSError, ValueError) as error:
            raise TraceError(
                f"{path} cannot be opened ({error}); delete it and {self.facts}, and give the same command again."
            ) from error
        if found.shape != self.shape:
            raise TraceError(f"{path} has the shape {found.shape}, not {self.shape}; delete it and {self.facts}.")
        return found

    @staticmethod
    def _unit(queries: slice, shard: int) -> tuple[int, int, int]:
        return queries.start, queries.stop, shard


def _reserve(file: IO[bytes], start: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        file.flush()
        os.posix_fallocate(file.fileno(), start, size)
        return
    zeros = bytes(2**20)
    for at in range(0, size, len(zeros)):
        file.write(zeros[: size - at])
