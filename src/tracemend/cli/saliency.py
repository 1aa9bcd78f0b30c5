"""``tracemend saliency``: which words a classifier decides by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from tracemend.cli import options as o
from tracemend.cli.output import json_rows, person, print_files, print_json, print_lines, print_table
from tracemend.cli.progress import shown
from tracemend.errors import DataError

Output = Literal["log-odds", "logit", "probability"]
Deletion = Literal["auto", "mask", "pad", "remove"]
Absent = Literal["auto", "mask", "pad", "zero"]
Entry = Literal["block", "embedding"]
# Texts printed and words of each; the files hold all of them.
TEXTS, WORDS = 3, 10
_TEXTS, _METHOD = "Texts", "Method"
_MEANINGS = {
    "comprehensiveness": "fall of the probability when the first words are deleted; the higher, the better",
    "sufficiency": "fall of the probability when the first words alone are kept; the lower, the better",
    "aopc": "mean fall while one word after another is deleted; the higher, the better",
    "completeness_gap": "how far the weights are from adding up to what they explain, at most; 0 is exact",
    "most_steps": "steps of the integral that the hardest text took",
    "over_tolerance": "share of the texts whose gap stayed above --tolerance",
}
_NO_BETTER = (
    "Where a figure is no better than that of words in random order, these weights say nothing of what decides."
)


def saliency(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="integrated-gradients, input-x-gradient, ... (tracemend methods).", show_default=False
        ),
    ],
    run: Annotated[
        Path, typer.Option(metavar="RUN", help="The directory of a finished run.", show_default=False)
    ],
    text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="One text.", rich_help_panel=_TEXTS)
    ] = None,
    reply: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Its second text.", rich_help_panel=_TEXTS)
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="CSV, TSV, JSONL, Parquet or a datasets folder, in place of --text.",
            rich_help_panel=_TEXTS,
        ),
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(metavar="COL", help="Of --data (default: the run's).", rich_help_panel=_TEXTS)
    ] = None,
    reply_column: Annotated[
        str | None, typer.Option(metavar="COL", help="Of --data (default: the run's).", rich_help_panel=_TEXTS)
    ] = None,
    drop_empty: Annotated[
        bool, typer.Option("--drop-empty", help="Drop rows without text.", rich_help_panel=_TEXTS)
    ] = False,
    label: Annotated[
        str | None,
        typer.Option(help="What the weights are about (default: the predicted label).", rich_help_panel=_METHOD),
    ] = None,
    output: Annotated[
        Output | None, typer.Option(help="What the weights are of (default log-odds).", rich_help_panel=_METHOD)
    ] = None,
    deletion: Annotated[
        Deletion | None,
        typer.Option(help="How words are deleted: auto masks where there is a mask token, else removes.",
                     rich_help_panel=_METHOD),
    ] = None,
    checked: Annotated[
        int | None, typer.Option(min=1, help="Texts checked for faithfulness (default 50).", rich_help_panel=_METHOD)
    ] = None,
    orders: Annotated[
        int | None, typer.Option(min=1, help="Random orders a text, the control (default 5).", rich_help_panel=_METHOD)
    ] = None,
    entry: Annotated[
        Entry | None,
        typer.Option(help="Where gradients are taken: at the first block, or at the embedding table (default block).",
                     rich_help_panel=_METHOD),
    ] = None,
    absent: Annotated[
        Absent | None,
        typer.Option(help="What stands for an absent word (integrated gradients).", rich_help_panel=_METHOD),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Of the integral at first (default 16).", rich_help_panel=_METHOD)
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option(min=1, help="At most (default 512).", rich_help_panel=_METHOD)
    ] = None,
    back: Annotated[
        bool, typer.Option("--back", help="Trace through all layers (attention).", rich_help_panel=_METHOD)
    ] = False,
    residual: Annotated[
        float | None, typer.Option(help="The residual stream's share (rollout).", rich_help_panel=_METHOD)
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="Largest completeness gap (default 0.01).", rich_help_panel=_METHOD)
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Default 16.", rich_help_panel=_METHOD)] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**31 - 1, help="Of the random orders.", rich_help_panel=_METHOD)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print all words with metrics and controls as JSON.")] = False,
    quiet: o.Quiet = False,
) -> None:  # fmt: skip
    """Weigh the words of texts by what they do to the classifier of a run.

    Beside the weights stands how faithful they are: how far the probability falls when the first words are deleted,
    against words in random order. Everything is kept in RUN/saliency, with the coloured texts as words.html.

    Example:

        tracemend saliency integrated-gradients --run runs/mine --text "what an awful film"

        tracemend saliency gradient --run runs/mine --data new.csv
    """
    from tracemend.report import write_words
    from tracemend.saliency.run import named, saliency_run

    method = named(
        name,
        {
            "label": label, "output": output, "deletion": deletion, "checked": checked, "orders": orders,
            "entry": entry, "back": back or None, "residual": residual,
            "absent": absent, "steps": steps, "max_steps": max_steps, "tolerance": tolerance,
            "batch_size": batch_size, "seed": seed,
        },
    )  # fmt: skip
    with shown(quiet) as progress:
        pairs = _pairs(run, text, reply, data, text_column, reply_column, drop_empty)
        result, folder = saliency_run(run, method, pairs, progress=progress)
    write_words(result, folder / "words.html")
    console: Console = person(json=json)
    for row in result.examples.head(TEXTS).to_dict("records"):
        whole = row["text"] if row["reply"] is None else f"{row['text']} / {row['reply']}"
        console.print(f"\n{whole}", markup=False, style="bold")
        about = f"for {row['label']} (probability {row['probability']:.3f}), predicted {row['predicted']}"
        console.print(about + (", text cut" if row["cut"] else ""), markup=False)
        words = result.table()
        own = words[words["example"] == row["example"]].head(WORDS)
        print_table(console, own[["rank", "weight", "string", "part", "start", "end"]])
    if len(result) > TEXTS:
        console.print(f"\n{len(result) - TEXTS} more texts are in the files.", style="dim")
    console.print()
    for figure, value in result.metrics.items():
        beside = f"; random order {result.controls[figure]:.4g}" if figure in result.controls else ""
        console.print(f"{figure} {value:.4g}{beside}", style="dim")
    print_lines(console, [f"{name}: {_MEANINGS[name]}" for name in result.metrics if name in _MEANINGS] + [_NO_BETTER])
    print_files(console, {"words": folder / "words.csv", "coloured": folder / "words.html"})
    if json:
        facts = {"metrics": result.metrics, "controls": result.controls, "config": result.config}
        tables = {"examples": result.examples, "words": result.table()}
        print_json({**facts, **{name: json_rows(of) for name, of in tables.items()}})


def _pairs(
    run: Path,
    text: str | None,
    reply: str | None,
    data: str | None,
    text_column: str | None,
    reply_column: str | None,
    drop_empty: bool,
) -> list[tuple[str, str | None]]:
    from tracemend.data import read_texts
    from tracemend.tuning.predictor import columns_of

    if (text is None) == (data is None):
        raise DataError("give either --text TEXT or --data FILE.")
    if text is not None:
        for flag, given in (("text-column", text_column), ("reply-column", reply_column)):
            if given is not None:
                raise DataError(f"--{flag} names a column of --data; leave it out where --text is given.")
        return [(text, reply)]
    if reply is not None:
        raise DataError("--reply is the second text of --text; a file's column is named by --reply-column.")
    columns = columns_of(run)
    with o.columns_of(options={"text": "--text-column", "reply": "--reply-column"}):
        return read_texts(
            data,
            text=text_column or columns.get("text", "text"),
            reply=reply_column or columns.get("reply"),
            drop_empty=drop_empty,
        )
