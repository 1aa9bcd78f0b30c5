"""Labelled text out again, so that nothing is lost on the way back in."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from tracemend.data.schema import COLUMNS, Labelled, own_name
from tracemend.errors import DataError
from tracemend.runs import atomic

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")


def write(data: Labelled, path: Path | str, *, names: Mapping[str, str] | None = None) -> Path:
    """Write as .csv, .tsv, .jsonl or .parquet by the ending, atomically and in UTF-8.

    Columns are those of ``COLUMNS`` that hold anything, then the further columns, under the names they had in the
    user's file unless such a name is needed here. In .csv and .tsv an empty cell is None; other types than text come
    back as text.

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
    frame = data.frame.drop(columns=empty).rename(columns=dict(names or {}))
    made = len(COLUMNS) - len(empty)
    taken, own = set(frame.columns[:made]), {}
    for name in sorted(frame.columns[made:], key=len):  # the shorter first: the longer may only take what is left
        free = own_name(name, COLUMNS)
        own[name] = name if free in taken else free
        taken.add(own[name])
    frame = frame.rename(columns=own)
    if not frame.columns.is_unique:
        twice = sorted(set(frame.columns[frame.columns.duplicated()]))
        raise DataError(
            f"{path} would hold two columns named {', '.join(map(repr, twice))}, one of them made here; rename yours "
            "in the file that was read."
        )
    try:
        content = _encoded(frame, kind)
    except (ValueError, TypeError, ArithmeticError) as error:  # pyarrow's errors are ValueErrors and TypeErrors
        raise DataError(f"{path}: a column holds what {kind} cannot hold ({error}); try .jsonl.") from error
    with atomic(path, "wb") as file:
        file.write(content)
    return path


def _encoded(frame: pd.DataFrame, kind: str) -> bytes:
    if kind == ".parquet":
        found: bytes = frame.to_parquet(index=False)
        return found
    if kind == ".jsonl":
        lines = frame.to_json(orient="records", lines=True, force_ascii=False, double_precision=15)
        return str(lines).encode()
    separator = "\t" if kind == ".tsv" else ","
    content = str(frame.to_csv(sep=separator, index=False, lineterminator="\n"))
    # Python's csv leaves a lone carriage return unquoted. And .tsv is plain lines, or quoted throughout: the quoted
    # header tells readers which.
    if "\r" in content or (kind == ".tsv" and '"' in content):
        content = str(frame.to_csv(sep=separator, index=False, lineterminator="\n", quoting=csv.QUOTE_ALL))
    return content.encode()
