"""Labelled text out again, so that nothing is lost on the way back in."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd

from tracemend.data.schema import COLUMNS, RIDING, ROW, Labelled, own_name
from tracemend.errors import DataError
from tracemend.runs import atomic

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
# What pyarrow and json raise where they cannot hold a cell; pyarrow's own errors are of these kinds too.
UNHELD = (ValueError, TypeError, ArithmeticError, NotImplementedError)


def write(data: Labelled, path: Path | str, *, names: Mapping[str, str] | None = None) -> Path:
    """Write as .csv, .tsv, .jsonl or .parquet by the ending, atomically and in UTF-8.

    Columns are those of ``COLUMNS`` that hold anything, then the further columns, under the names they had in the
    user's file unless such a name is needed here. In .csv and .tsv an empty cell is None; other types than text come
    back as text, and lists and objects as JSON. In .parquet a column becomes JSON text, one value a cell, where Parquet
    would alter it or cannot hold it: objects of different keys, texts beside numbers. What JSON has no form for is
    text in it, see :func:`json_text`.

    Args:
        data: the examples.
        path: the file; what was there is replaced.
        names: other names for canonical columns, such as ``{"text": "comment"}``.

    Returns:
        The path.

    Raises:
        DataError: unknown ending, two columns of one name, or cells that the format cannot hold.
        RunError: the disk is full or not writable; what was there before is unchanged.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in ENDINGS:
        raise DataError(f"{path} ends in {kind or 'nothing'!r}; known are {', '.join(ENDINGS)}.")
    empty = [name for name in COLUMNS if name in ("reply", "group", "truth") and data.frame[name].isna().all()]
    frame = data.frame.drop(columns=[*empty, *data.frame.columns.intersection([ROW])])
    frame.columns = pd.Index(_out(list(frame.columns), len(COLUMNS) - len(empty), names or {}))
    if not frame.columns.is_unique:
        twice = sorted(set(frame.columns[frame.columns.duplicated()]))
        raise DataError(
            f"{path} would hold two columns named {', '.join(map(repr, twice))}, one of them made here; rename yours "
            "in the file that was read."
        )
    try:
        content = _encoded(frame, kind)
    except UNHELD as error:
        other = ".parquet" if kind == ".jsonl" else ".jsonl"
        raise DataError(f"{path}: a column holds what {kind} cannot hold ({error}); try {other}.") from error
    with atomic(path, "wb") as file:
        file.write(content)
    return path


def _out(columns: list[str], made: int, names: Mapping[str, str]) -> list[str]:
    """What the columns are called in the file: the first ``made`` are canonical, the others a user's own."""
    # The ids that are made here keep their name, also where a user's groups, say, stand in a column "uid".
    canonical = [name if names.get(name) == "uid" else names.get(name, name) for name in columns[:made]]
    own = {name: own_name(name, (*COLUMNS, ROW)) for name in columns[made:]}
    taken = {*canonical, *(free for free in own.values() if free not in canonical)}
    for name, free in own.items():
        if free in canonical:
            while free in taken:
                free = RIDING + free
            own[name] = free
            taken.add(free)
    return [*canonical, *own.values()]


def with_own(table: pd.DataFrame, examples: pd.DataFrame) -> pd.DataFrame:
    """A table about examples with where each stood in its source and its user's own columns behind it.

    Args:
        table: a row an example, or more, with its ``uid``.
        examples: the frame of :class:`Labelled` examples.

    Example:
        >>> examples = pd.DataFrame({"uid": ["a-0"], "text": ["you rock"], "ticket": ["T-7"], "source_row": [12]})
        >>> with_own(pd.DataFrame({"uid": ["a-0"], "score": [0.9]}), examples).iloc[0].to_dict()
        {'uid': 'a-0', 'score': 0.9, 'source_row': 12, 'ticket': 'T-7'}
    """
    rows = examples.set_index("uid").drop(columns=[name for name in COLUMNS if name in examples and name != "uid"])
    first = [name for name in (ROW,) if name in rows]
    own = rows[[*first, *(name for name in rows if name not in first)]].map(_as_text)
    own = own.rename(columns=lambda name: RIDING + name if name in table else name)
    return table.join(own, on="uid")


def is_nested(cell: Any) -> bool:
    """Whether a cell holds cells of its own: a list, an array, an object."""
    return isinstance(cell, dict | list | tuple | np.ndarray | set | frozenset)


def _as_text(cell: Any) -> Any:
    return json_text(cell) if is_nested(cell) else _plain(cell) if isinstance(cell, _BYTES) else cell


def json_text(value: Any) -> str:
    """A cell, or a row of cells, as JSON: missing cells are null, dates as in ISO 8601, numbers to their last digit.

    What JSON has no form for is text that can be turned back: an infinity ``"Infinity"`` or ``"-Infinity"``, which
    Python's ``float`` and JavaScript's ``Number`` read, bytes in base64. A set is a list.

    Raises:
        TypeError: it holds what has no such text either.

    Example:
        >>> json_text({"day": pd.Timestamp("2024-01-02"), "score": 0.1 + 0.2, "tags": np.array(["a"]), "by": None})
        '{"day": "2024-01-02T00:00:00", "score": 0.30000000000000004, "tags": ["a"], "by": null}'
        >>> json_text([float("-inf"), b"abc"])
        '["-Infinity", "YWJj"]'
    """
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


_BYTES = (bytes, bytearray, memoryview)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(cell) for name, cell in value.items()}
    if isinstance(value, list | tuple | np.ndarray | set | frozenset):
        return [_plain(cell) for cell in value]
    if _is_missing(value):
        return None
    if isinstance(value, float | np.floating) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, _BYTES):
        return base64.b64encode(value).decode()
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | timedelta | UUID | pd.Period | pd.Interval) else value


def _is_missing(cell: Any) -> bool:
    return cell is None or cell is pd.NaT or cell is pd.NA or (isinstance(cell, float | np.floating) and cell != cell)


def _parquet_gives_back(cells: pd.Series) -> bool:
    """Whether Parquet holds a column as it is.

    It cannot hold texts beside numbers or objects without keys, gives all objects of a column the same keys, and makes
    floats of whole numbers beside fractions in a list.
    """
    import pyarrow as pa
    from pyarrow.parquet import read_table, write_table

    if cells.dtype != object or cells.map(lambda cell: cell is None or isinstance(cell, str)).all():
        return True
    file = io.BytesIO()
    try:
        write_table(pa.table({"cells": pa.array(cells, from_pandas=True)}), file)
    except UNHELD:
        return False
    return all(map(_same, cells, read_table(file)["cells"].to_pylist()))


def _same(cell: Any, back: Any) -> bool:
    if _is_missing(cell):
        return _is_missing(back)
    return json_text(cell) == json_text(back) if is_nested(cell) else bool(cell == back)


def _each(frame: pd.DataFrame, columns: Iterable[str], of: Callable[[Any], Any]) -> pd.DataFrame:
    # As objects: whole numbers beside none would become floats.
    return frame.assign(
        **{name: pd.Series([of(cell) for cell in frame[name]], index=frame.index, dtype=object) for name in columns}
    )


def _encoded(frame: pd.DataFrame, kind: str) -> bytes:
    if kind == ".parquet":
        altered = [name for name in frame.columns if not _parquet_gives_back(frame[name])]
        frame = _each(frame, altered, lambda cell: None if _is_missing(cell) else json_text(cell))
        found: bytes = frame.to_parquet(index=False)
        return found
    names = [str(name) for name in frame.columns]
    if kind == ".jsonl":
        rows = frame.astype(object).itertuples(index=False, name=None)
        return "".join(json_text(dict(zip(names, row, strict=True))) + "\n" for row in rows).encode()
    # What a cell of text cannot hold as it is, is JSON in it.
    frame = _each(frame, [name for name in frame.columns if frame[name].dtype == object], _as_text)
    separator = "\t" if kind == ".tsv" else ","
    content = str(frame.to_csv(sep=separator, index=False, lineterminator="\n"))
    # Python's csv leaves a lone carriage return unquoted. And .tsv is plain lines, or quoted throughout: the quoted
    # header tells readers which.
    if "\r" in content or (kind == ".tsv" and '"' in content):
        content = str(frame.to_csv(sep=separator, index=False, lineterminator="\n", quoting=csv.QUOTE_ALL))
    return content.encode()
