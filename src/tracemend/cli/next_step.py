"""What to do next where no label was trusted: have some checked."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from tracemend.cli.output import print_lines

# Checked rows that serve well, where there are as many left to repair several times over.
_WELL = "300 to 600 rows"
_MANY = 1_800


def print_next(
    console: Console,
    file: str,
    given: Mapping[str, str | float | bool | None],
    *,
    rows: int,
    fixed: bool,
    out: Path,
    first: str = "",
) -> None:
    """Print a sentence, and in a line of its own, to be copied, the repair that it leads to.

    Args:
        given: options as they were given, by the names of their parameters: None and False were not, True is a flag; no
            ``valid`` and no ``truth`` means that nothing was checked.
        rows: of the file.
        fixed: whether --fix-splits was given.
        out: the run directory of that repair.
        first: what to do before, such as ``"read the first rows of suspects.csv, then "``.
    """
    check = ""
    if given.get("valid") is None and given.get("truth") is None:
        given, fixed = {**given, "valid": "checked.csv"}, True
        share = _WELL if rows >= _MANY else f"{max(1, rows // 3)} rows, a third of them,"
        check = f"check the labels of {share} drawn at random, save these rows as checked.csv, and "
    options = []
    for name, value in given.items():
        if value is not None and value is not False:
            options += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    command = shlex.join(["tracemend", "repair", file, *options, *["--fix-splits"] * fixed, "--out", str(out)])
    print_lines(console, [f"Next: {first}{check}repair:"])
    console.print(f"  {command}", markup=False)
