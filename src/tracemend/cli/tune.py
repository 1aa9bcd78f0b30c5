"""``tracemend tune``: tune one adapter, and no more."""

from __future__ import annotations

from pathlib import Path

from tracemend.cli import options as o
from tracemend.cli.output import command_line, person, print_files, print_notes, print_result, print_table
from tracemend.cli.progress import shown


def tune(
    file: o.File,
    text: o.Text,
    label: o.Label,
    reply: o.Reply = None,
    valid: o.Valid = None,
    test: o.Test = None,
    group: o.Group = None,
    truth: o.Truth = None,
    positive: o.Positive = None,
    drop_empty: o.DropEmpty = False,
    fix_splits: o.FixSplits = False,
    model: o.Model = "minilm",
    adapter: o.AdapterKind = None,
    epochs: o.Epochs = None,
    batch_size: o.BatchSize = None,
    learning_rate: o.LearningRate = None,
    patience: o.Patience = None,
    max_length: o.MaxLength = None,
    virtual_tokens: o.VirtualTokens = None,
    precision: o.Precision = None,
    class_weights: o.ClassWeights = None,
    out: o.Out = None,
    seed: o.Seed = 0,
    resume: o.Resume = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Tune an adapter that classifies text, and measure it beside two controls.

    Example:

        tracemend tune comments.csv --text text --label is_toxic --adapter lora --out runs/tuned
    """
    from tracemend.data import read_splits

    with shown(quiet) as progress, o.columns_of(valid, test):
        splits = read_splits(
            file, text=text, label=label, reply=reply, group=group, truth=truth, valid=valid, test=test,
            positive=positive, seed=seed, drop_empty=drop_empty, fix_splits=fix_splits, progress=progress,
        )  # fmt: skip
    import pandas as pd

    from tracemend.mend.job import tuned_as
    from tracemend.models import load
    from tracemend.tuning import Tuning
    from tracemend.tuning.run import tune_run

    folder = o.run_directory(out, file)
    tuning = tuned_as(
        Tuning(), seed=seed, adapter=adapter, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate,
        patience=patience, max_length=max_length, virtual_tokens=virtual_tokens, precision=precision,
        class_weights=class_weights,
    )  # fmt: skip
    with shown(quiet) as progress:
        result = tune_run(
            load(model),
            splits,
            tuning,
            out=folder,
            columns={"text": text} if reply is None else {"text": text, "reply": reply},
            name=Path(file).name,
            command_line=command_line(),
            checked=valid is not None or truth is not None,
            progress=progress,
        )
    console = person(json=json)
    controls = result["controls"]
    rows = [
        {"figure": figure, result["model"]["adapter"]: value, **{c: f[figure] for c, f in controls.items()}}
        for figure, value in result["metrics"].items()
        if figure in next(iter(controls.values()))
    ]
    several = len(result["data"]["labels"]) > 2
    what = "ap as the mean over all labels" if several else f"positive label {result['data']['positive']}"
    console.print(f"On the {result['judged_on']} part, {what}:", markup=False)
    print_table(console, pd.DataFrame(rows))
    print_notes(console, result["notes"])
    print_files(console, {"result": folder / "result.json"})
    if json:
        print_result(folder)
