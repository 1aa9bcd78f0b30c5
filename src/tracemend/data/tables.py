"""Tables out of files, as they are: every cell with the place where a person finds it."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.data.separated import LINE_END, Parsed, comma_separated, tab_separated
from tracemend.data.writable import check_names
from tracemend.errors import DataError

_PICKLES = (".pkl", ".pickle", ".p", ".pt", ".pth", ".joblib", ".bin")
_PICKLE = "a pickle; pickles can run code and are never loaded, save the table as CSV, JSONL or Parquet"
# How binary formats begin, and what to say about each.
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"PAR1", "a Parquet file; name it .parquet"),
    (b"\x1f\x8b", "gzip-compressed; add .gz to its name"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet; save it as CSV (UTF-8)"),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet; save it as CSV (UTF-8)"),
    (b"%PDF", "a PDF"),
    (b"SQLite format 3", "an SQLite database; export the table as CSV"),
    *((bytes([0x80, n]), _PICKLE) for n in (2, 3, 4, 5)),
)


@dataclass(frozen=True, eq=False)
class Table:
    """Rows with the place of each, so that messages name what a person sees.

    Attributes:
        frame: the cells, index 0..n-1; text files give strings and None only.
        places: one number a row: the line on which it begins in a text file (the header is line 1), the position
            from 0 elsewhere.
        unit: what the numbers count: ``"line"``, ``"object"`` or ``"row"``.
        name: what the user called the source.
        notes: sentences for the report: what was left out of it.
    """

    frame: pd.DataFrame
    places: Sequence[int]
    unit: str
    name: str
    notes: tuple[str, ...] = ()

    def at(self, rows: Iterable[int], most: int = 5) -> str:
        """Name rows by their places, the first few of them.

        Example: ``"lines 4, 19, 77, 80, 81 and 12 more"``.
        """
        places = [self.places[row] for row in rows]
        shown = ", ".join(str(place) for place in places[:most])
        more = f" and {len(places) - most} more" if len(places) > most else ""
        start = " (counted from 0)" if self.unit == "row" else ""
        return f"{self.unit}{'s' if len(places) > 1 else ''} {shown}{more}{start}"


def table_from_frame(frame: pd.DataFrame, name: str) -> Table:
    """A data frame as a table; rows are counted from 0.

    Raises:
        DataError: two columns have one name, a name cannot be written, or there are no rows.
    """
    check_names([str(column) for column in frame.columns], name)
    frame = frame.reset_index(drop=True).rename(columns=str)
    if frame.empty:
        raise DataError(f"{name} has no rows; at least one is needed.")
    return Table(frame, range(len(frame)), "row", name)


# The usual 0.6 takes missing.csv for tiny.csv: most of a short name is its ending.
_SPELT_ALIKE = 0.8


def refuse_missing(path: Path) -> None:
    """Raise a DataError where there is no such file; it names the file beside it that is spelt nearly so."""
    if path.exists():
        return
    siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    near = get_close_matches(path.name, siblings, n=1, cutoff=_SPELT_ALIKE)
    raise DataError(
        f"there is no file {path}" + (f"; did you mean {path.with_name(near[0])}?" if near else "; check the path.")
    )


def table_from_file(path: Path) -> Table:
    """Read .csv, .tsv, .jsonl, .json (a list of objects), each also with .gz, or .parquet.

    Text is UTF-8 with or without a byte order mark. A .csv may be separated by semicolons or bars too, which its
    header and the rows behind it tell, or by what a first line ``sep=;`` says. Cells are not interpreted: "NA" and
    "007" stay as they are, and an empty cell is None.

    Raises:
        DataError: the file is missing, empty, damaged, a pickle, not UTF-8, or not what its ending says.
    """
    refuse_missing(path)
    endings = [ending.lower() for ending in path.suffixes]
    packed = endings[-1:] == [".gz"]
    kind = next(reversed(endings[:-1] if packed else endings), "")
    if kind in _PICKLES:
        raise DataError(f"{path} is a pickle by its ending; pickles can run code and are never loaded. {_REMEDY}")
    if kind == ".parquet" and not packed:
        return _parquet(path)
    if kind not in _PARSERS:
        what = f"ends in {kind!r}" if kind else "has no file ending"
        known = f"known are {', '.join(_PARSERS)} (also .gz), .parquet."
        raise DataError(f"{path} {what}; {_BY_ENDING.get(kind, '')}{known}")
    text = _decoded(path, kind, packed)
    frame, places, unit = _PARSERS[kind](text, path)
    if frame.empty:
        raise DataError(f"{path} has column names but no rows; at least one is needed.")
    return Table(frame, places, unit, str(path))


_REMEDY = "Save the table as CSV (UTF-8), TSV, JSONL or Parquet."
_SPREADSHEET = "save the sheet as CSV (UTF-8); "
_BY_ENDING = {
    "": "add the one that says what it holds; ",
    ".txt": "rename it .csv if commas separate its columns, .tsv if tabs do; ",
    **dict.fromkeys((".xlsx", ".xls", ".ods"), _SPREADSHEET),
}


def _decoded(path: Path, kind: str, packed: bool) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check what it is and its permissions.") from None
    if packed and raw:
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{path} is not a whole gzip file ({error}); fetch or write it again.") from None
    if not raw.strip():
        raise DataError(f"{path} is empty; at least a header and one row are needed.")
    for signature, remedy in _SIGNATURES:
        if raw.startswith(signature):
            raise DataError(f"{path} is not {kind} text but {remedy}.")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path} is UTF-16, not UTF-8. {_convert(path, kind, packed, 'UTF-16')}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} is not UTF-8: byte 0x{raw[error.start]:02x} at position {error.start} (line {line}). "
            + _convert(path, kind, packed, "WINDOWS-1252")
        ) from None
    if "\x00" in text:
        raise DataError(f"{path} holds NUL bytes at position {text.index(chr(0))}, so it is not text. {_REMEDY}")
    start = text.lstrip()[:200].lower()
    if start.startswith(("<!doctype", "<html", "<?xml")):
        raise DataError(f"{path} is a web page or XML, not {kind}; was a download refused? {_REMEDY}")
    if kind in (".csv", ".tsv") and _is_json(text):
        raise DataError(f"{path} holds JSON, not {kind[1:].upper()}; name it .jsonl (one object a line) or .json.")
    return text


def _convert(path: Path, kind: str, packed: bool, encoding: str) -> str:
    """How to make UTF-8 of a file in another encoding."""
    source = shlex.quote(str(path))
    command = f"iconv -f {encoding} -t UTF-8"
    command = f"gzip -dc {source} | {command}" if packed else f"{command} {source}"
    return f"Save it as UTF-8 (in a spreadsheet: 'CSV UTF-8'), or convert it: {command} > utf8{kind}"


def _is_json(text: str) -> bool:
    start = text.lstrip()
    if start[:1] not in ("{", "["):
        return False
    if start.startswith("[") and start[1:].lstrip()[:1] == "{":
        return True
    try:
        return isinstance(json.loads(start.split("\n", 1)[0]), dict)
    except (ValueError, RecursionError):
        return start[1:].lstrip()[:1] == '"' and '":' in start[:200]


_TOO_DEEP = "holds lists or objects within one another too deep to be read; write them flat, or leave them out."


def _jsonl(text: str, path: Path) -> Parsed:
    objects, places = [], []
    for place, line in enumerate(LINE_END.split(text), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line, object_pairs_hook=_once)
        except ValueError as error:
            hint = (
                " (the file looks like one JSON list: name it .json)" if place == 1 and line.strip()[:1] == "[" else ""
            )
            raise DataError(f"{path}: line {place} is not JSON: {error}{hint}.") from None
        except RecursionError:
            raise DataError(f"{path}: line {place} {_TOO_DEEP}") from None
        if not isinstance(value, dict):
            raise DataError(f"{path}: line {place} holds a {type(value).__name__}; each line must be one JSON object.")
        objects.append(value)
        places.append(place)
    return _records(objects, path), places, "line"


def _json(text: str, path: Path) -> Parsed:
    try:
        value = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        hint = "; one object a line is .jsonl" if error.msg == "Extra data" else ""
        raise DataError(f"{path} is not JSON: {error}{hint}.") from None
    except ValueError as error:
        raise DataError(f"{path} is not JSON: {error}.") from None
    except RecursionError:
        raise DataError(f"{path} {_TOO_DEEP}") from None
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise DataError(f'{path} must be a list of objects, such as [{{"text": ..., "label": ...}}, ...].')
    return _records(value, path), range(1, len(value) + 1), "object"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"more than one value for {twice!r} in one object")
    return found


def _records(objects: list[dict[str, Any]], path: Path) -> pd.DataFrame:
    names = dict.fromkeys(name for item in objects for name in item)
    check_names(list(names), path)
    # Column by column as objects, so that 1 beside null stays 1.
    return pd.DataFrame({name: pd.Series([item.get(name) for item in objects], dtype=object) for name in names})


def _parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a whole Parquet file ({str(error).splitlines()[0]}). {_REMEDY}") from None
    check_names(table.column_names, path)
    return table_from_frame(frame_from_arrow(table), str(path))


def frame_from_arrow(table: Any) -> pd.DataFrame:
    """A pyarrow table with every cell as it is: whole numbers stay whole beside nulls, an index with a name stays."""
    # What pandas noted of types and index would make ids beside a null floats, and hide a column that was an index.
    frame: pd.DataFrame = table.to_pandas(integer_object_nulls=True, ignore_metadata=True)
    for index in (table.schema.pandas_metadata or {}).get("index_columns", ()):
        if isinstance(index, dict) and index.get("name") is not None:  # numbers in a row, which are only noted
            frame.insert(0, index["name"], range(index["start"], index["stop"], index["step"]))
    unnamed = [name for name in frame.columns if re.fullmatch(r"__index_level_\d+__", str(name))]
    return frame.drop(columns=unnamed)


_PARSERS: dict[str, Callable[[str, Path], Parsed]] = {
    ".csv": comma_separated,
    ".tsv": tab_separated,
    ".jsonl": _jsonl,
    ".json": _json,
}
