"""``tracemend mend``: tune again so that a classifier relies on what it should."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tracemend.cli import mend_amplify, mend_robustness
from tracemend.cli import options as o
from tracemend.cli.grouped import grouped
from tracemend.cli.labelled import Data, FixedTuning
from tracemend.cli.mended import show_arms
from tracemend.cli.output import command_line, person, print_table
from tracemend.cli.progress import shown

Criterion = Literal["norm", "mse", "mae", "huber", "bce", "kl", "order"]
Extractor = Literal["gradient", "attention", "shared", "separate"]
_WORDS = "What people say of words"
_HOW = "How"
# Words of the head that are printed; the files hold all.
WORDS = 15

mend = typer.Typer(
    no_args_is_help=True,
    help="Make use of explanations: tune a classifier that relies on what it should, beside controls.",
)

mend.command("amplify")(mend_amplify.amplify)
mend.command("robustness")(mend_robustness.robustness)


@mend.command("regularise")
@grouped
def regularise(
    *,
    data: Data,
    remove: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="Should not matter; give it again for more.", rich_help_panel=_WORDS),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD", help="Should matter; give it again for more.", rich_help_panel=_WORDS),
    ] = None,
    remove_from: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Words that should not matter, one a line.", rich_help_panel=_WORDS),
    ] = None,
    rationales: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="CSV or JSONL with text, start, end: characters that are a label's reason.",
            rich_help_panel=_WORDS,
        ),
    ] = None,
    criterion: Annotated[
        Criterion, typer.Option(help="norm of the gradient, or a published loss.", rich_help_panel=_HOW)
    ] = "norm",
    extractor: Annotated[
        Extractor, typer.Option(help="What a published loss compares with the marks.", rich_help_panel=_HOW)
    ] = "gradient",
    strength: Annotated[float, typer.Option(help="Of the penalty, lambda.", rich_help_panel=_HOW)] = 10.0,
    comprehensiveness: Annotated[
        float, typer.Option(help="Of a learned extractor: the label is lost without its words.", rich_help_panel=_HOW)
    ] = 0.0,
    sufficiency: Annotated[
        float, typer.Option(help="Of a learned extractor: its words alone give the label.", rich_help_panel=_HOW)
    ] = 0.0,
    budget: Annotated[
        int, typer.Option(min=0, help="Training texts that carry marks at most; 0: all.", rich_help_panel=_HOW)
    ] = 0,
    checked: Annotated[
        int, typer.Option(min=1, help="Texts that integrated gradients are taken of.", rich_help_panel=_HOW)
    ] = 50,
    model: o.Model = "minilm",
    tuning: FixedTuning,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training set.", rich_help_panel="Model")] = 3,
    out: o.Out = None,
    seed: o.Seed = 0,
    resume: o.Resume = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:  # fmt: skip
    """Tune with a penalty on words that should not matter, or that should, and say what that changed.

    Beside it are tuned one classifier without marks and one with as many other words marked. All three are judged by
    what the penalty does not see: their answers when a marked word is put into a text, and integrated gradients.

    Example:

        tracemend mend regularise posts.csv --text text --label label --remove women --remove muslims --out runs/fair
    """
    splits = data.splits(seed=seed, quiet=quiet)
    from tracemend.data import read_rationales, read_words
    from tracemend.mend import Regularise
    from tracemend.mend.job import tuned_as
    from tracemend.mend.run import mend_run
    from tracemend.models import load
    from tracemend.tuning import Tuning

    words = [*(remove or ()), *(read_words(remove_from) if remove_from is not None else ())]
    tuned = tuned_as(Tuning(), seed=seed, epochs=epochs, **tuning.choices)
    method = Regularise(
        remove=tuple(dict.fromkeys(words)), add=tuple(dict.fromkeys(add or ())), criterion=criterion,
        extractor=extractor, strength=strength, comprehensiveness=comprehensiveness, sufficiency=sufficiency,
        budget=budget, checked=checked, tuning=tuned, seed=seed,
    )  # fmt: skip
    folder = o.run_directory(out, data.file)
    with shown(quiet) as progress:
        found = mend_run(
            method,
            load(model),
            splits,
            out=folder,
            rationales=None if rationales is None else read_rationales(rationales, splits),
            columns=data.columns,
            name=data.name,
            command_line=command_line(),
            progress=progress,
        )
    show_arms(found, folder, json=json)


@mend.command("shortcuts")
@grouped
def shortcuts(
    *,
    data: Data,
    head: Annotated[float, typer.Option(help="Share of the words that form the head.", rich_help_panel=_HOW)] = 0.05,
    fewest: Annotated[int, typer.Option(min=1, help="Occurrences of a word at least.", rich_help_panel=_HOW)] = 5,
    alpha: Annotated[
        float, typer.Option(help="Share of the teacher in the student's loss.", rich_help_panel=_HOW)
    ] = 0.8,
    judged: Annotated[
        int, typer.Option(min=1, help="Words of the head that the student is judged about.", rich_help_panel=_HOW)
    ] = 5,
    checked: Annotated[
        int,
        typer.Option(
            min=1, help="Texts of the verdict part that integrated gradients are taken of.", rich_help_panel=_HOW
        ),
    ] = 50,
    followed: Annotated[
        int,
        typer.Option(
            min=1, help="Training texts whose first words are looked at in every checkpoint.", rich_help_panel=_HOW
        ),
    ] = 200,
    steps: Annotated[
        int, typer.Option(min=1, help="Of integrated gradients of the training texts, at first.", rich_help_panel=_HOW)
    ] = 8,
    max_steps: Annotated[int, typer.Option(min=1, help="At most.", rich_help_panel=_HOW)] = 64,
    model: o.Model = "minilm",
    tuning: FixedTuning,
    epochs: Annotated[int, typer.Option(min=2, help="Passes over the training set.", rich_help_panel="Model")] = 3,
    out: o.Out = None,
    seed: o.Seed = 0,
    resume: o.Resume = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Find words that a classifier takes for a label, and distil a student that relies on them less.

    Beside it stand what chance makes of as many words (shuffled labels), the classifier before, and a student that was
    told the same of other texts.

    Example:

        tracemend mend shortcuts posts.csv --text text --label label --out runs/shortcuts
    """
    splits = data.splits(seed=seed, quiet=quiet)
    from tracemend.mend import Shortcuts
    from tracemend.mend.job import tuned_as
    from tracemend.mend.run import mend_run
    from tracemend.mend.shortcuts import ShortcutsResult
    from tracemend.models import load
    from tracemend.tuning import Tuning

    tuned = tuned_as(Tuning(), seed=seed, epochs=epochs, **tuning.choices)
    method = Shortcuts(
        head=head,
        fewest=fewest,
        alpha=alpha,
        judged=judged,
        checked=checked,
        followed=followed,
        steps=steps,
        max_steps=max_steps,
        tuning=tuned,
        seed=seed,
    )
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
    console = person(json=json)
    console.print("Words that go with a label, and how often the classifier decides by them:", markup=False)
    print_table(console, found.table().head(WORDS))
    console.print()
    if isinstance(found, ShortcutsResult):
        console.print("By how many it decided, and what it had learnt, as it was tuned:", markup=False)
        print_table(console, found.curve)
        console.print()
    show_arms(found, folder, json=json)
