"""``tracemend trace``: the training examples behind an error."""

from __future__ import annotations

from json import loads
from typing import Annotated

import typer
from rich.console import Console

from tracemend.cli import options as o
from tracemend.cli.output import person, print_files, print_json, print_table
from tracemend.cli.progress import shown

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
    json: Annotated[bool, typer.Option("--json", help="Print all rows with metrics and controls as JSON.")] = False,
    quiet: o.Quiet = False,
) -> None:
    """Show the training examples that taught a prediction, and those that pushed against it (TracIn).

    Proponents lowered the loss of the query's label, opponents raised it: behind an error stand its opponents.
    Everything is kept in RUN/trace.

    Example:

        tracemend trace runs/mine --query errors --top 20
    """
    from tracemend.trace.run import trace_folder, trace_run

    with shown(quiet) as progress:
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
            print_table(console, table.dropna(axis=1, how="all"))
    if len(uids) > QUERIES:
        console.print(f"\n{len(uids) - QUERIES} more queries are in the file.", style="dim")
    for name, value in found.metrics.items():
        console.print(f"{name} {value:.4g}; random examples {found.controls[name]:.4g}", style="dim")
    print_files(console, {"table": trace_folder(run, query, reply, label) / "rows.csv"})
    if json:
        facts = {"metrics": found.metrics, "controls": found.controls, "config": found.config}
        print_json({**facts, "rows": loads(rows.to_json(orient="records", force_ascii=False))})
