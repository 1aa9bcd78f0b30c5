"""The proof as one job: run what is missing, side by side, and keep the rows."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.evaluate.grid import Cell, Outcome, Results, Unit, run_cells, run_side_by_side
from tracemend.mend.proof.arms import repaired
from tracemend.mend.proof.detection import detected
from tracemend.mend.proof.sets import VALIDATION
from tracemend.mend.proof.unit import Shared
from tracemend.models import LanguageModel, load
from tracemend.progress import Progress
from tracemend.runs import fingerprint
from tracemend.trace.store.claims import Claims

# Seconds between two looks at a unit that another command is at.
_LOOK = 0.5


@dataclass(frozen=True, kw_only=True)
class Job:
    """What all cells of a proof have in common.

    Attributes:
        model: an embedded name, a folder or a hub id.
        adapter: kind of adapter.
        epochs: of the first tuning; it stops at none of them early.
        max_length: tokens of an example.
        train: training examples.
        validation: examples with trusted labels.
        test: examples to measure on; None takes 500, of surge-toxicity 200.
        noisy_validation: whether the validation labels carry the same noise, and the default repair trusts none.
    """

    model: str = "minilm"
    adapter: str = "prompt"
    epochs: int = 8
    max_length: int = 64
    train: int = 500
    validation: int = VALIDATION
    test: int | None = None
    noisy_validation: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """For :func:`tracemend.mend.proof.planned`; rows are known by them, so what is off by default is left out."""
        return {name: value for name, value in asdict(self).items() if name != "noisy_validation" or value}


class Proof:
    """Measures a cell; what the cells of a unit share is done once.

    Both parts, and two commands, share a unit's folder and with it the tunings. So a cell is measured while its unit
    is claimed: who finds it claimed waits, and then reads what the other one has left.

    Args:
        out: folder of the units' runs: checkpoints, repairs. Large, and not needed once the rows are there.
    """

    def __init__(self, out: Path, progress: Progress = Progress()) -> None:
        self.out, self.progress = out, progress
        self._models: dict[str, LanguageModel] = {}
        self._shared: tuple[str, Shared] | None = None

    def __call__(self, cell: Cell) -> pd.DataFrame:
        """The rows of a cell."""
        settings = {k: v for k, v in cell.settings.items() if k != "part"}
        common = {k: v for k, v in settings.items() if k != "detector"}
        folder = self.out / "units" / f"{cell.unit.name}-{fingerprint(common)[:8]}"
        told = False
        with Claims(folder.parent / ".claims") as claims:
            while True:
                with claims.held(folder.name) as mine:
                    if mine:
                        return self._measured(cell, settings, folder)
                if not told:
                    self.progress.note("waiting for another command", unit=cell.unit.name, arm=cell.arm)
                    told = True
                time.sleep(_LOOK)

    def _measured(self, cell: Cell, settings: dict[str, Any], folder: Path) -> pd.DataFrame:
        shared = self._of(cell.unit, settings, folder)
        shared.settings = settings
        return detected(shared, cell.arm) if cell.settings["part"] == "detection" else repaired(shared, cell.arm)

    def _of(self, unit: Unit, settings: dict[str, Any], folder: Path) -> Shared:
        if self._shared is None or self._shared[0] != str(folder):
            name = settings["model"]
            model = self._models.setdefault(name, self._models.get(name) or load(name))
            self._shared = str(folder), Shared(unit, settings, model, folder, self.progress)
        return self._shared[1]


def results_of(part: str, rows: Path, out: Path) -> Results:
    """Where the rows and the errors of a part lie."""
    return Results(rows / part, out / "failed" / part)


def prove(
    cells: Sequence[Cell],
    *,
    rows: Path,
    out: Path,
    workers: int = 2,
    minutes: float | None = None,
    retry: bool = False,
    progress: Progress = Progress(),
) -> Outcome:
    """Run the cells of one part that are missing.

    Args:
        cells: of :func:`tracemend.mend.proof.planned`.
        rows: folder of the rows, to be kept.
        out: folder of everything else.
        workers: processes side by side; 0 runs in this one.
        minutes: no cell is started after so many.
        retry: also run the cells that failed before.

    Returns:
        How many came to an end, and which are left.
    """
    if not cells:
        return Outcome(done=0, failed=0, left=[])
    part = str(cells[0].settings["part"])
    results = results_of(part, rows, out)
    seconds = None if minutes is None else 60 * minutes
    if not workers:
        return run_cells(cells, Proof(out), results, retry=retry, seconds=seconds, progress=progress)
    command = [sys.executable, "-m", "tracemend.mend.proof.worker", part, str(rows), str(out)]
    return run_side_by_side(
        cells, command, results, logs=out / "logs", workers=workers, retry=retry, seconds=seconds, progress=progress
    )
