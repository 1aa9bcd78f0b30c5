"""``tracemend detect``: rank the training labels by how suspicious they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tracemend.cli import options as o
from tracemend.cli.next_step import print_next
from tracemend.cli.output import (
    command_line,
    person,
    print_files,
    print_lines,
    print_notes,
    print_result,
    print_table,
)
from tracemend.cli.progress import shown

SHOWN = 15
_MEANINGS = {
    "denied": "of the most suspicious tenth, the share whose label the classifier does not predict",
    "detection_ap": "average precision of the ranking for wrong labels",
    "detection_auroc": "chance that a wrong label ranks above a right one",
    "precision_at_k": "wrong ones among as many of the first as labels are wrong",
    "brier": "mean squared error of the probability (random: the true share for every label)",
}


def detect(
    file: o.File,
    text: o.Text,
    label: o.Label,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A detector: trace.aum, trace.gbair, ... (tracemend methods); else what repair decides by: "
            "trace.consensus with --valid or --truth, and trace.others-labels, which trusts no label, without.",
        ),
    ] = None,
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
    """Rank the training labels by suspicion, and change nothing.

    Writes suspects.csv, the most suspicious first. With one FILE its training part is ranked; give --valid to rank all
    of it. Without --valid or --truth no label is trusted: the column probability stays empty, since labels out of the
    same column cannot say how often it errs. With --truth the ranking is measured, beside a random order.

    Example:

        tracemend detect comments.csv --text text --label is_toxic --out runs/suspects
    """
    from tracemend.data import read_splits

    with shown(quiet) as progress, o.columns_of(valid, test):
        splits = read_splits(
            file, text=text, label=label, reply=reply, group=group, truth=truth, valid=valid, test=test,
            positive=positive, seed=seed, drop_empty=drop_empty, fix_splits=fix_splits, progress=progress,
        )  # fmt: skip
    import pandas as pd

    from tracemend.mend.job import tuned_as
    from tracemend.mend.repaired import remember_names
    from tracemend.models import load
    from tracemend.trace.run import detect_run, detector
    from tracemend.tuning import Tuning

    folder = o.run_directory(out, file)
    trusted = valid is not None or truth is not None
    chosen = detector(method or ("trace.consensus" if trusted else "trace.others-labels"), seed=seed)
    of_tuning: dict[str, Any] = {
        "adapter": adapter, "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate,
        "patience": patience, "max_length": max_length, "virtual_tokens": virtual_tokens, "precision": precision,
        "class_weights": class_weights,
    }  # fmt: skip
    tuning = tuned_as(Tuning(), seed=seed, **of_tuning)
    with shown(quiet) as progress:
        result = detect_run(
            load(model),
            splits,
            chosen,
            tuning,
            out=folder,
            columns={"text": text} if reply is None else {"text": text, "reply": reply},
            name=Path(file).name,
            trusted=valid is not None or splits.train.has_truth,
            command_line=command_line(),
            progress=progress,
        )
    given = {"text": text, "reply": reply, "label": label, "group": group, "truth": truth}
    remember_names(folder, {role: column for role, column in given.items() if column is not None})
    console = person(json=json)
    suspects = pd.read_parquet(folder / "suspects.parquet").head(SHOWN)
    print_table(
        console, suspects.drop(columns=["uid", "evidence"]).dropna(axis=1, how="all"), shorten=("text", "reply")
    )
    figures = result["metrics"]
    rows = [{"figure": n, chosen.name: v, "random order": result["controls"].get(n)} for n, v in figures.items()]
    console.print()
    print_table(console, pd.DataFrame(rows).dropna(axis=1, how="all"))
    print_lines(console, [f"{name}: {_MEANINGS[name]}" for name in figures if name in _MEANINGS])
    console.print()
    print_notes(console, result["notes"])
    print_files(console, {"suspects": folder / "suspects.csv"})
    named = {
        **given, "valid": valid, "test": test, "positive": positive, "drop_empty": drop_empty,
        "model": None if model == "minilm" else model, "seed": seed or None, **of_tuning,
    }  # fmt: skip
    print_next(
        console, file, named, rows=sum(map(len, splits.parts.values())), fixed=fix_splits,
        out=folder.with_name(f"{folder.name}-repaired"),
        first="read the first rows of suspects.csv, then " if suspects["suggested"].notna().any() else "",
    )  # fmt: skip
    if json:
        print_result(folder)
