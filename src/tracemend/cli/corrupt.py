"""``tracemend corrupt``: wrong labels made on purpose."""

from __future__ import annotations

from json import JSONDecodeError, loads
from pathlib import Path
from typing import Annotated, Literal

import typer

from tracemend.cli import options as o
from tracemend.cli.output import person, print_json, refuse_to_overwrite
from tracemend.cli.progress import shown
from tracemend.errors import DataError

Kind = Literal["symmetric", "class-conditional", "confusable", "annotator", "trolls"]
_NOISE = "Noise"


def corrupt(
    file: o.File,
    text: o.Text,
    label: o.Label,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Where to write: .csv, .tsv, .jsonl or .parquet.", show_default=False)
    ],
    reply: o.Reply = None,
    group: o.Group = None,
    truth: o.Truth = None,
    kind: Annotated[
        Kind,
        typer.Option(
            rich_help_panel=_NOISE,
            help="confusable: where a weak model is unsure. annotator: one real vote. trolls: whole groups.",
        ),
    ] = "symmetric",
    rate: Annotated[
        float, typer.Option(min=0, max=1, rich_help_panel=_NOISE, help="Share of all labels (symmetric, confusable).")
    ] = 0.3,
    matrix: Annotated[
        str | None,
        typer.Option(
            metavar="JSON", rich_help_panel=_NOISE, help="""Class-conditional: '{"safe": {"unsafe": 0.3}}'."""
        ),
    ] = None,
    votes: Annotated[
        str, typer.Option(metavar="A,B,..", rich_help_panel=_NOISE, help="Columns of the annotators' votes.")
    ] = "",
    troll_share: Annotated[float, typer.Option(min=0, max=1, rich_help_panel=_NOISE, help="Of the groups.")] = 0.3,
    flip_share: Annotated[float, typer.Option(min=0, max=1, rich_help_panel=_NOISE, help="Of a troll's labels.")] = 0.8,
    drop_empty: o.DropEmpty = False,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Of every choice.")] = 0,
    force: o.Force = False,
    json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON on standard output.")] = False,
    quiet: o.Quiet = False,
) -> None:
    """Make some labels wrong on purpose, and keep the right ones in a column ``truth``.

    The input file is never changed, and an output that is there is only replaced with --force.

    Example:

        tracemend corrupt comments.csv --text text --label is_toxic --rate 0.3 --out noisy.csv
    """
    from tracemend.data import corrupt as work
    from tracemend.data import read, write

    refuse_to_overwrite(out, force=force, inputs=(file,))
    with shown(quiet) as progress:
        data = read(
            file, text=text, label=label, reply=reply, group=group, truth=truth, drop_empty=drop_empty,
            progress=progress,
        )  # fmt: skip
    noisy = work(
        data,
        kind=kind,
        rate=rate,
        seed=seed,
        matrix=_matrix(matrix),
        votes=[vote.strip() for vote in votes.split(",") if vote.strip()],
        troll_share=troll_share,
        flip_share=flip_share,
    )
    names = {"text": text, "label": label, "reply": reply, "group": group, "truth": truth}
    write(noisy, out, names={role: column for role, column in names.items() if column is not None})
    wrong = int(noisy.wrong.sum())
    person(json=json).print(
        f"{wrong} of {len(noisy)} labels are wrong now ({wrong / len(noisy):.1%}); the right ones are in column "
        f"{truth or 'truth'!r} of {out}",
        markup=False,
    )
    if json:
        print_json({"rows": len(noisy), "wrong": wrong, "kind": kind, "seed": seed, "out": str(out)})


def _matrix(text: str | None) -> dict[str, dict[str, float]] | None:
    if text is None:
        return None
    from tracemend.data.labels import label_name

    try:
        found = loads(text)
        return {str(label_name(a)): {str(label_name(b)): float(s) for b, s in to.items()} for a, to in found.items()}
    except (JSONDecodeError, AttributeError, TypeError, ValueError):
        raise DataError(
            f"""--matrix {text!r} is no matrix; expected JSON such as '{{"safe": {{"unsafe": 0.3}}}}'."""
        ) from None
