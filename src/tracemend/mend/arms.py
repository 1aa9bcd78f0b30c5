"""What a mended classifier is shown beside: figures of one arm with the marks or the weights, and of its controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.methods import MethodResult
from tracemend.runs import write_json, write_parquet
from tracemend.tuning.tune import Tuned


@dataclass(frozen=True, kw_only=True)
class MendResult(MethodResult):
    """Figures of a mended classifier and of the same tuning in its control arms.

    Attributes:
        notes: sentences for a person: what was marked, how much of it the data hold.
        tuned: the mended classifier; None where the result was read from disk.
    """

    notes: tuple[str, ...] = ()
    tuned: Tuned | None = field(default=None, compare=False, repr=False)

    def arms(self) -> pd.DataFrame:
        """One row a figure, one column an arm, the mended one first."""
        every: Mapping[str, Mapping[str, Any]] = {"mended": self.metrics, **self.controls}
        return pd.DataFrame({arm: pd.Series(dict(of), dtype=float) for arm, of in every.items()}).loc[
            list(self.metrics)
        ]

    def figure(self) -> Any:
        """A matplotlib figure: each figure's bars, one an arm."""
        from matplotlib.figure import Figure

        table = self.arms()
        figure = Figure(figsize=(7, 0.8 + 0.6 * len(table)), layout="constrained")
        axes = figure.subplots()
        colours: Any = ["#2f6f8f", "#b9b9b9", "#d8b26e", "#8a8a8a"][: table.shape[1]]
        table.plot.barh(ax=axes, color=colours)
        axes.invert_yaxis()
        return figure

    def save(self, directory: Path | str) -> Path:
        """Write ``method.json``, ``rows.parquet`` and further tables; :meth:`load` reads all but the classifier."""
        path = Path(directory)
        for name in ("rows", *self.tables):
            write_parquet(path / f"{name}.parquet", getattr(self, name))
        facts = {name: dict(getattr(self, name)) for name in ("metrics", "controls", "config")}
        write_json(path / "method.json", {**facts, "notes": list(self.notes)})
        return path
