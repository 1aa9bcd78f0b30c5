"""What a command says at its end: for a person, or as JSON for a program."""

from __future__ import annotations

import math
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from json import dumps, loads
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tracemend.errors import RunError

if TYPE_CHECKING:
    import pandas as pd

# Spaces between columns.
_GAP = 2
# Characters of a text that are left where a table has too little room.
_LEAST_TEXT = 16


def command_line() -> str:
    """The command as it was given, for the report."""
    return shlex.join(["tracemend", *sys.argv[1:]])


def person(*, json: bool) -> Console:
    """Where a person reads: standard output, or standard error where that carries JSON."""
    return Console(stderr=json, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print JSON on standard output."""
    typer.echo(dumps(value, indent=2, ensure_ascii=False))


def json_rows(table: pd.DataFrame) -> list[Any]:
    """The rows of a table for :func:`print_json`: numbers to their last digit, bytes as text, no number as null.

    Example:
        >>> json_rows(pd.DataFrame({"id": [b"a7"], "score": [1e-12], "ratio": [float("inf")]}))
        [{'id': 'a7', 'score': 1e-12, 'ratio': None}]
    """
    from tracemend.data.export import json_text

    rows: list[Any] = loads(json_text([_json(row) for row in table.astype(object).to_dict("records")]))
    return rows


def _json(cell: Any) -> Any:
    """A cell of what JSON knows, down to the cells within it."""
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "backslashreplace")
    if isinstance(cell, dict):
        return {name: _json(inner) for name, inner in cell.items()}
    if getattr(cell, "ndim", 0) > 0:  # an array, known without NumPy, which --help does without
        return _json(cell.tolist())
    if isinstance(cell, list | tuple):
        return [_json(inner) for inner in cell]
    return None if isinstance(cell, float) and math.isinf(cell) else cell


def print_result(run: Path) -> None:
    """Print a run's ``result.json`` on standard output."""
    from tracemend.runs import read_json

    print_json(read_json(run / "result.json"))


def print_table(console: Console, table: pd.DataFrame, *, widest: int = 60, shorten: Sequence[str] = ()) -> None:
    """Print a table; long cells are shortened to ``widest`` characters, those of ``shorten`` to what room there is.

    A table that is wider than the window, or than the 80 columns of a pipe, is printed in pieces, one below the other,
    and each begins with the columns that name its rows.
    """
    columns = [[_cell(value, widest) for value in table.iloc[:, k]] for k in range(table.shape[1])]
    names = [str(name) for name in table.columns]
    widths = _widths(names, columns)
    if texts := [k for k, name in enumerate(names) if name in shorten]:
        taken = sum(width for k, width in enumerate(widths) if k not in texts) + _GAP * (len(widths) - 1)
        most = min(widest, max(_LEAST_TEXT, (console.width - taken) // len(texts)))
        columns = [[_cell(cell, most) for cell in of] if k in texts else of for k, of in enumerate(columns)]
        widths = _widths(names, columns)
    kinds = [table.iloc[:, k].dtype.kind for k in range(table.shape[1])]
    for number, (labels, others) in enumerate(_pieces(widths, kinds, console.width)):
        shown = Table(box=None, header_style="dim", pad_edge=False)
        for k in (*labels, *others):
            right = kinds[k] in "fiu"
            # What names a row is never wrapped for the sake of a figure.
            narrow = right or (k in labels and widths[k] <= console.width // 2)
            shown.add_column(Text(names[k]), justify="right" if right else "left", no_wrap=narrow)
        for row in range(len(table)):
            shown.add_row(*[Text(columns[k][row]) for k in (*labels, *others)])
        if number:
            console.print()
        # A table that wraps at the window's width, not at the reader's patience.
        console.print(shown, soft_wrap=False)


def _widths(names: Sequence[str], columns: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, [name, *of])) for name, of in zip(names, columns, strict=True)]


def _pieces(widths: list[int], kinds: Sequence[str], room: int) -> list[tuple[list[int], list[int]]]:
    """The columns of each piece of a table: those that name its rows, and as many others as have room."""
    every = list(range(len(widths)))
    if not every or sum(widths) + _GAP * (len(widths) - 1) <= room:
        return [([], every)]
    # What stands before the first measured column says what a row is, if it leaves room for others.
    first = next((k for k in every if kinds[k] == "f"), 1)
    labels = every[: max(1, first)]
    if sum(widths[k] + _GAP for k in labels) > room // 2:
        labels = every[:1]
    left = room - sum(widths[k] + _GAP for k in labels)
    pieces: list[list[int]] = []
    used = 0
    for k in every[len(labels) :]:
        if pieces and used + _GAP + widths[k] <= left:
            pieces[-1].append(k)
            used += _GAP + widths[k]
        else:
            pieces.append([k])
            used = widths[k]
    return [(labels, piece) for piece in pieces or [[]]]


def print_files(console: Console, files: Mapping[str, Path]) -> None:
    """Print what lies where, one a line."""
    width = max(len(name) for name in files)
    for name, path in files.items():
        console.print(Text(f"{name:<{width}}  {path}"))


def print_run(console: Console, run: Path, **further: Path) -> None:
    """Write the report of a method's run, and print what lies where."""
    from tracemend.report import write_report

    files = {"report": write_report(run), "table": run / "rows.csv", "figure": run / "figure.svg"}
    print_files(console, {**files, **further})


def print_lines(console: Console, lines: Sequence[str]) -> None:
    """Print sentences, wrapped at the width of the window."""
    for line in lines:
        console.print(Text(line), soft_wrap=False)


def print_notes(console: Console, notes: list[str]) -> None:
    """Print a run's notes: how the splits were made, how many texts were cut."""
    for note in notes:
        console.print(Text(note), style="dim")


def write_csv(table: pd.DataFrame, path: Path, *, force: bool, inputs: tuple[str, ...] = ()) -> None:
    """Write a table as CSV, atomically.

    Raises:
        RunError: the file is there already (and not ``force``), or is one of the inputs.
    """
    from tracemend import runs

    refuse_to_overwrite(path, force=force, inputs=inputs)
    runs.write_csv(path, table)


def refuse_to_overwrite(path: Path, *, force: bool, inputs: tuple[str, ...] = ()) -> None:
    """Raise where writing would cost the user a file.

    Raises:
        RunError: the file is there already (and not ``force``), is one of the inputs, or cannot be written.
    """
    if any(Path(name).exists() and path.exists() and path.samefile(name) for name in inputs):
        raise RunError(f"--out {path} is the input file, which is never changed; choose another name.")
    if path.is_dir():
        raise RunError(f"--out {path} is a directory; name a file.")
    if path.exists() and not force:
        raise RunError(f"{path} is there already; choose another --out, or give --force to replace it.")
    folder = next((parent for parent in path.absolute().parents if parent.exists()), path.absolute().parent)
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:  # told before the work, not after it
        raise RunError(f"{path} cannot be written ({error.strerror}); choose another --out.") from error


def _cell(value: Any, widest: int) -> str:
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = " ".join(str(value).split())
    return text if len(text) <= widest else text[: widest - 1].rstrip() + "…"
