"""``tracemend store``: the gradients of a run on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tracemend.cli import options as o
from tracemend.cli.output import person, print_json, print_table
from tracemend.cli.progress import shown

store = typer.Typer(no_args_is_help=True, help="Keep the per-example gradients of a run, to be queried many times.")

Folder = Annotated[Path, typer.Argument(metavar="PATH", help="The folder of a store.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


@store.command()
def build(
    run: o.Run,
    dtype: Annotated[
        Literal["bfloat16", "float32"], typer.Option(help="Of the stored gradients; bfloat16 takes half the disk.")
    ] = "bfloat16",
    checkpoints: Annotated[
        Literal["all", "last"], typer.Option(help="All that led to the run's classifier, or the last alone.")
    ] = "all",
    shard_rows: Annotated[
        int | None, typer.Option(min=1, help="Examples a shard, the unit of work (default: as many as make 64 MB).")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples a backward pass.")] = 16,
    project: Annotated[
        int | None,
        typer.Option(
            min=1, help="Keep so many numbers of a matrix's long side, by a seeded random projection (default: all)."
        ),
    ] = None,
    quiet: o.Quiet = False,
) -> None:
    """Compute the gradients of the run's training examples and keep them in RUN/store.

    The same command goes on where it stopped. Started several times at once, here or on many machines, the processes
    share the work.

    Example:

        tracemend store build runs/mine

        torchrun --nproc_per_node 2 -m tracemend store build runs/mine
    """
    from tracemend.trace.store.run import build_run

    with shown(quiet) as progress:
        found = build_run(
            run,
            dtype=dtype,
            checkpoints=checkpoints,
            shard_rows=shard_rows,
            batch_size=batch_size,
            project=project,
            progress=progress,
        )
    person(json=False).print(str(found.path), markup=False)


@store.command()
def verify(
    path: Folder,
    repair: Annotated[
        bool, typer.Option("--repair", help="Delete what is damaged or strays; the next build computes it again.")
    ] = False,
    quiet: o.Quiet = False,
) -> None:
    """Check every shard's hash, shape and rows. The status is 0 where all is well or was repaired, else 2.

    Example:

        tracemend store verify runs/mine/store --repair
    """
    from tracemend.trace.store import verify as check

    with shown(quiet) as progress:
        faults = check(path, repair=repair, progress=progress)
    console = person(json=False)
    if not faults:
        console.print("every file is as it was written")
        return
    for fault in faults:
        console.print(f"{fault.file}: {fault.why}", markup=False)
    if not repair:
        console.print(f"{len(faults)} faults; --repair deletes these files, and the next build makes them again")
        raise typer.Exit(2)
    console.print(f"deleted {len(faults)} files; give the command that builds the store again")


@store.command()
def info(path: Folder, json: AsJson = False) -> None:
    """Show what a store holds, how much of it is there, and what it depends on.

    Example:

        tracemend store info runs/mine/store --json
    """
    import pandas as pd

    from tracemend.trace.store import GradientStore

    found = GradientStore.open(path).summary()
    if json:
        print_json(found)
        return
    console = person(json=False)
    checkpoints = pd.DataFrame(found.pop("checkpoints"))
    fingerprints = found.pop("fingerprints")
    rows = [{"": name, " ": str(value)} for name, value in {**found, **fingerprints}.items()]
    print_table(console, pd.DataFrame(rows), widest=200)
    console.print()
    print_table(console, checkpoints)
