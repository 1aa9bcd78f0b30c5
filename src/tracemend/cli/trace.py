"""``tracemend trace``: the training examples behind an error."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from rich.console import Console

from tracemend.cli import options as o
from tracemend.cli.output import json_rows, person, print_files, print_json, print_notes, print_table
from tracemend.cli.progress import shown
from tracemend.errors import TraceError

Score = Literal["tracin", "datainf", "ekfac"]
# Tables printed and rows of each; the file holds all of them.
QUERIES, ROWS = 3, 10


def trace(
    run: o.Run,
    query: Annotated[
        str, typer.Option(metavar="errors|UID|TEXT", help="errors: the misclassified validation examples.")
    ] = "errors",
    reply: Annotated[str | None, typer.Option(metavar="TEXT", help="Second text, where the query is a text.")] = None,
    label: Annotated[
        str | None,
        typer.Option(help="The label that the loss is of (default: as given; for a text, the predicted one)."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Proponents and opponents a query.")] = 20,
    store: Annotated[
        bool,
        typer.Option("--store", help="Take gradients from RUN/store; it is built if missing, and kept."),
    ] = False,
    score: Annotated[
        Score, typer.Option(help="Inner products, or with the curvature of the loss; the latter need --store.")
    ] = "tracin",
    dense: Annotated[
        bool, typer.Option("--dense", help="Keep the score of every pair, as scores.npy; needs --store.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print all rows with metrics and controls as JSON.")] = False,
    quiet: o.Quiet = False,
) -> None:
    """Show the training examples that taught a prediction, and those that pushed against it.

    Proponents lowered the loss of the query's label, opponents raised it: behind an error stand its opponents.
    Everything is kept in RUN/trace.

    Several processes (torchrun, accelerate launch) build the store together, and the first one asks it.

    Example:

        tracemend trace runs/mine --query errors --top 20

        tracemend trace runs/mine --store --score datainf
    """
    if not store and (dense or score != "tracin"):
        given = "--dense" if dense else f"--score {score}"
        raise TraceError(f"{given} works on gradients on disk; give --store too (it builds RUN/store, and keeps it).")
    from tracemend.trace.store.ranks import rank

    who = rank()
    if not store and who.world > 1:
        raise TraceError(f"{who.world} processes share the gradients on disk; give --store too, or start one process.")
    with shown(quiet) as progress:
        if who.number:
            from tracemend.trace.scoring.run import share_build

            share_build(run, progress=progress)
            return
        if store:
            from tracemend.trace.scoring.run import named, score_folder, score_run

            folder = score_folder(run, query, score, reply, label)
            found = score_run(
                run, query, reply=reply, label=label, top=top, how=named(score), dense=dense, progress=progress
            )
        else:
            from tracemend.trace.run import trace_folder, trace_run

            folder = trace_folder(run, query, reply, label)
            found = trace_run(run, query, reply=reply, label=label, top=top, progress=progress)
    console: Console = person(json=json)
    rows = found.table()
    uids = list(dict.fromkeys(rows["query_uid"]))
    for uid in uids[:QUERIES]:
        own = rows[rows["query_uid"] == uid]
        first = own.iloc[0]
        text = (
            first["query_text"] if first["query_reply"] is None else f"{first['query_text']} / {first['query_reply']}"
        )
        console.print(f"\n{uid}  {text}", markup=False, style="bold")
        console.print(f"label {first['query_label']}, predicted {first['query_predicted']}", markup=False)
        for side in ("opponent", "proponent"):
            console.print(f"{side}s", style="dim")
            table = own[own["side"] == side].head(ROWS)[["rank", "score", "label", "text", "reply", "uid"]]
            print_table(console, table.dropna(axis=1, how="all"), shorten=("text", "reply"))
    if query != "errors" and len(query.split()) == 1 and query.lower() not in uids:
        print_notes(console, [f"No example has the uid {query!r}, so it was taken as a text."])
    if len(uids) > QUERIES:
        console.print(f"\n{len(uids) - QUERIES} more queries are in the file.", style="dim")
    control = "the same for every query" if len(uids) > 1 else "random examples"
    for name, value in found.metrics.items():
        console.print(f"{name} {value:.4g}; {control} {found.controls[name]:.4g}", style="dim")
    names = {"table": "rows.csv", "by training example": "per_train.csv", "matrix": "scores.npy"}
    wanted = ("table", *(("by training example",) if store else ()), *(("matrix",) if dense else ()))
    print_files(console, {name: folder / names[name] for name in wanted})
    if json:
        facts = {"metrics": found.metrics, "controls": found.controls, "config": found.config}
        print_json({**facts, "rows": json_rows(rows)})
