"""Running cells in this process, one after another."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import IO

import pandas as pd

from tracemend.errors import TracemendError
from tracemend.evaluate.grid.cells import Cell
from tracemend.evaluate.grid.results import Results
from tracemend.progress import Progress

Work = Callable[[Cell], pd.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run of cells came to.

    Attributes:
        done: cells finished now.
        failed: cells that ended with an error now.
        left: cells that were not started, or not finished.
    """

    done: int
    failed: int
    left: list[Cell]


def run_cells(
    cells: Iterable[Cell],
    work: Work,
    results: Results,
    *,
    retry: bool = False,
    seconds: float | None = None,
    progress: Progress = Progress(),
) -> Outcome:
    """Run the cells that are not finished.

    A cell is finished when its file is there, so Ctrl-C or a kill costs the cell in work and nothing else. An error
    ends its cell, is recorded, and the next cell begins.

    Args:
        work: measures a cell; gives one row or several.
        retry: also run the cells that failed before.
        seconds: no cell is started after so many.

    Example:
        >>> grid = Grid(datasets=("a",), noises=("none",), rates=(0.0,), seeds=(0, 1), arms=("x",))
        >>> results = Results(out / "rows", out / "failed")
        >>> run_cells(grid.cells(), lambda cell: pd.DataFrame({"ap": [0.5]}), results).done
        2
    """
    cells = list(cells)
    if retry:
        results.forgive(cells)
    waiting = results.waiting(cells)
    began = time.monotonic()
    done = failed = 0
    for at, cell in enumerate(progress.track(waiting, task="cells")):
        if seconds is not None and time.monotonic() - began >= seconds:
            return Outcome(done=done, failed=failed, left=waiting[at:])
        start = time.monotonic()
        try:
            results.keep(cell, work(cell), seconds=time.monotonic() - start)
            done += 1
            event, facts = "cell", {}
        except Exception as error:
            # Whatever a method raises is that cell's result; the others must not be lost over it.
            results.fail(cell, error)
            failed += 1
            event, facts = "cell failed", {"error": f"{type(error).__name__}: {error}"}
        left = len(waiting) - at - 1
        minutes = round((time.monotonic() - began) / (at + 1) * left / 60, 1)
        progress.note(event, unit=cell.unit.name, arm=cell.arm, left=left, minutes_left=minutes, **facts)
    return Outcome(done=done, failed=failed, left=[])


def job(cells: Sequence[Cell], seconds: float | None) -> str:
    """What a worker process reads on its standard input: one line, after which the pipe stays open."""
    return json.dumps({"cells": [cell.facts for cell in cells], "seconds": seconds}) + "\n"


def read_job(stream: IO[str]) -> tuple[list[Cell], float | None]:
    """The cells that a worker process is to run, and for how many seconds it may start them.

    From then on the process ends, as by Ctrl-C, when the one that started it does, however that ends: the pipe
    between them closes.

    Raises:
        TracemendError: the stream holds something else.
    """
    try:
        facts = json.loads(stream.readline())
        cells = [Cell.of(one) for one in facts["cells"]]
        threading.Thread(target=_end_with, args=(stream,), daemon=True).start()
        return cells, facts["seconds"]
    except (ValueError, TypeError, KeyError) as error:
        raise TracemendError(
            f"standard input holds no job of a grid ({error}); it is written by the process that starts workers."
        ) from error


def _end_with(stream: IO[str]) -> None:
    # Not stream.read(): a thread that holds the stream's lock would break the end of the process.
    while os.read(stream.fileno(), 1):
        pass
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
