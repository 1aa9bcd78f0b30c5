"""Tables out of files, as they are: every cell with the place where a person finds it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import shlex
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.data.writable import unwritable
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
    _check_names([str(column) for column in frame.columns], name)
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


def _check_names(names: Sequence[str], source: object) -> None:
    for name in names:
        if what := unwritable(name):
            raise DataError(f"the column name {name!a} of {source} holds {what}; give it another name.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"{source} has more than one column named {', '.join(map(repr, twice))}; give each column its own name."
        )


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


_SEPARATORS = ",;|"  # of a .csv
# Characters and rows by which it is told which of them it is.
_SEEN, _SEEN_ROWS = 1_000_000, 20
_LINE_END = re.compile(r"\r\n|\r|\n")
# A first line that spreadsheets write and read.
_SAID = re.compile(rf'([\r\n]*)"?sep=([,;|\t])"?[ \t]*(?:{_LINE_END.pattern})', re.IGNORECASE)
_Parsed = tuple[pd.DataFrame, Sequence[int], str]


def _csv(text: str, path: Path) -> _Parsed:
    said = _SAID.match(text)
    if said:
        # An empty line in its place leaves the numbers of the others as they are.
        return _delimited(f"{said[1]}\n{text[said.end() :]}", path, said[2])
    header = _header(text)
    if header.strip('" ').lower().startswith("sep="):
        raise DataError(
            f"{path} begins with {header.strip()!r}, which names no separator; write one of , ; | or a tab behind the "
            "equals sign, or delete the line."
        )
    if not any(separator in header for separator in _SEPARATORS) and "\t" in header:
        raise DataError(f"{path} is separated by tabs; name it .tsv.")
    return _delimited(text, path, max(_SEPARATORS, key=lambda separator: _fit(text[:_SEEN], separator)))


def _header(text: str) -> str:
    """The first line that is not empty."""
    return _LINE_END.split(text.lstrip("\r\n"), maxsplit=1)[0]


def _fit(text: str, separator: str) -> int:
    """How well a separator fits: how many rows have as many cells as the header before them; -1 where that has one.

    So one that is quoted, or within a column's name, does not count. Where two fit alike, the first is meant.
    """
    rows = (row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if row and row != [""])
    width = alike = 0
    try:
        width = len(next(rows, []))
        for row in islice(rows, _SEEN_ROWS):
            if len(row) != width:
                break
            alike += 1
    except csv.Error:  # a cell beyond csv's limit; what is wrong with it, is said where it is read
        pass
    return alike if width > 1 else -1


def _tsv(text: str, path: Path) -> _Parsed:
    if _SAID.match(text):
        return _csv(text, path)
    # A lone carriage return ends a line where nothing else does; else it is of a cell.
    plain = text.replace("\r\n", "\n") if "\n" in text else text.replace("\r", "\n")
    lines = plain.removesuffix("\n").split("\n")
    header = _header(plain)
    if "\t" not in header and "," in header:
        raise DataError(f"{path} is separated by commas; name it .csv.")
    tabs = header.count("\t")
    if header.startswith('"') or any(line and line.count("\t") != tabs for line in lines):
        return _delimited(text, path, "\t")  # quoted as in CSV, so cells may hold tabs and line breaks
    # Where every line is a whole row, a lone quotation mark is text: many published TSV files never quote.
    rows = [_tsv_row(line, tabs + 1) for line in lines]
    return _rectangle(rows, list(range(1, len(rows) + 1)), path)


def _tsv_row(line: str, width: int) -> list[str]:
    if '"' in line:
        try:
            quoted = next(csv.reader([line], delimiter="\t", strict=True))
        except csv.Error:
            return line.split("\t")
        if len(quoted) == width:
            return quoted
    return line.split("\t")


def _delimited(text: str, path: Path, separator: str) -> _Parsed:
    # The limit guards readers that stream; here the text is in memory already. It is global, so it is put back.
    limit = csv.field_size_limit(max(len(text), 131_072))
    rows: list[list[str]] = []
    places: list[int] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    begin = 1
    try:
        for row in reader:
            rows.append(row)
            places.append(begin)
            begin = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}: the row that begins in line {begin} cannot be read ({error}). A quotation mark inside a quoted "
            'cell must be doubled (""), and every quoted cell closed.'
        ) from None
    finally:
        csv.field_size_limit(limit)
    return _rectangle(rows, places, path)


def _rectangle(rows: list[list[str]], places: list[int], path: Path) -> _Parsed:
    filled = [(row, place) for row, place in zip(rows, places, strict=True) if row and row != [""]]
    if not filled:
        raise DataError(f"{path} holds no header and no row; at least these are needed.")
    names = [name.strip() for name in filled[0][0]]
    for row, place in filled:
        if len(row) != len(names):
            raise DataError(
                f"{path}: line {place} has {len(row)} cells, the header has {len(names)}. A cell that holds the "
                "separator or a line break must be in quotation marks."
            )
    # A spreadsheet writes columns at its right end that somebody once touched.
    there = [at for at, name in enumerate(names) if name or any(row[at].strip() for row, _ in filled[1:])]
    names = [names[at] for at in there]
    if (unnamed := names.count("")) > 1:
        raise DataError(
            f"{path}: {unnamed} columns have no name in line {filled[0][1]}. If a title stands there, delete the lines "
            "above the header; else give each column its own name."
        )
    _check_names(names, path)
    cells: list[list[str | None]] = [[row[at] if row[at] else None for at in there] for row, _ in filled[1:]]
    frame = pd.DataFrame(cells, columns=names, dtype=object)
    return frame, [place for _, place in filled[1:]], "line"


_TOO_DEEP = "holds lists or objects within one another too deep to be read; write them flat, or leave them out."


def _jsonl(text: str, path: Path) -> _Parsed:
    objects, places = [], []
    for place, line in enumerate(text.split("\n"), start=1):
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


def _json(text: str, path: Path) -> _Parsed:
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
    _check_names(list(names), path)
    # Column by column as objects, so that 1 beside null stays 1.
    return pd.DataFrame({name: pd.Series([item.get(name) for item in objects], dtype=object) for name in names})


def _parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a whole Parquet file ({str(error).splitlines()[0]}). {_REMEDY}") from None
    _check_names(table.column_names, path)
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


_PARSERS: dict[str, Callable[[str, Path], _Parsed]] = {".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl, ".json": _json}
