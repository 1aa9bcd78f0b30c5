"""``tracemend probe prompting``: a decoder asked to classify, by many wordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracemend.cli import options as o
from tracemend.cli.probed import probed


def prompting(
    data: Annotated[Path, typer.Option("--data", metavar="FILE", help="Labelled texts; they are divided.")],
    text: Annotated[str, typer.Option(metavar="COL", help="Column of the text.")],
    label: Annotated[str, typer.Option(metavar="COL", help="Column of the labels.")],
    template: Annotated[
        list[str] | None,
        typer.Option(help="With [X] for the text and [Y], the label, at its end; give it again for more."),
    ] = None,
    word: Annotated[
        list[str] | None, typer.Option(metavar="LABEL=WORD", help="For a label whose name is no word; again for more.")
    ] = None,
    shots: Annotated[int, typer.Option(min=1, help="Examples of every label.")] = 2,
    orders: Annotated[int, typer.Option(min=1, help="Of the examples.")] = 3,
    dev_texts: Annotated[int, typer.Option(min=1, help="Most texts to choose a prompt on.")] = 50,
    test_texts: Annotated[int, typer.Option(min=1, help="Most texts to test on.")] = 100,
    model: o.Model = "smollm2",
    out: o.Out = None,
    seed: o.Seed = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Classify by prompts, zero-shot and with examples, and say how much hangs on the wording.

    Example:

        tracemend probe prompting --data reviews.csv --text text --label label --word 0=negative --word 1=positive
    """
    from tracemend.data import read
    from tracemend.probing import PromptingProbe
    from tracemend.probing.prompting import TEMPLATES

    method = PromptingProbe(
        templates=tuple(template or TEMPLATES), words=tuple(word or ()), shots=shots, orders=orders,
        dev_texts=dev_texts, test_texts=test_texts, seed=seed,
    )  # fmt: skip
    probed(method, model, read(str(data), text=text, label=label), data, out, json=json, quiet=quiet)
