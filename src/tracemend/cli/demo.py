"""``tracemend demo``: the main job on the embedded demo set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracemend.cli import options as o
from tracemend.cli.output import command_line
from tracemend.cli.progress import shown
from tracemend.cli.repair import show


def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Run directory; resumed where it is there.")] = Path(
        "runs/demo"
    ),
    seed: Annotated[
        int, typer.Option(min=0, max=2**31 - 1, help="Chooses which labels are flipped, and seeds the rest.")
    ] = 0,
    resume: o.Resume = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Repair the embedded demo set: chat replies, safe or unsafe, 30 % of the training labels flipped.

    Prompt tuning on minilm, without early stop, so that the wrong labels cost something. Needs no network.

    Example:

        tracemend demo --out runs/demo
    """
    from tracemend.mend.job import demo_job

    with shown(quiet) as progress:
        demo_job(out, seed=seed, command_line=command_line(), progress=progress)
    show(out, json=json)
