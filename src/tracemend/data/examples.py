"""The examples of a run as one table in its directory, so that later commands need no source file."""

from __future__ import annotations

import json
from collections.abc import Hashable
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
    """Write ``examples.parquet``: the columns of ``COLUMNS``, ``split``, then further columns.

    The label names, the positive label and the notes go along as metadata of the table.

    Raises:
        DataError: a further column holds what Parquet cannot hold.
        RunError: the disk is full or not writable.
    """
    path = Path(folder) / NAME
    # As objects, so that numbers stay what they are beside parts that lack the column.
    parts = [part.frame.astype(object).assign(**{_SPLIT: name}) for name, part in splits.parts.items()]
    table = pd.concat(parts, ignore_index=True)
    first = [*COLUMNS, _SPLIT]
    table = table[[*first, *(c for c in table.columns if c not in first)]]
    # Parquet would give every object of a column the same keys, make floats of whole numbers beside fractions, and has
    # no place for those beyond 64 bits.
    as_json = [
        c for c in table.columns if c not in first and (table[c].map(is_nested).any() or _of_no_one_type(table[c]))
    ]
    facts: dict[Hashable | None, Any] = {
        "labels": list(splits.labels),
        "positive": splits.train.positive,
        "notes": list(splits.notes),
        "columns": {name: list(part.frame.columns) for name, part in splits.parts.items()},
        "json": as_json,
    }
    try:
        table = table.assign(**{name: table[name].map(json_text) for name in as_json})
        table.attrs = facts
        write_parquet(path, table)
    except UNHELD as error:
        further = ", ".join(repr(c) for c in table.columns if c not in first)
        raise DataError(
            f"one of the further columns ({further}) cannot be kept with the run ({error}); leave it out, or give it "
            "values of one type."
        ) from error
    return path


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
    from pyarrow.parquet import ParquetFile

    path = Path(folder) / NAME
    if not path.exists():
        raise RunError(f"{path} does not exist; name the --out directory of a finished tune, repair, detect or demo.")
    try:
        read = ParquetFile(path).read()
        facts = json.loads(read.schema.metadata[b"PANDAS_ATTRS"])
        table = frame_from_arrow(read)
        table = table.astype(object).where(table.notna(), None)
        for name in facts.get("json", ()):
            cells = [None if cell is None else json.loads(cell) for cell in table[name]]
            table[name] = pd.Series(cells, index=table.index, dtype=object)
        parts = {
            str(name): Labelled(
                rows.reset_index(drop=True)[facts["columns"][str(name)]], tuple(facts["labels"]), facts["positive"]
            )
            for name, rows in table.groupby(_SPLIT, sort=False)
        }
        notes = tuple(facts["notes"])
        return Splits(parts["train"], parts["validation"], parts["verdict"], parts.get("test"), notes)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"{path} is damaged ({error}); delete it and give the command that made the run again."
        ) from error
