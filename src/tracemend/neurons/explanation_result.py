"""What is known of units that were explained in words: figures a unit, and the excerpts on which it is most active."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tracemend.neurons.excerpts import Excerpts
from tracemend.neurons.result import NeuronsResult

# Units whose excerpts are kept for a page, and excerpts of each.
_SHOWN, _EXCERPTS = 20, 4


@dataclass(frozen=True, kw_only=True)
class ExplanationResult(NeuronsResult):
    """A row a unit, the best explained first.

    Columns: ``unit``; ``explanation``; ``score``, held out; ``shuffled``, the same against activations in random order;
    ``other_unit``, with the explanation of another unit; ``detection`` and ``fuzzing``; ``fires``, the share of
    held-out words where the unit is above zero; ``ablation``, with ``ablation_shuffled``, ``ablation_other`` and
    ``ablation_true``, of the units that were scored so (else NaN); ``note``, what stands in the way.
    ``facts["coloured"]`` holds the top excerpts of the best units with true and simulated activations, as words and
    numbers; ``tracemend.report.write_units`` makes a page of them.
    """

    def figure(self) -> Any:
        """Scores of units beside those of other units' explanations, of shuffled activations and of the untrained."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        bins = np.linspace(-0.3, 1, 27).tolist()
        axes.hist(self.rows["score"].dropna(), bins, color="#2f6f8f", label="own explanation")
        for column, colour in (("other_unit", "#b07d2b"), ("shuffled", "#8a8a8a")):
            axes.hist(self.rows[column].dropna(), bins, histtype="step", color=colour, label=column.replace("_", " "))
        axes.axvline(self.controls["competence"]["score"], color="#4f8f5b", ls="--", label="explainer's competence")
        axes.set(xlabel="correlation of simulated and true activations", ylabel="units")
        axes.legend(fontsize="small")
        return figure


def activations_shown(seen: Excerpts, units: Sequence[int], simulate: Any) -> list[dict[str, Any]]:
    """Top held-out excerpts of the first units: words with true and simulated activations, each from 0 to 1.

    Args:
        seen: held out.
        units: the best explained first.
        simulate: gives what a unit's explanation says of the words of an excerpt.
    """
    found = []
    for unit in units[:_SHOWN]:
        chosen = seen.top(unit, _EXCERPTS)
        true = [seen.of(unit, i) for i in chosen]
        said = [np.maximum(simulate(unit, seen.words[i]), 0) for i in chosen]
        highest = [max([1e-12, *(float(of.max()) for of in side)]) for side in (true, said)]
        excerpts = [
            {"words": list(seen.words[i]), "activation": (own / highest[0]).round(3).tolist(),
             "simulated": (other / highest[1]).round(3).tolist()}
            for i, own, other in zip(chosen, true, said, strict=True)
        ]  # fmt: skip
        found.append({"unit": unit, "highest": highest[0], "excerpts": excerpts})
    return found
