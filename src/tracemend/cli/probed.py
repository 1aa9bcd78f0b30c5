"""What every ``tracemend probe`` does: load the model, run the probe, show figures beside controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from tracemend.cli import options as o
from tracemend.cli.output import command_line, person, print_notes, print_result, print_run, print_table
from tracemend.cli.progress import shown

if TYPE_CHECKING:
    from tracemend.concepts import ConceptsResult
    from tracemend.methods import Method
    from tracemend.neurons import NeuronsResult
    from tracemend.probing import ProbeResult
    from tracemend.progress import Progress
    from tracemend.tuning import TextClassifier

# What is shown.
Found = TypeVar("Found", bound="ProbeResult | NeuronsResult | ConceptsResult")


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every command that runs a method takes: where the run is kept, its seed, and how it is shown."""

    out: o.Out = None
    seed: o.Seed = 0
    json: o.Json = False
    quiet: o.Quiet = False


RandomModels = Annotated[int, typer.Option("--random-models", min=1, help="Untrained networks to compare with.")]
Pronouns = Annotated[
    Path,
    typer.Option(
        "--data",
        metavar="PATH",
        help="A folder of GAP, Winogender, WinoBias or GUM, told by its files; or one file of GAP or GUM, which is "
        "divided by documents.",
    ),
]
TrainPronouns = Annotated[
    Path | None,
    typer.Option(
        "--train",
        metavar="PATH",
        help="Pronouns to train and choose on, where --data has none (Winogender, WinoBias): GAP's folder.",
    ),
]


def pronouns_of(data: Path, train: Path | None) -> Any:
    """The pronouns of --data, with those of --train to train on."""
    from tracemend.data import read_pronouns

    given = read_pronouns(data)
    return given if train is None else read_pronouns(train).split().tested_on(given)


def probed(
    method: Method[Any],
    model: str | TextClassifier,
    data: Any,
    source: Path,
    common: Common,
    *,
    masked: bool = False,
    cache: Path | None = None,
) -> ProbeResult:
    """Run a probe on a model of that name, or on a tuned classifier, and show what came out."""
    from tracemend.models import load
    from tracemend.probing.run import probe_run

    loaded = load(model, masked=masked) if isinstance(model, str) else model
    found, _ = run_shown(
        common,
        f"probe-{method.name.partition('.')[2]}-{source.name.split('.')[0]}",
        lambda folder, progress: probe_run(
            method,
            loaded,
            data,
            out=folder,
            data_name=source.name,
            cache=cache,
            command_line=command_line(),
            progress=progress,
        ),
    )
    return found


def run_shown(common: Common, name: str, work: Callable[[Path, Progress], Found]) -> tuple[Found, Path]:
    """Run a method in the folder that was named, or in the first that fits, and show what came out.

    Args:
        common: where, and how it is shown.
        name: of a folder that was not named.
        work: runs the method in a folder.

    Returns:
        The result, and the folder that keeps it.
    """
    from tracemend.method_runs import in_folder

    with shown(common.quiet) as progress:
        found, folder, said = in_folder(common.out, name, lambda folder: work(folder, progress))
    show_found(found, folder, said, json=common.json)
    return found, folder


def show_found(found: ProbeResult | NeuronsResult | ConceptsResult, folder: Path, said: str, *, json: bool) -> None:
    """Rows, figures beside their controls, and what was found in words.

    Args:
        found: the result.
        folder: the run directory.
        said: of the choice of that directory.
        json: print ``result.json`` on standard output.
    """
    import pandas as pd

    console = person(json=json)
    print_table(console, found.table().head(40))
    arms = {name: value for name, value in found.controls.items() if isinstance(value, dict)}
    figures = [
        {"figure": name, "found": value, **{arm: of.get(name) for arm, of in arms.items()}}
        for name, value in found.metrics.items()
    ]
    console.print()
    print_table(console, pd.DataFrame(figures))
    print_notes(console, [*found.findings, *([said] if said else [])])
    print_run(console, folder)
    if json:
        print_result(folder)
