"""``tracemend export``: a run's suspects for people who review elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tracemend.cli import options as o
from tracemend.cli.output import person, print_files, refuse_to_overwrite

Target = Literal["argilla", "label-studio", "csv"]


def export(
    run: o.Run,
    to: Annotated[Target, typer.Option(help="The tool: Argilla 2 records, Label Studio tasks, or a table.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="A .json, or a .csv for csv.")],
    top: Annotated[int | None, typer.Option(min=1, help="At most so many, the most suspicious.")] = None,
    force: o.Force = False,
) -> None:
    """Write the suspects of a detect, repair or demo run for review in another tool.

    The answers come back with tracemend review. Nothing is sent anywhere: the file is all there is.

    Example:

        tracemend export runs/suspects --to label-studio --out review.json --top 100
    """
    from tracemend.data.exchange import files_of
    from tracemend.mend import export_suspects

    for path in files_of(out, to).values():
        refuse_to_overwrite(path, force=force)
    print_files(person(json=False), export_suspects(run, out, to, top=top))
