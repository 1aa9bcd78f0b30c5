"""``tracemend repair``: the main job."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console

from tracemend.cli import options as o
from tracemend.cli.grouped import grouped
from tracemend.cli.labelled import StoppedTuning, TrueData
from tracemend.cli.next_step import next_options, print_next
from tracemend.cli.output import command_line, person, print_files, print_notes, print_result
from tracemend.cli.progress import shown

if TYPE_CHECKING:
    from tracemend.report import RepairRun

_LOOP = "Loop (the preset decides what is not given; gbair is named where it differs)"
# What goes with labels that nobody checked, and not into the repair after a check.
_OF_UNCHECKED = ("validation", "ask", "answers", "warm_start")
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


@dataclass(frozen=True, kw_only=True)
class Loop:
    """What a repair does in its rounds; None leaves the preset's choice."""

    preset: Annotated[
        Preset, _loop(help="default, or gbair: the published method, as reconstructed from the paper.")
    ] = "default"
    rounds: Annotated[int | None, _loop(min=1, help="Rounds at most (default 3, gbair 15).")] = None
    candidates: Annotated[
        int | None,
        _loop(min=1, help="Examples acted on in a round, at most (default: estimated noise x N / rounds, gbair 20)."),
    ] = None
    action: Annotated[
        Action | None,
        _loop(help="What is done with a wrong label (default auto: whichever gains more; gbair remove)."),
    ] = None
    rank: Annotated[Rank | None, _loop(help="How training labels are ranked (default consensus, gbair votes).")] = None
    fold_epochs: Annotated[
        int | None,
        _loop(
            min=0,
            help="Epochs of the models that judge examples they have not seen, for rank consensus (default 3); "
            "0 leaves these models out.",
        ),
    ] = None
    drivers: Annotated[
        Drivers | None, _loop(help="Validation examples whose influence counts (default misclassified).")
    ] = None
    top_k: Annotated[int | None, _loop(min=1, help="Opponents of a driver that get its vote (default 20).")] = None
    kernel: Annotated[
        Kernel | None,
        _loop(help="How two gradients are compared (default cosine); dot is not possible with rank trusted."),
    ] = None
    checkpoints: Annotated[Checkpoints | None, _loop(help="Checkpoints whose gradients are taken (default last).")] = (
        None
    )
    warm_start: Annotated[
        bool | None,
        typer.Option(
            "--warm-start/--no-warm-start",
            rich_help_panel=_LOOP,
            help="Each round tunes the last round's adapter further (the default), or tunes a new one (gbair).",
        ),
    ] = None
    stop: Annotated[
        Stop | None,
        _loop(
            help="Which round is kept: the one with the best validation AP (default best), or the last (gbair fixed)."
        ),
    ] = None
    noise: Annotated[
        float | None, _loop(min=0, max=1, help="Share of wrong labels, such as 0.1 (default: estimated).")
    ] = None
    fdr: Annotated[
        float | None,
        _loop(
            min=0, max=1, help="Share of right labels allowed among those acted on, such as 0.1 (default: no bound)."
        ),
    ] = None
    validation: Annotated[
        Validation | None,
        _loop(
            help="clean: the validation labels are trusted (default with --valid or --truth, gbair). noisy: no label "
            "is trusted, each is judged by the other labels, and less is found (default without)."
        ),
    ] = None
    ask: Annotated[
        int | None, _loop(min=0, help="Questions to a person in each round, written to questions.csv (default 0).")
    ] = None
    answers: Annotated[
        list[Path] | None,
        _loop(metavar="FILE", help="questions.csv of an earlier run, with the answers filled in; may be repeated."),
    ] = None


@grouped
def repair(
    *,
    data: TrueData,
    model: o.Model = "minilm",
    tuning: StoppedTuning,
    loop: Loop,
    out: o.Out = None,
    seed: o.Seed = 0,
    resume: o.Resume = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Find the wrong labels behind a classifier's errors, repair them, and say what that recovered.

    Tunes an adapter, finds the labels that frozen states, models tuned on the other folds and trusted validation labels
    deny together, relabels or removes these, tunes again, for a few rounds, with control arms, and judges before
    against after on examples that took no part. Labels given with --valid are trusted. Without --valid and --truth no
    label is trusted: each is judged by the other labels, and less is found. FILE is never changed: the repaired set,
    the changes and a report go to --out.

    Example:

        tracemend repair comments.csv --text text --label is_toxic --out runs/mine

        tracemend repair comments.csv --text text --label is_toxic --valid checked.csv --fix-splits --out runs/mine
    """
    splits = data.splits(seed=seed, quiet=quiet, noisy=loop.validation == "noisy")
    from tracemend.mend.job import configured, repair_splits
    from tracemend.models import load

    chosen = asdict(loop)
    method = configured(chosen.pop("preset"), seed=seed, checked=data.checked, **tuning.choices, **chosen)
    folder = o.run_directory(out, data.file)
    with shown(quiet) as progress:
        repair_splits(
            method,
            load(model),
            splits,
            out=folder,
            columns=data.roles,
            checked=data.checked,
            name=data.name,
            command_line=command_line(),
            progress=progress,
        )
    run = show(folder, json=json)
    if not data.checked and run.part("verdict").get("recommended") == "original":
        of_loop = {name: value for name, value in asdict(loop).items() if name not in _OF_UNCHECKED}
        preset = None if loop.preset == "default" else loop.preset
        print_next(
            person(json=json), data, {**next_options(model, seed), **tuning.choices, **of_loop, "preset": preset},
            rows=sum(run.part("data").get("sizes", {}).values()), out=folder.with_name(f"{folder.name}-checked"),
        )  # fmt: skip


def show(folder: Path, *, json: bool) -> RepairRun:
    """Print the summary of a finished repair, and what lies where."""
    from tracemend.report import RepairRun, Summary

    console: Console = person(json=json)
    run = RepairRun.read(folder)
    console.print(Summary(run), soft_wrap=False)
    console.print()
    print_notes(console, run.result.get("notes", []))
    names = {"report": "report.html", "repaired set": "repaired.csv", "changes": "changes.md"}
    files = {name: folder / file for name, file in names.items()}
    if run.part("verdict").get("recommended") == "original" and (folder / "answered.csv").exists():
        files["your answers alone"] = folder / "answered.csv"
    if (folder / "questions.csv").exists():
        files["questions"] = folder / "questions.csv"
    print_files(console, files)
    if json:
        print_result(folder)
    return run
