"""``tracemend review``: the answers of people who reviewed elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tracemend.cli import options as o
from tracemend.cli.output import person, print_files, print_json
from tracemend.cli.undo import report_again

Rule = Literal["agree", "majority"]


def review(
    run: o.Run,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", help="What came back from Argilla, Label Studio or a table.", show_default=False
        ),
    ],
    rule: Annotated[
        Rule, typer.Option(help="Where several people answered: all must agree, or more than half decide.")
    ] = "agree",
    actor: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who decided (default: the names that the tool gives).")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what was decided as JSON on standard output.")] = False,
) -> None:
    """Put reviewed answers into the run's ledger, and write the repaired set again.

    FILE is what tracemend export gave out, reviewed and exported by the tool. The given label keeps an example,
    another label relabels it, (remove) leaves it out; tracemend undo takes any of it back.

    Example:

        tracemend review runs/suspects reviewed.json
    """
    from tracemend.mend import review as work

    found = work(run, file, rule=rule, actor=actor)
    report = report_again(run)
    console = person(json=json)
    console.print(
        f"{found.relabelled} relabelled, {found.removed} removed, {found.kept} kept as they were, "
        f"{len(found.undecided)} undecided; by {', '.join(found.reviewers) or 'nobody'}"
        + (f" ({found.already} of these stood there already)" if found.already else ""),
        markup=False,
    )
    print_files(console, found.paths if report is None else {**found.paths, report.name: report})
    if json:
        told = ("kept", "relabelled", "removed", "undecided", "reviewers", "already")
        facts = {name: getattr(found, name) for name in told}
        print_json({**facts, "paths": {name: str(path) for name, path in found.paths.items()}})
