"""What to do next where no label was trusted: have some checked."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from tracemend.cli.labelled import TrueData
from tracemend.cli.output import print_lines

# Checked rows that serve well, where there are as many left to repair several times over.
_WELL = "300 to 600 rows"
_MANY = 1_800


def next_options(model: str, seed: int) -> dict[str, str | int | None]:
    """Options of every command as :func:`print_next` takes them: those at their default were not given."""
    return {"model": None if model == "minilm" else model, "seed": seed or None}


def print_next(
    console: Console,
    data: TrueData,
    given: Mapping[str, Any],
    *,
    rows: int,
    out: Path,
    first: str = "",
) -> None:
    """Print a sentence, and in a line of its own, to be copied, the repair that it leads to.

    Args:
        data: as it was given; without ``valid`` and ``truth`` nothing was checked.
        given: the other options, by the names of their parameters: None and False were not given, True is a flag.
        rows: of the file.
        out: the run directory of that repair.
        first: what to do before, such as ``"read the first rows of suspects.csv, then "``.
    """
    check, valid, fixed = "", data.valid, data.fix_splits
    if not data.checked:
        valid, fixed = "checked.csv", True
        share = _WELL if rows >= _MANY else f"{max(1, rows // 3)} rows, a third of them,"
        check = f"check the labels of {share} drawn at random, save these rows as checked.csv, and "
    of_data = {"valid": valid, "test": data.test, "positive": data.positive, "drop_empty": data.drop_empty}
    options = []
    for name, value in {**data.roles, **of_data, **given}.items():
        if value is not None and value is not False:
            options += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    command = shlex.join(["tracemend", "repair", data.file, *options, *["--fix-splits"] * fixed, "--out", str(out)])
    print_lines(console, [f"Next: {first}{check}repair:"])
    console.print(f"  {command}", markup=False)
