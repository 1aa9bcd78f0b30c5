"""``tracemend mend amplify``: key words in the examples of a decoder's prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tracemend.cli import options as o
from tracemend.cli.output import command_line, person, print_notes, print_result, print_run, print_table
from tracemend.cli.progress import shown

Attribution = Literal["gradient", "input-x-gradient", "integrated-gradients"]
_HOW = "How"


def amplify(
    file: o.File,
    text: o.Text,
    label: o.Label,
    model: Annotated[
        str, typer.Option(help="The decoder that is asked; with --url its name there.", rich_help_panel="Model")
    ] = "smollm2",
    url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Of a server that speaks OpenAI's protocol, up to /v1; its key is read from OPENAI_API_KEY.",
            rich_help_panel="Model",
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that its answer may take.", rich_help_panel="Model")] = 60.0,
    tries: Annotated[int, typer.Option(min=1, help="How often it is asked.", rich_help_panel="Model")] = 4,
    proxy: Annotated[
        str, typer.Option(help="Tuned on the training part, and explained.", rich_help_panel="Model")
    ] = "minilm",
    words: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL=WORD", help="For a label whose name is no word; again for more."),
    ] = None,
    shots: Annotated[int, typer.Option(help="Examples in a prompt, 2 or more.", rich_help_panel=_HOW)] = 8,
    top: Annotated[int, typer.Option(help="Key words of an example at most.", rich_help_panel=_HOW)] = 5,
    attribution: Annotated[
        Attribution, typer.Option(help="What finds the key words.", rich_help_panel=_HOW)
    ] = "integrated-gradients",
    rationale: Annotated[
        str, typer.Option(help="Before an example's answer, with {words} and {label}.", rich_help_panel=_HOW)
    ] = "The key words {words} are important clues to predict that the text is {label}.",
    answer: Annotated[str, typer.Option(help="Before the label's word.", rich_help_panel=_HOW)] = "The answer is",
    balanced: Annotated[bool, typer.Option(help="Take examples of the labels in turn.", rich_help_panel=_HOW)] = True,
    asked: Annotated[
        int, typer.Option(help="Validation texts that examples are sought in, at most.", rich_help_panel=_HOW)
    ] = 200,
    checked: Annotated[int, typer.Option(help="Verdict texts of the figures, at most.", rich_help_panel=_HOW)] = 200,
    batch_size: Annotated[int, typer.Option(help="Prompts at a time.", rich_help_panel=_HOW)] = 16,
    reply: o.Reply = None,
    valid: o.Valid = None,
    test: o.Test = None,
    group: o.Group = None,
    positive: o.Positive = None,
    drop_empty: o.DropEmpty = False,
    fix_splits: o.FixSplits = False,
    adapter: o.AdapterKind = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes of the proxy over the training set.", rich_help_panel="Model")
    ] = None,
    learning_rate: o.LearningRate = None,
    max_length: o.MaxLength = None,
    out: o.Out = None,
    seed: o.Seed = 0,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Name key words in a decoder's few-shot prompt, and say whether that makes it answer better.

    Beside it stand the same examples without words, with random words of theirs, with another sample's words, and no
    examples at all. The decoder is not tuned.

    Example:

        tracemend mend amplify posts.csv --text text --label label --model smollm2 --out runs/amplify

        tracemend mend amplify posts.csv --text text --label label --url http://localhost:8000/v1 --model my-model
    """
    from tracemend.data import read_splits

    with shown(quiet) as progress, o.columns_of(valid, test):
        splits = read_splits(
            file, text=text, label=label, reply=reply, group=group, valid=valid, test=test, positive=positive,
            seed=seed, drop_empty=drop_empty, fix_splits=fix_splits, progress=progress,
        )  # fmt: skip
    from tracemend.mend import Amplify
    from tracemend.mend.amplify_run import amplify_run
    from tracemend.mend.job import tuned_as
    from tracemend.models import load
    from tracemend.models.endpoint import Endpoint
    from tracemend.tuning import Tuning

    tuning = tuned_as(
        Tuning(), seed=seed, adapter=adapter, epochs=epochs, learning_rate=learning_rate, max_length=max_length,
    )  # fmt: skip
    method = Amplify(
        words=tuple(words or ()), shots=shots, top=top, attribution=attribution, rationale=rationale,
        answer=answer, balanced=balanced, asked=asked,
        checked=checked, batch_size=batch_size, tuning=tuning, seed=seed,
    )  # fmt: skip
    folder = o.run_directory(out, file)
    with shown(quiet) as progress:
        found = amplify_run(
            method,
            load(model) if url is None else Endpoint(url, model, timeout=timeout, tries=tries),
            splits,
            load(proxy),
            out=folder,
            name=Path(file).name,
            command_line=command_line(),
            progress=progress,
        )
    console = person(json=json)
    console.print("On the verdict part:", markup=False)
    print_table(console, found.arms().T.rename_axis("examples").reset_index())
    print_notes(console, list(found.findings))
    print_run(console, folder, samples=folder / "samples.csv")
    if json:
        print_result(folder)
