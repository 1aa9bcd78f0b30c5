"""``tracemend export``: a run's suspects for people who review elsewhere, or the whole file as repaired."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tracemend.cli import options as o
from tracemend.cli.output import person, print_files, refuse_to_overwrite

Target = Literal["argilla", "label-studio", "csv", "file"]


def export(
    run: o.Run,
    to: Annotated[
        Target,
        typer.Option(
            help="Suspects as Argilla 2 records, Label Studio tasks or a table (csv); or your file as repaired (file)."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="A .json; a .csv for csv; a table for file.")],
    top: Annotated[int | None, typer.Option(min=1, help="At most so many, the most suspicious.")] = None,
    force: o.Force = False,
) -> None:
    """Write the suspects of a detect, repair or demo run for review in another tool, or the whole file as repaired.

    The answers come back with tracemend review. Nothing is sent anywhere: the file is all there is.

    With --to file: every row of the run under your column names, those of FILE in their order, with the decisions in
    force carried out. The column split says what a row was to the run: train, validation, verdict or test.

    Example:

        tracemend export runs/suspects --to label-studio --out review.json --top 100

        tracemend export runs/mine --to file --out cleaned.csv
    """
    from tracemend.data.exchange import files_of
    from tracemend.errors import DataError
    from tracemend.mend import export_file, export_suspects

    if to == "file":
        if top is not None:
            raise DataError("--top is of suspects; the whole file has all its rows, so leave it out.")
        refuse_to_overwrite(out, force=force)
        print_files(person(json=False), {"repaired file": export_file(run, out)})
        return

    for path in files_of(out, to).values():
        refuse_to_overwrite(path, force=force)
    print_files(person(json=False), export_suspects(run, out, to, top=top))
