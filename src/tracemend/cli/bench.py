"""``tracemend bench``: the grids behind the published figures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tracemend.cli import options as o
from tracemend.cli.bench_er import er
from tracemend.cli.output import person
from tracemend.cli.progress import shown

bench = typer.Typer(no_args_is_help=True, help="Run the grids behind the published figures on the reference sets.")

Part = Literal["detection", "repair"]


@bench.callback()
def _group() -> None:
    """Keep the group a group while it has one command."""


bench.command("er")(er)


@bench.command()
def repair(
    part: Annotated[Part | None, typer.Option(help="One of both parts.")] = None,
    sets: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Reference sets, with commas; default the judged ones.")
    ] = None,
    arms: Annotated[str | None, typer.Option(metavar="NAMES", help="Some detectors or arms, with commas.")] = None,
    noise: Annotated[str | None, typer.Option(metavar="NAMES", help="Some kinds of noise, with commas.")] = None,
    rates: Annotated[str | None, typer.Option(metavar="SHARES", help="Some rates, such as 0.3,0.1.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="At most so many of each row (default 10, 5 or 3).")] = None,
    other: Annotated[
        str | None, typer.Option(metavar="NAME", help="The detector of the arm best-other, found on development sets.")
    ] = None,
    default: Annotated[
        str | None, typer.Option(metavar="NAME", help="What the tables compare the others with.")
    ] = None,
    model: o.Model = "minilm",
    adapter: Annotated[o.Adapter, typer.Option(help="Kind of adapter.")] = "prompt",
    epochs: Annotated[int, typer.Option(min=1, help="Of the first tuning, without early stop.")] = 8,
    train: Annotated[int, typer.Option(min=20, help="Training examples.")] = 500,
    validation: Annotated[int, typer.Option(min=20, help="Examples with trusted labels.")] = 300,
    test: Annotated[int | None, typer.Option(min=20, help="Test examples (default 500; surge-toxicity 200).")] = None,
    noisy_validation: Annotated[
        bool,
        typer.Option("--noisy-validation", help="Validation labels carry the same noise; the default trusts none."),
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Start no cell after so many, and say what is left.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes side by side; 0: in this one.")] = 2,
    retry: Annotated[bool, typer.Option("--retry", help="Also run the cells that failed before.")] = False,
    redo: Annotated[
        bool, typer.Option("--redo", help="Forget the rows of the chosen cells first: a method's code has changed.")
    ] = False,
    table: Annotated[
        bool, typer.Option("--table", help="Only print the tables, from the rows that are there.")
    ] = False,
    pack: Annotated[
        bool,
        typer.Option(
            "--pack", help="Run nothing: put the rows that are there into one file a part, and print the tables."
        ),
    ] = False,
    rows: Annotated[Path, typer.Option(metavar="DIR", help="Where the rows are kept.")] = Path("bench/rows"),
    out: Annotated[Path, typer.Option(metavar="DIR", help="Everything else: checkpoints, logs, errors.")] = Path(
        "bench/out"
    ),
    quiet: o.Quiet = False,
) -> None:
    """Measure detection by every detector and repair by every arm, and print the tables.

    Finished cells are never run again; the same command goes on where it stopped. Tables go to standard output, all
    else to standard error. It takes hours: --minutes stops in time, --table shows what is there.

    Example:

        tracemend bench repair --part detection --sets uci_sentiment_sentences --seeds 1 --minutes 10
    """
    from tracemend.errors import RunError
    from tracemend.mend.proof import PARTS, Job, coverage, planned, prove, results_of, selected, tables

    if arms and part is None:
        raise RunError("--arms names detectors of one part and arms of the other; name one of them with --part.")
    settings = Job(
        model=model, adapter=adapter, epochs=epochs, train=train, validation=validation, test=test,
        noisy_validation=noisy_validation,
    ).settings  # fmt: skip
    narrowed: dict[str, Any] = {
        "sets": _names(sets), "arms": _names(arms), "noises": _names(noise), "rates": _shares(rates),
    }  # fmt: skip
    console, began = person(json=True), time.monotonic()
    table = table or pack
    for one in PARTS if part is None else (part,):
        cells = planned(one, seeds=seeds, settings=settings, other=other, **narrowed)
        results = results_of(one, rows, out)
        if redo and not table:
            console.print(f"{one}: the rows of {results.forget(cells)} cells are forgotten", markup=False)
        if not table:
            spent = (time.monotonic() - began) / 60
            with shown(quiet) as progress:
                found = prove(
                    cells, rows=rows, out=out, workers=workers, retry=retry, progress=progress,
                    minutes=None if minutes is None else max(0.0, minutes - spent),
                )  # fmt: skip
            console.print(
                f"{one}: {found.done} cells done, {found.failed} failed, {len(found.left)} left", markup=False
            )
        failed = results.failures().keys() & {cell.fingerprint for cell in cells}
        if failed:
            console.print(f"{one}: {len(failed)} cells failed at some time; --retry runs them again", markup=False)
        if pack:
            results.pack()
        there = selected(results.rows(), settings, **narrowed)
        typer.echo(f"## {one.capitalize()}\n\n{coverage(there, cells, one)}\n\n{tables(there, one, default=default)}")


def _names(given: str | None) -> list[str]:
    return [name.strip() for name in (given or "").split(",") if name.strip()]


def _shares(given: str | None) -> list[float]:
    try:
        return [float(share) for share in _names(given)]
    except ValueError as error:
        raise typer.BadParameter(f"--rates {given!r}: expected shares with commas, such as 0.3,0.1") from error
