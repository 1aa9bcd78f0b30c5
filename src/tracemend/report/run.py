"""A finished repair, read from its run directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.errors import RunError
from tracemend.report.since import Change, changed_since
from tracemend.runs import read_result

COMMANDS = ("repair", "demo")
CURVE = ("arm", "round", "split", "ap", "accuracy", "macro_f1", "n_train", "acted", "acted_precision")
DECISIONS = ("uid", "text", "reply", "kind", "old", "new", "round", "score", "reason", "truth", "evidence")


@dataclass(frozen=True, eq=False)
class RepairRun:
    """What a repair left on disk.

    Attributes:
        path: the run directory.
        result: ``result.json``.
        curve: one row an arm, round and split, with the columns of ``CURVE``.
        decisions: one row an example that was decided on, with the columns of ``DECISIONS``; missing values are
            None.
        since: what people decided otherwise after the run.
    """

    path: Path
    result: Mapping[str, Any]
    curve: pd.DataFrame
    decisions: pd.DataFrame
    since: tuple[Change, ...] = ()

    @classmethod
    def read(cls, directory: Path | str) -> RepairRun:
        """Read a run directory.

        Raises:
            RunError: it is not the run of a repair, or a file of it is missing or damaged.
        """
        path = Path(directory)
        result = read_result(path)
        if result["command"] not in COMMANDS:
            raise RunError(
                f"{path} is a run of {result['command']!r}, which has no report; {' and '.join(COMMANDS)} have one, "
                "and every method of probe, neurons, concepts, circuits and mend. Its figures are in "
                f"{path / 'result.json'}, its tables beside it."
            )
        complete = result.get("status") == "complete"
        curve = _table(path / "curve.parquet", CURVE, required=complete)
        curve = curve.assign(arm=curve["arm"].replace("influence", "repair"))  # what runs called it before 0.1
        decisions = _table(path / "decisions.parquet", DECISIONS, required=complete)
        return cls(path, result, curve, decisions, changed_since(path, decisions) if complete else ())

    def part(self, name: str) -> dict[str, Any]:
        """One object of ``result.json``; empty where the run has none."""
        found = self.result.get(name)
        return dict(found) if isinstance(found, Mapping) else {}

    def control(self, arm: str, metric: str) -> float | None:
        """A figure of a control arm (``random``, ``similarity``); None where it was not measured."""
        figures = self.part("controls").get(arm)
        value = figures.get(metric) if isinstance(figures, Mapping) else None
        return value if value is not None else self.part("metrics").get(f"{arm}_{metric}")

    @property
    def in_force(self) -> pd.DataFrame:
        """The decisions that nobody changed since."""
        return self.decisions[~self.decisions["uid"].isin([change.uid for change in self.since])]

    @property
    def since_sentence(self) -> str:
        """How much people changed since the run, and what the figures are of; empty where nothing was changed."""
        n = len(self.since)
        if not n:
            return ""
        who = ", ".join(sorted({change.by for change in self.since}))
        return (
            f"Since the run, {n} {'decision was' if n == 1 else 'decisions were'} changed (by {who}). Figures and "
            "verdict are of the repair as it ran."
        )

    @property
    def title(self) -> str:
        """``Repair of DATA with MODEL``."""
        data, model = self.part("data").get("name"), self.part("model").get("name")
        return f"Repair of {data or 'a data set'} with {model or 'a model'}"


def _table(path: Path, columns: tuple[str, ...], *, required: bool) -> pd.DataFrame:
    if not path.exists():
        if required:
            raise RunError(f"{path} does not exist although the run is complete; give its command again to restore it.")
        return pd.DataFrame(columns=list(columns))
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}); delete it and give the same command again.") from None
    missing = [c for c in columns if c not in table]
    if missing:
        raise RunError(
            f"{path} lacks the columns {', '.join(missing)}; it was written by another version of tracemend: "
            "give the command again in a new --out."
        )
    # One kind of "missing" for the page: pandas reads absent strings back as NaN.
    return table.astype(object).where(table.notna(), None)
