"""Units that were explained in words: a page with the excerpts on which each is most active, as coloured text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from tracemend.report.environment import environment
from tracemend.report.words import style
from tracemend.runs import atomic

# At run time the rooms are imported where they are used: both need torch, a report without coloured words does not.
if TYPE_CHECKING:
    from tracemend.neurons import ExplanationResult

# Figures of a unit that stand beside its excerpts, with their names on the page.
_FIGURES = {
    "score": "score",
    "other_unit": "by another unit's explanation",
    "shuffled": "shuffled",
    "detection": "detection",
    "fuzzing": "fuzzing",
    "ablation": "ablation",
}


@dataclass(frozen=True, eq=False)
class Unit:
    """One unit as shown.

    Attributes:
        row: its row of the result.
        highest: its highest activation on held-out text.
        excerpts: words with true and simulated activations.
    """

    row: Mapping[str, Any]
    highest: float
    excerpts: Sequence[Mapping[str, Any]]

    @property
    def figures(self) -> dict[str, float]:
        """Those that there are, by their names."""
        return {said: float(self.row[name]) for name, said in _FIGURES.items() if not math.isnan(self.row[name])}

    @property
    def texts(self) -> list[tuple[Markup, Markup]]:
        """Each excerpt coloured by what the unit does, and by what its explanation says that it does."""
        return [
            (coloured(of["words"], of["activation"]), coloured(of["words"], of["simulated"])) for of in self.excerpts
        ]


def coloured(words: Sequence[str], activation: Sequence[float]) -> Markup:
    """Words with activations from 0 to 1 as a paragraph of coloured text; a page shows it with the style of words."""
    from tracemend.saliency.coloured import word_span

    spans = [word_span(word, float(value), 1.0) for word, value in zip(words, activation, strict=True)]
    return Markup('<p dir="auto">{}</p>').format(Markup(" ").join(spans))


def write_units(result: ExplanationResult, path: Path) -> Path:
    """Write the best explained units as a page that opens from disk, with no network and no script.

    Args:
        result: of :class:`tracemend.neurons.Explain`.
        path: where.

    Raises:
        RunError: the disk is full or not writable.

    Example:
        >>> write_units(Explain().run(model, bank), Path("units.html"))
    """
    records = result.table().to_dict("records")
    rows = {int(row["unit"]): {str(name): value for name, value in row.items()} for row in records}
    units = [Unit(rows[int(of["unit"])], float(of["highest"]), of["excerpts"]) for of in result.facts["coloured"]]
    page = (
        environment()
        .get_template("units.html")
        .render(
            facts=result.facts, metrics=result.metrics, controls=result.controls, findings=result.findings,
            units=units, unshown=len(rows) - len(units), style=style(),
        )
    )  # fmt: skip
    with atomic(path) as file:
        file.write(page.encode("utf-8", "replace").decode("utf-8"))
    return path
