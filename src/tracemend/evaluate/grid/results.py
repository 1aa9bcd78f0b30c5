"""The rows of finished cells and the errors of failed ones, on disk."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.errors import RunError, TracemendError
from tracemend.evaluate.grid.cells import Cell
from tracemend.runs import read_json, write_json, write_parquet

PACKED = "packed.parquet"
# Columns that the cell gives; a measurement may not use their names.
COLUMNS = ("cell", "dataset", "noise", "rate", "seed", "arm", "settings", "cell_seconds")
_FILE = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A cell that ended with an error.

    Attributes:
        cell: which.
        error: type and message, one line.
        details: the traceback, or the end of the process's log.
    """

    cell: Cell
    error: str
    details: str


class Results:
    """A folder of finished cells: ``FINGERPRINT.parquet`` each, or many of them in ``packed.parquet``.

    Args:
        folder: of the rows; small, to be kept under version control.
        failures: folder of the errors of failed cells, one JSON file each.
    """

    def __init__(self, folder: Path | str, failures: Path | str) -> None:
        self.folder, self.failed_folder = Path(folder), Path(failures)

    def finished(self) -> set[str]:
        """Fingerprints of the cells whose rows are there."""
        found = {path.stem for path in self._single()}
        packed = self.folder / PACKED
        if packed.exists():
            found |= set(_read(packed, ["cell"])["cell"])
        return found

    def keep(self, cell: Cell, rows: pd.DataFrame, *, seconds: float) -> Path:
        """Write the rows of a finished cell, atomically, and forget that it failed before.

        Raises:
            TracemendError: there is no row, or a column has a name that the cell gives.
            RunError: the disk is full or not writable.
        """
        taken = [name for name in COLUMNS if name in rows]
        if taken or not len(rows):
            what = f"columns named {', '.join(taken)}, which the grid adds itself" if taken else "no row"
            raise TracemendError(f"the measurement of {cell.arm} on {cell.unit.name} gave {what}.")
        about = {
            "cell": cell.fingerprint, "dataset": cell.dataset, "noise": cell.noise, "rate": float(cell.rate),
            "seed": cell.seed, "arm": cell.arm, "settings": json.dumps(dict(cell.settings), sort_keys=True),
            "cell_seconds": round(seconds, 3),
        }  # fmt: skip
        table = pd.concat([pd.DataFrame([about] * len(rows)), rows.reset_index(drop=True)], axis=1)
        path = self.folder / f"{cell.fingerprint}.parquet"
        write_parquet(path, table)
        (self.failed_folder / f"{cell.fingerprint}.json").unlink(missing_ok=True)
        return path

    def fail(self, cell: Cell, error: BaseException | str, *, details: str = "") -> None:
        """Record that a cell ended with an error."""
        if isinstance(error, BaseException):
            details = details or "".join(traceback.format_exception(error))
            error = f"{type(error).__name__}: {error}"
        facts = {"cell": cell.facts, "error": " ".join(error.split()), "details": details}
        write_json(self.failed_folder / f"{cell.fingerprint}.json", facts)

    def forgive(self, cells: Iterable[Cell]) -> None:
        """Forget that these cells failed, so that they wait again."""
        for cell in cells:
            (self.failed_folder / f"{cell.fingerprint}.json").unlink(missing_ok=True)

    def failures(self) -> dict[str, Failure]:
        """The failed cells by fingerprint."""
        found = {}
        for path in sorted(self.failed_folder.glob("*.json")):
            facts = read_json(path)
            found[path.stem] = Failure(**{**facts, "cell": Cell.of(facts["cell"])})
        return found

    def forget(self, cells: Iterable[Cell]) -> int:
        """Delete the rows of these cells, so that they are run again; how many cells had any.

        A fingerprint knows of settings, not of code: after a method was changed, its rows are forgotten by hand.
        """
        names = {cell.fingerprint for cell in cells} & self.finished()
        packed = self.folder / PACKED
        if packed.exists():
            table = _read(packed)
            kept = table[~table["cell"].isin(names)]
            if not len(kept):
                packed.unlink()
            elif len(kept) < len(table):
                write_parquet(packed, kept)
        for name in names:
            (self.folder / f"{name}.parquet").unlink(missing_ok=True)
        return len(names)

    def waiting(self, cells: Iterable[Cell]) -> list[Cell]:
        """Those of ``cells`` that neither are finished nor failed, in order, each once."""
        done = self.finished() | {path.stem for path in self.failed_folder.glob("*.json")}
        listed = {cell.fingerprint: cell for cell in cells}
        return [cell for name, cell in listed.items() if name not in done]

    def rows(self) -> pd.DataFrame:
        """All rows of all finished cells, ordered by dataset, noise, rate, seed and arm; empty where there are none.

        Raises:
            RunError: a file is damaged.
        """
        packed = self.folder / PACKED
        parts = [_read(packed)] if packed.exists() else []
        # A cell that was packed while its own file was still there must not count twice.
        there = set(parts[0]["cell"]) if parts else set()
        parts += [_read(path) for path in self._single() if path.stem not in there]
        if not parts:
            return pd.DataFrame(columns=list(COLUMNS))
        # Empty columns of one part would decide the type of all.
        table = pd.concat([part.dropna(axis=1, how="all") for part in parts], ignore_index=True)
        return table.sort_values(["dataset", "noise", "rate", "seed", "arm"], kind="stable").reset_index(drop=True)

    def pack(self) -> Path | None:
        """Put the rows of all finished cells into one file, and remove their own; None where there are none."""
        single = self._single()
        table = self.rows()
        if not len(table):
            return None
        path = self.folder / PACKED
        write_parquet(path, table)
        for one in single:
            one.unlink()
        return path

    def _single(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.parquet") if _FILE.fullmatch(path.stem))


def _read(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    try:
        table: Any = pd.read_parquet(path, columns=columns)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{path} is damaged ({error}); delete it, and its cells are run again.") from error
    return pd.DataFrame(table)
