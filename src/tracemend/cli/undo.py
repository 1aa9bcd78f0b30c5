"""``tracemend undo``: take one decision of a repair back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracemend.cli import options as o
from tracemend.cli.output import person, print_files, print_result


def undo(
    run: o.Run,
    uid: Annotated[str, typer.Argument(metavar="UID", help="The example, as changes.md names it.", show_default=False)],
    json: o.Json = False,
) -> None:
    """Take back what was decided on one example, and write the repaired set again, and the report of a repair.

    Example:

        tracemend undo runs/mine 4f0c9a7be1d2-0
    """
    from tracemend.data.examples import read_examples
    from tracemend.mend import undo as work

    paths = work(run, uid, read_examples(run).train)
    report = report_again(run)
    console = person(json=json)
    console.print(f"{uid} is as it was; written again:", markup=False)
    print_files(console, paths if report is None else {**paths, report.name: report})
    if json:
        print_result(run)


def report_again(run: Path) -> Path | None:
    """Write the report again where the run has one, that of a repair; where it lies."""
    from tracemend.report import write_report
    from tracemend.report.run import COMMANDS
    from tracemend.runs import read_result

    return write_report(run) if read_result(run)["command"] in COMMANDS else None
