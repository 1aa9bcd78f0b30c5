"""Running units side by side, each in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracemend.errors import TracemendError
from tracemend.evaluate.grid.cells import Cell, Unit, by_unit
from tracemend.evaluate.grid.results import Results
from tracemend.evaluate.grid.run import Outcome, job
from tracemend.progress import Progress
from tracemend.runs import explained

# Seconds between two looks at the processes, and how long one may take to end after Ctrl-C.
_LOOK, _GRACE = 0.2, 10.0
_DEAD = 3  # processes in a row that end with an error before their first cell
_TAIL = 4000  # characters of a log that a failure keeps


@dataclass(frozen=True, eq=False)
class _Worker:
    unit: Unit
    cells: list[Cell]
    process: subprocess.Popen[str]
    log: Path


def run_side_by_side(
    cells: Iterable[Cell],
    command: Sequence[str],
    results: Results,
    *,
    logs: Path,
    workers: int = 2,
    retry: bool = False,
    seconds: float | None = None,
    progress: Progress = Progress(),
) -> Outcome:
    """Run the cells that are not finished, several units at a time.

    The cells of a unit share work, so one process runs them one after another. It is told the cells on its standard
    input (:func:`read_job`) and runs them by :func:`run_cells` into the same results. Cores are divided among the
    processes by ``OMP_NUM_THREADS``, unless that is set.

    Args:
        command: starts a worker.
        logs: folder of the workers' output, one file a unit.
        workers: processes at a time.
        retry: also run the cells that failed before.
        seconds: no cell is started after so many.
        progress: hears of each finished cell, with the minutes that the rest will take at the pace so far.

    Raises:
        TracemendError: ``workers`` is below 1, or the processes do not get as far as a cell.
        KeyboardInterrupt: on Ctrl-C, after the processes have ended; what was finished stays.
    """
    if workers < 1:
        raise TracemendError(f"workers is {workers}; at least one process is needed.")
    cells = list(cells)
    if retry:
        results.forgive(cells)
    pace = _Pace(results, results.waiting(cells), progress)
    units = list(by_unit(pace.waiting.values()).items())
    running: list[_Worker] = []
    dead = 0
    try:
        while units or running:
            late = seconds is not None and pace.spent >= seconds
            while units and len(running) < workers and not late:
                left = None if seconds is None else seconds - pace.spent
                running.append(_start(*units.pop(0), command, logs, workers, left))
            if late and not running:
                break
            time.sleep(_LOOK)
            for worker in list(running):
                if worker.process.poll() is None:
                    continue
                running.remove(worker)
                _close(worker)
                pace.look()
                own = [cell for cell in worker.cells if cell.fingerprint not in pace.ended]
                # One that stopped for the time that was set leaves cells too, but has status 0.
                if not worker.process.returncode or not own:
                    dead = 0
                    continue
                dead = dead + 1 if len(own) == len(worker.cells) else 0
                _blame(worker, own[0], results)
                if dead >= _DEAD:
                    raise TracemendError(
                        f"{dead} processes one after another ended before their first cell did; the last one's output "
                        f"is in {worker.log}. Correct the cause and give the same command with --retry."
                    )
                if own[1:]:
                    units.append((worker.unit, own[1:]))
            pace.look()
    finally:
        _stop(running)
    return Outcome(done=len(pace.done), failed=len(pace.failed), left=results.waiting(pace.waiting.values()))


def _start(
    unit: Unit, cells: list[Cell], command: Sequence[str], logs: Path, workers: int, seconds: float | None
) -> _Worker:
    path = logs / f"{unit.name}.log"
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // workers))
    with explained(path):
        logs.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": threads},
            )
    if process.stdin is not None:
        # One that dies at once does not read; its status says so later.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(job(cells, seconds))
            process.stdin.flush()
    return _Worker(unit, cells, process, path)


def _blame(worker: _Worker, cell: Cell, results: Results) -> None:
    """A process that died: the cell it was at failed; those after it are run by another one."""
    code = worker.process.returncode
    how = f"signal {-code}" if code < 0 else f"status {code}"
    end = worker.log.read_text(encoding="utf-8", errors="replace")[-_TAIL:]
    results.fail(cell, f"its process ended with {how}; see {worker.log}", details=end)


def _stop(running: list[_Worker]) -> None:
    for worker in running:
        if worker.process.poll() is None:
            worker.process.send_signal(signal.SIGINT)
    until = time.monotonic() + _GRACE
    for worker in running:
        try:
            worker.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
        _close(worker)


def _close(worker: _Worker) -> None:
    """Close the pipe that tells a worker that this process lives."""
    if worker.process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            worker.process.stdin.close()


class _Pace:
    """How far the run has come, and how long the rest will take at this pace."""

    def __init__(self, results: Results, waiting: list[Cell], progress: Progress) -> None:
        self.results, self.progress = results, progress
        self.waiting = {cell.fingerprint: cell for cell in waiting}
        self.done: set[str] = set()
        self.failed: set[str] = set()
        self.began = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self.began

    @property
    def ended(self) -> set[str]:
        """The cells that are finished or failed."""
        return self.done | self.failed

    def look(self) -> None:
        """Tell of the cells that came to an end since the last look."""
        open_ = [name for name in self.waiting if name not in self.ended]
        done = {name for name in open_ if (self.results.folder / f"{name}.parquet").exists()}
        failed = {name for name in open_ if (self.results.failed_folder / f"{name}.json").exists()}
        self.done |= done
        self.failed |= failed
        left = len(self.waiting) - len(self.ended)
        minutes = round(self.spent / max(1, len(self.ended)) * left / 60, 1)
        for name in (*sorted(done), *sorted(failed)):
            cell = self.waiting[name]
            facts = {"unit": cell.unit.name, "arm": cell.arm, "left": left, "minutes_left": minutes}
            if name in failed:
                facts["error"] = self.results.failures()[name].error
            self.progress.note("cell" if name in done else "cell failed", **facts)
