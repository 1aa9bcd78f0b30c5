"""``tracemend report``: write a run's report again."""

from __future__ import annotations

from tracemend.cli import options as o
from tracemend.cli.output import person, print_result


def report(run: o.Run, json: o.Json = False) -> None:
    """Write report.html of a finished run of any kind that has one, and print its path.

    Example:

        tracemend report runs/mine
    """
    from tracemend.report import write_report

    path = write_report(run)
    person(json=json).print(str(path), markup=False)
    if json:
        print_result(run)
