"""The examples of a run as one table in its directory, so that later commands need no source file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tracemend.data.export import UNHELD, is_nested, json_text
from tracemend.data.schema import COLUMNS, Labelled, Splits
from tracemend.data.tables import frame_from_arrow
from tracemend.errors import DataError, RunError
from tracemend.runs import write_parquet

NAME = "examples.parquet"


def write_examples(splits: Splits, folder: Path | str) -> Path:
    """Write ``examples.parquet``: the columns of ``COLUMNS``, the name of the part, then further columns.

    The label names, the positive label and the notes go along as metadata of the table.

    Raises:
        DataError: a further column holds what Parquet cannot hold.
        RunError: the disk is full or not writable.
    """
    path = Path(folder) / NAME
    write_parts(splits.parts, path, notes=list(splits.notes), given=list(splits.given))
    return path


def write_parts(parts: Mapping[str, Labelled], path: Path, **facts: Any) -> None:
    """Write sets of examples with the same labels as one table; :func:`read_parts` reads them back.

    Args:
        parts: by name.
        path: of the file.
        facts: kept as metadata of the table.

    Raises:
        DataError: a further column holds what Parquet cannot hold.
        RunError: the disk is full or not writable.
    """
    # As objects, so that numbers stay what they are beside parts that lack the column.
    frames = [part.frame.astype(object).assign(**{_SPLIT: name}) for name, part in parts.items()]
    table = pd.concat(frames, ignore_index=True)
    first = [*COLUMNS, _SPLIT]
    table = table[[*first, *(c for c in table.columns if c not in first)]]
    # Parquet would give every object of a column the same keys, make floats of whole numbers beside fractions, and has
    # no place for those beyond 64 bits.
    as_json = [
        c for c in table.columns if c not in first and (table[c].map(is_nested).any() or _of_no_one_type(table[c]))
    ]
    one = next(iter(parts.values()))
    about = {
        "labels": list(one.labels),
        "positive": one.positive,
        "columns": {name: list(part.frame.columns) for name, part in parts.items()},
        "json": as_json,
        **facts,
    }
    try:
        table = table.assign(**{name: table[name].map(json_text) for name in as_json})
        table.attrs = {**{str(name): value for name, value in about.items()}}
        write_parquet(path, table)
    except UNHELD as error:
        further = ", ".join(repr(c) for c in table.columns if c not in first)
        raise DataError(
            f"one of the further columns ({further}) cannot be kept with the run ({error}); leave it out, or give it "
            "values of one type."
        ) from error


_SPLIT = "tracemend_split"  # no name that a user's own column may have
_BEYOND = 2**63  # what no whole number of Parquet's usual kind reaches


def _of_no_one_type(cells: pd.Series) -> bool:
    """Whether a column of numbers holds whole ones beside fractions or gaps of another part, or beyond 64 bits."""
    there = [cell for cell in cells if cell is not None and cell is not pd.NA]
    floats = [isinstance(cell, float | np.floating) for cell in there]
    whole = [isinstance(cell, int | np.integer) and not isinstance(cell, bool) for cell in there]
    if not any(whole) or not all(f or w for f, w in zip(floats, whole, strict=True)):
        return False
    return any(floats) or not all(-_BEYOND <= cell < _BEYOND for cell in there)


def read_examples(folder: Path | str) -> Splits:
    """Read back what :func:`write_examples` wrote.

    Raises:
        RunError: it is not there, or damaged.

    Example:
        >>> read_examples("runs/mine").train.labels  # doctest: +SKIP
        ('0', '1')
    """
    path = Path(folder) / NAME
    if not path.exists():
        raise RunError(f"{path} does not exist; name the --out directory of a finished tune, repair, detect or demo.")
    parts, facts = read_parts(path)
    try:
        return Splits(
            parts["train"], parts["validation"], parts["verdict"], parts.get("test"),
            notes=tuple(facts["notes"]), given=tuple(facts.get("given", ())),
        )  # fmt: skip
    except KeyError as error:
        raise _damaged(path, error) from error


def read_parts(path: Path) -> tuple[dict[str, Labelled], dict[str, Any]]:
    """Read back what :func:`write_parts` wrote: the sets by name, and the facts.

    Raises:
        RunError: the file is damaged.
    """
    from pyarrow.parquet import ParquetFile

    try:
        read = ParquetFile(path).read()
        facts = json.loads(read.schema.metadata[b"PANDAS_ATTRS"])
        table = frame_from_arrow(read)
        table = table.astype(object).where(table.notna(), None)
        for name in facts.get("json", ()):
            cells = [None if cell is None else json.loads(cell) for cell in table[name]]
            table[name] = pd.Series(cells, index=table.index, dtype=object)
        labels, positive = tuple(facts["labels"]), facts["positive"]
        parts = {
            name: Labelled(table[table[_SPLIT] == name].reset_index(drop=True)[columns], labels, positive)
            for name, columns in facts["columns"].items()
        }
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    return parts, facts


def _damaged(path: Path, error: Exception) -> RunError:
    return RunError(f"{path} is damaged ({error}); delete it and give the command that made the run again.")
