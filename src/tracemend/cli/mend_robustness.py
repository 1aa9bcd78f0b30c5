"""``tracemend mend robustness``: explanations that copies with near words keep."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tracemend.cli import options as o
from tracemend.cli.grouped import grouped
from tracemend.cli.labelled import Data, FixedTuning
from tracemend.cli.mended import show_arms
from tracemend.cli.output import command_line
from tracemend.cli.progress import shown

Tied = Literal["replaced", "all"]
_COPIES = "Copies with near words"
_HOW = "How"


@grouped
def robustness(
    *,
    data: Data,
    strength: Annotated[float, typer.Option(help="Of what ties words, gamma.", rich_help_panel=_HOW)] = 10.0,
    tied: Annotated[Tied, typer.Option(help="Words that are tied.", rich_help_panel=_HOW)] = "replaced",
    clean: Annotated[int, typer.Option(min=0, help="Epochs at first without copies.", rich_help_panel=_HOW)] = 1,
    top: Annotated[int, typer.Option(min=1, help="First words that are compared.", rich_help_panel=_HOW)] = 3,
    checked: Annotated[
        int, typer.Option(min=1, help="Texts that are attacked and explained.", rich_help_panel=_HOW)
    ] = 100,
    similarity: Annotated[
        float, typer.Option(help="Least cosine of a word and its substitute.", rich_help_panel=_COPIES)
    ] = 0.4,
    apart: Annotated[
        float, typer.Option(help="Largest distance of their labels in training texts.", rich_help_panel=_COPIES)
    ] = 0.15,
    share: Annotated[float, typer.Option(help="Of a text's words, replaced at most.", rich_help_panel=_COPIES)] = 0.3,
    copies: Annotated[
        int, typer.Option(min=1, help="Drawn a text and step; the worst is tuned on.", rich_help_panel=_COPIES)
    ] = 4,
    model: o.Model = "minilm",
    tuning: FixedTuning,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training set.", rich_help_panel="Model")] = 4,
    out: o.Out = None,
    seed: o.Seed = 0,
    resume: o.Resume = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:  # fmt: skip
    """Say how much of a classifier's explanations copies with near words keep, and tune for more of it.

    Beside it are tuned one classifier without copies, and one with copies and nothing tied; copies with any other
    words, and other texts, say what agreement comes without a reason.

    Example:

        tracemend mend robustness posts.csv --text text --label label --out runs/robust
    """
    splits = data.splits(seed=seed, quiet=quiet)
    from tracemend.mend import Robustness
    from tracemend.mend.job import tuned_as
    from tracemend.mend.run import mend_run
    from tracemend.models import load
    from tracemend.tuning import Tuning

    tuned = tuned_as(Tuning(), seed=seed, epochs=epochs, **tuning.choices)
    method = Robustness(
        strength=strength, tied=tied, clean=clean, top=top, checked=checked, similarity=similarity, apart=apart,
        share=share, copies=copies, tuning=tuned, seed=seed,
    )  # fmt: skip
    folder = o.run_directory(out, data.file)
    with shown(quiet) as progress:
        found = mend_run(
            method,
            load(model),
            splits,
            out=folder,
            columns=data.columns,
            name=data.name,
            command_line=command_line(),
            progress=progress,
        )
    show_arms(found, folder, json=json)
