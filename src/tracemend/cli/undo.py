"""``tracemend undo``: take one decision of a repair back."""

from __future__ import annotations

from typing import Annotated

import typer

from tracemend.cli import options as o
from tracemend.cli.output import person, print_files, print_result


def undo(
    run: o.Run,
    uid: Annotated[str, typer.Argument(metavar="UID", help="The example, as changes.md names it.", show_default=False)],
    json: o.Json = False,
) -> None:
    """Take back what was decided on one example, and write the repaired set and the report again.

    Example:

        tracemend undo runs/mine 4f0c9a7be1d2-0
    """
    from tracemend.data.examples import read_examples
    from tracemend.mend import undo as work
    from tracemend.report import write_report

    paths = work(run, uid, read_examples(run).train)
    write_report(run)
    console = person(json=json)
    console.print(f"{uid} is as it was; written again:", markup=False)
    print_files(console, paths)
    if json:
        print_result(run)
