"""Rows out of text whose cells are separated by commas, semicolons, bars or tabs, each with its line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pandas as pd

from tracemend.data.writable import check_names
from tracemend.errors import DataError

_SEPARATORS = ",;|"  # of a .csv
# Characters and rows by which it is told which of them it is.
_SEEN, _SEEN_ROWS = 1_000_000, 20
LINE_END = re.compile(r"\r\n|\r|\n")
# A first line that spreadsheets write and read.
_SAID = re.compile(rf'([\r\n]*)"?sep=([,;|\t])"?[ \t]*(?:{LINE_END.pattern})', re.IGNORECASE)
Parsed = tuple[pd.DataFrame, Sequence[int], str]


def comma_separated(text: str, path: Path) -> Parsed:
    """The rows of a .csv, whichever of the usual characters separates its cells; a first line ``sep=;`` says which.

    Returns:
        The cells, as strings and None; the line on which each row begins; ``"line"``.

    Raises:
        DataError: the text has no header, rows of several widths, or a quotation mark that is never closed.
    """
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
    return LINE_END.split(text.lstrip("\r\n"), maxsplit=1)[0]


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


def tab_separated(text: str, path: Path) -> Parsed:
    """The rows of a .tsv, whether it quotes its cells as a .csv does or never does; else as ``comma_separated``."""
    if _SAID.match(text):
        return comma_separated(text, path)
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


def _delimited(text: str, path: Path, separator: str) -> Parsed:
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


def _rectangle(rows: list[list[str]], places: list[int], path: Path) -> Parsed:
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
    check_names(names, path)
    cells: list[list[str | None]] = [[row[at] if row[at] else None for at in there] for row, _ in filled[1:]]
    frame = pd.DataFrame(cells, columns=names, dtype=object)
    return frame, [place for _, place in filled[1:]], "line"
