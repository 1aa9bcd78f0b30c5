"""``tracemend predict``: labels and probabilities from a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracemend.cli import options as o
from tracemend.cli.output import json_rows, print_json, refuse_to_overwrite, write_csv
from tracemend.cli.progress import shown
from tracemend.errors import DataError


def predict(
    run: o.Run,
    file: o.File,
    text: Annotated[
        str | None, typer.Option(metavar="COL", help="Column of the text (default: the run's).", show_default=False)
    ] = None,
    reply: Annotated[
        str | None,
        typer.Option(metavar="COL", help="Column of the second text (default: the run's).", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Where to write; standard output by default.")
    ] = None,
    drop_empty: o.DropEmpty = False,
    force: o.Force = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of CSV.")] = False,
    quiet: o.Quiet = False,
) -> None:
    """Give each text its label, a probability for each label, and the threshold that was chosen on validation.

    All other columns of the file follow, so that results can be joined back; one whose name is taken is called
    original_NAME. With --drop-empty a column row says which row each was, counted from 0. Of a repair, the recommended
    classifier predicts.

    Example:

        tracemend predict runs/mine new.csv --out predicted.csv
    """
    from tracemend.data import read_unlabelled
    from tracemend.runs import csv_text
    from tracemend.tuning.predictor import Predictor

    if out is not None:
        if out.suffix.lower() != ".csv":
            raise DataError(f"--out {out}: name a file that ends in .csv, for predictions are written as CSV.")
        refuse_to_overwrite(out, force=force, inputs=(file,))
    predictor = Predictor.load(run)
    columns = {"text": text or predictor.columns.get("text", "text"), "reply": reply or predictor.columns.get("reply")}
    if reply is not None and "reply" not in predictor.columns:
        raise DataError(f"{run} was tuned on one text column, so --reply {reply} has no use; leave it out.")
    with shown(quiet) as progress:
        pairs, others = read_unlabelled(
            file, text=str(columns["text"]), reply=columns["reply"], drop_empty=drop_empty, progress=progress
        )
        table = predictor.table(
            pairs, others=others, rows=list(others.index) if drop_empty else None, progress=progress
        )
    _, cut = predictor.classifier.encode(pairs)
    if cut:
        limit = predictor.classifier.max_length
        typer.echo(f"{cut} of {len(pairs)} texts were cut to {limit} tokens", err=True)
    if out is not None:
        write_csv(table, out, force=force, inputs=(file,))
        typer.echo(str(out), err=True)
    if json:
        print_json(json_rows(table))
    elif out is None:
        typer.echo(csv_text(table), nl=False)
