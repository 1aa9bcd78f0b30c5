"""``tracemend repair``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from tracemend.cli import options as o
from tracemend.cli.output import command_line, person, print_files, print_notes, print_result
from tracemend.cli.progress import shown

_LOOP = "Loop (the preset decides what is not given)"
Preset = Literal["default", "gbair"]
Action = Literal["remove", "relabel", "auto"]
Rank = Literal["consensus", "trusted", "votes", "mean", "weighted"]
Drivers = Literal["misclassified", "all", "residual"]
Stop = Literal["best", "fixed"]
Checkpoints = Literal["last", "all"]
Kernel = Literal["cosine", "dot"]
Validation = Literal["clean", "noisy"]


def _loop(**more: Any) -> Any:
    return typer.Option(rich_help_panel=_LOOP, **more)


def repair(
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
    preset: Annotated[Preset, _loop(help="gbair: as reconstructed from the paper.")] = "default",
    rounds: Annotated[int | None, _loop(min=1, help="At most.")] = None,
    candidates: Annotated[int | None, _loop(min=1, help="Examples a round; else estimated noise x N / rounds.")] = None,
    action: Annotated[Action | None, _loop(help="auto: whichever gains more.")] = None,
    rank: Annotated[Rank | None, _loop(help="How training labels are ranked.")] = None,
    fold_epochs: Annotated[
        int | None, _loop(min=0, help="Of the models that judge what they have not seen (rank consensus); 0: none.")
    ] = None,
    drivers: Annotated[Drivers | None, _loop(help="Validation examples that drive the ranking.")] = None,
    top_k: Annotated[int | None, _loop(min=1, help="Opponents of a driver that get its vote.")] = None,
    kernel: Annotated[Kernel | None, _loop(help="Of two gradients; dot: not with rank trusted.")] = None,
    checkpoints: Annotated[Checkpoints | None, _loop(help="Traced.")] = None,
    warm_start: Annotated[
        bool | None, typer.Option("--warm-start/--no-warm-start", rich_help_panel=_LOOP, help="Or tune afresh.")
    ] = None,
    stop: Annotated[Stop | None, _loop(help="best: the round with the best validation AP.")] = None,
    noise: Annotated[float | None, _loop(min=0, max=1, help="Share of wrong labels; else estimated.")] = None,
    fdr: Annotated[
        float | None, _loop(min=0, max=1, help="At most this share of the labels acted on may be right, such as 0.1.")
    ] = None,
    validation: Annotated[
        Validation | None,
        _loop(help="noisy: no label is trusted; all are judged by the others'. Default without --valid and --truth."),
    ] = None,
    ask: Annotated[int | None, _loop(min=0, help="Questions to a person a round, into questions.csv.")] = None,
    answers: Annotated[
        list[Path] | None,
        _loop(metavar="FILE", help="questions.csv of an earlier run, with the answers filled in; may be repeated."),
    ] = None,
    out: o.Out = None,
    seed: o.Seed = 0,
    resume: o.Resume = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Find the wrong labels behind a classifier's errors, repair them, and say what that recovered.

    Tunes an adapter, finds the labels that frozen states, models tuned on the other folds and trusted validation labels
    deny together, relabels or removes these, tunes again, for a few rounds, with control arms, and judges before
    against after on examples that took no part. Without trusted labels (--valid) all labels are judged by the others'.
    FILE is never changed: the repaired set, the changes and a report go to --out.

    Example:

        tracemend repair comments.csv --text text --label is_toxic --out runs/mine
    """
    from tracemend.mend.job import repair as work

    folder = o.run_directory(out, file)
    with shown(quiet) as progress:
        work(
            file,
            text=text,
            label=label,
            reply=reply,
            group=group,
            truth=truth,
            valid=valid,
            test=test,
            positive=positive,
            model=model,
            out=folder,
            preset=preset,
            seed=seed,
            drop_empty=drop_empty,
            fix_splits=fix_splits,
            command_line=command_line(),
            progress=progress,
            adapter=adapter,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            patience=patience,
            max_length=max_length,
            virtual_tokens=virtual_tokens,
            precision=precision,
            class_weights=class_weights,
            rounds=rounds,
            candidates=candidates,
            action=action,
            rank=rank,
            fold_epochs=fold_epochs,
            drivers=drivers,
            top_k=top_k,
            kernel=kernel,
            checkpoints=checkpoints,
            warm_start=warm_start,
            stop=stop,
            noise=noise,
            fdr=fdr,
            validation=validation,
            ask=ask,
            answers=answers or None,
        )
    show(folder, json=json)


def show(folder: Path, *, json: bool) -> None:
    """Print the summary of a finished repair, and what lies where."""
    from tracemend.report import RepairRun, Summary

    console: Console = person(json=json)
    run = RepairRun.read(folder)
    console.print(Summary(run), soft_wrap=False)
    console.print()
    print_notes(console, run.result.get("notes", []))
    names = {"report": "report.html", "repaired set": "repaired.csv", "changes": "changes.md"}
    files = {name: folder / file for name, file in names.items()}
    if (folder / "questions.csv").exists():
        files["questions"] = folder / "questions.csv"
    print_files(console, files)
    if json:
        print_result(folder)
