"""Units that another model has as well: ranked by it, and what is lost without them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
import pandas as pd
import torch

from tracemend.errors import NeuronError
from tracemend.models import LanguageModel, load, random_weights, tiny
from tracemend.neurons.ablate import word_subject
from tracemend.neurons.agreement import Agreement
from tracemend.neurons.dose import check_doses, dose_response
from tracemend.neurons.interventions import Intervention
from tracemend.neurons.neuron_method import NeuronMethod
from tracemend.neurons.result import NeuronsResult
from tracemend.neurons.units import Units, activations
from tracemend.neurons.words import Property, tiny_treebank
from tracemend.progress import Progress

By = Literal["max", "min", "regression", "svcca"]


@dataclass(frozen=True, kw_only=True)
class CorrelationResult(NeuronsResult):
    """A row a unit that varies, the one that is shared most first.

    Columns: ``unit``; ``max``, ``min``, ``regression`` and ``svcca``: its scores; ``random_weights``: its score against
    the other models untrained. ``facts["doses"]`` holds what is lost as units are taken.
    """

    def figure(self) -> Any:
        """Scores of the units beside those against untrained models, and what is lost as they are taken."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        by = str(self.config["by"])
        left.plot(np.arange(len(self.rows)), self.rows[by], color="#2f6f8f", label="other model")
        left.plot(np.arange(len(self.rows)), np.sort(self.rows["random_weights"])[::-1], "--", color="#8a8a8a",
                  label="other model, untrained")  # fmt: skip
        left.set(xlabel="units, the most shared first", ylabel=by)
        left.legend(fontsize="small")
        for (arm, of), colour in zip(
            pd.DataFrame(self.facts["doses"]).groupby("arm", sort=False), ("#2f6f8f", "#8a8a8a", "#b07d2b", "#b0402b"),
            strict=False,
        ):  # fmt: skip
            right.plot(of["k"], of["loss"], color=colour, marker="o", ms=3, label=str(arm))
        right.set(xlabel="units taken", ylabel="loss, nats", xscale="log")
        right.legend(fontsize="small")
        return figure


@dataclass(frozen=True, kw_only=True)
class Correlation(NeuronMethod[CorrelationResult]):
    """Units that another model has learnt as well, found without labels, and what is lost without them.

    Bau et al. 2018 (arXiv 1811.01157) rank a unit x_j by how far other models, or other layers, hold it. Over the same
    words, with y_k the units of model m,

        max         max over m, k of | corr(x_j, y_k) |
        min         min over m of max over k of | corr(x_j, y_k) |
        regression  min over m of R^2 of x_j told by all y of m (ridge)
        svcca       sum over canonical directions c of rho_c^2 corr(x_j, c)^2

    Partners, weights and directions are found on training words, as is which of several models has the best partner,
    and measured on test words, since the best of some hundred partners is good by luck. The first units of the order
    are then set to their mean, as in :class:`tracemend.neurons.Ablation`.

    Metrics: ``correlation``, ``correlation_p95``, ``correlation_max`` (of the units' best partners; over several models
    their mean), ``regression``, ``svcca`` (mean canonical correlation), ``loss_rise`` and ``accuracy_fall`` of the
    first ``at`` units. Controls, the same figures: ``random_weights``, the other models untrained; ``shuffled``, their
    words in another order; ``random``, ``same_norm`` and ``last`` units.

    Attributes:
        other: name of the other model, or several with commas between; empty for the same model at ``other_site``.
        other_site: whose units in the other model; as ``site`` where empty.
        by: max, min, regression or svcca: what ranks.
        sizes: numbers of units taken.
        at: the one that metrics are about.
        draws: random sets.

    Raises:
        NeuronError: what :class:`NeuronMethod` refuses, no such ``by``, the same model and site twice, or more units
            than vary.

    Example:
        >>> method = Correlation(other="smollm2", other_site="blocks.10.hook_resid_post")
        >>> method.run(load("minilm"), read_treebank("ud_ewt")).findings
    """

    name: ClassVar[str] = "neurons.correlation"

    other: str = ""
    other_site: str = "blocks.2.hook_resid_post"
    by: By = "max"
    sizes: tuple[int, ...] = (1, 5, 10, 20, 50)
    at: int = 50
    draws: int = 3

    def run(
        self,
        model: Any,
        data: Any,
        *,
        others: Sequence[LanguageModel] | None = None,
        progress: Progress = Progress(),
    ) -> CorrelationResult:
        """Rank units, and take them.

        Args:
            model: a :class:`LanguageModel`; it is left as it was.
            data: a :class:`Treebank`.
            others: the other models where they are at hand; else they are loaded by their names.
            progress: shown.
        """
        began = time.perf_counter()
        check_doses(self.sizes, self.at, self.draws, 1.0)
        there = self.other_site or self.site
        if not self.other and not others and there == self.site:
            raise NeuronError(f"{self.site} would be compared with itself; name another model, or another other_site.")
        words, units, _ = self.read_units(model, data, progress, untrained=False)
        given = list(others or ())
        if not given:
            names = [name.strip() for name in self.other.split(",") if name.strip()]
            given = [load(name) for name in names] or [model]
        found, fresh, shuffled = [], [], []
        for one in given:
            seen = self._units(one, words, there, progress)
            found.append(Agreement.between(units, seen))
            shuffled.append(Agreement.between(units, self._shuffled(seen)))
            untrained = random_weights(one, seed=self.seed + 1)
            fresh.append(Agreement.between(units, self._units(untrained, words, there, progress)))
        scores = {by: Agreement.of(found, by)[units.alive] for by in get_args(By)}
        order = units.alive[np.argsort(-scores[self.by], kind="stable")]
        train = words.parts["train"]
        intervention = Intervention.of(
            "mean", units.x["train"] * units.scale + units.mean, torch.from_numpy(train.y), words.classes, beta=1.0,
            seed=self.seed,
        )  # fmt: skip
        subject = word_subject(model, words, units, self.site, self.pooling, seed=self.seed)
        with torch.no_grad():
            dose = dose_response(
                subject, intervention, order, sizes=self.sizes, at=self.at, draws=self.draws, seed=self.seed,
                progress=progress,
            )  # fmt: skip
        rows = pd.DataFrame(
            {"unit": units.alive, **scores, "random_weights": Agreement.of(fresh, self.by)[units.alive]}
        )
        rows = rows.sort_values(self.by, ascending=False, kind="stable").reset_index(drop=True)
        agreed = {"found": _mean(found), "random_weights": _mean(fresh), "shuffled": _mean(shuffled)}
        taken = {arm.replace(" ", "_"): {name: figures[name] for name in ("loss_rise", "accuracy_fall")}
                 for arm, figures in dose.arms.items()}  # fmt: skip
        facts, said = self.about(model, words, units)
        facts |= {"others": [one.name for one in given], "other_site": there, "order": order.tolist()}
        facts |= {"doses": dose.rows.drop(columns="language_loss").to_dict("records"), "whole": dose.whole}
        facts["seconds"] = round(time.perf_counter() - began, 1)
        return CorrelationResult(
            metrics={**agreed.pop("found"), **taken.pop("first")},
            controls={**agreed, **taken},
            config=self.config,
            rows=rows,
            findings=[*self._findings(found, fresh, shuffled), *dose.findings[:-1], *said],
            facts=facts,
        )

    def _units(self, model: LanguageModel, words: Property, name: str, progress: Progress) -> Units:
        return Units.of(activations(model, words, name, pooling=self.pooling, progress=progress))

    def _shuffled(self, units: Units) -> Units:
        rng = np.random.default_rng(self.seed)
        return replace(units, x={part: x[torch.from_numpy(rng.permutation(len(x)))] for part, x in units.x.items()})

    def _findings(
        self, found: Sequence[Agreement], fresh: Sequence[Agreement], shuffled: Sequence[Agreement]
    ) -> list[str]:
        own, untrained, chance = (_mean(of) for of in (found, fresh, shuffled))
        said = [
            f"A unit's best partner goes with it by {own['correlation']:.3f} in the mean ({own['correlation_p95']:.3f} "
            f"at the 95th percentile, {own['correlation_max']:.3f} at most); in untrained models by "
            f"{untrained['correlation']:.3f} ({untrained['correlation_p95']:.3f}, {untrained['correlation_max']:.3f}), "
            f"with words shuffled by {chance['correlation']:.3f}."
        ]
        if own["correlation_p95"] <= untrained["correlation_p95"]:
            said.append("Untrained models share as much: this is the words, not what was learnt.")
        return said

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """A made-up grammar and two layers of a tiny encoder."""
        method = cls(
            other_site="blocks.0.hook_resid_post", sizes=(2, 8), at=8, train_items=150, test_items=50, fewest=5
        )
        return method, tiny("bert"), tiny_treebank()


def _mean(found: Sequence[Agreement]) -> dict[str, float]:
    every = [one.figures for one in found]
    return {name: float(np.mean([one[name] for one in every])) for name in every[0]}
