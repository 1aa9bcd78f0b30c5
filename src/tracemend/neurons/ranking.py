"""Rankings compared: what a classifier reads from the first units of an order, from the last, and from random ones."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch

from tracemend.arrays import Floats, Indices
from tracemend.errors import NeuronError, did_you_mean
from tracemend.evaluate import mean_interval
from tracemend.models import tiny
from tracemend.neurons.classifier import fit, predict
from tracemend.neurons.neuron_method import NeuronMethod
from tracemend.neurons.orders import ORDERS
from tracemend.neurons.result import NeuronsResult
from tracemend.neurons.units import Units
from tracemend.neurons.words import Property, tiny_treebank
from tracemend.progress import Progress

_DRAWS = 3
_COLOURS = ("#2f6f8f", "#b07d2b", "#7d4f9e", "#4f8f5b")


@dataclass(frozen=True, kw_only=True)
class RankingResult(NeuronsResult):
    """A row a ranking and number of units.

    Columns: ``ranking``, the one that was asked for first; ``k``; ``top``, ``random`` and ``bottom``: accuracy on test
    of a classifier on the first k units, on k random ones, on the last k; ``selectivity`` of each; ``random_weights``:
    ``top`` in the untrained network.
    """

    def figure(self) -> Any:
        """Accuracy by number of units: each ranking's first and last, beside random ones."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        for i, (name, of) in enumerate(self.rows.groupby("ranking", sort=False)):
            colour = _COLOURS[i % len(_COLOURS)]
            axes.plot(of["k"], of["top"], color=colour, marker="o", label=str(name))
            axes.plot(of["k"], of["bottom"], ":", color=colour)
        first = self.rows[self.rows["ranking"] == self.rows["ranking"].iloc[0]]
        axes.plot(first["k"], first["random"], "--", color="#8a8a8a", label="random units")
        axes.plot(first["k"], first["random_weights"], "-.", color="#8a8a8a", label="untrained network")
        axes.set(xlabel="units (dotted: the last ones)", ylabel="accuracy", xscale="log")
        axes.legend(fontsize="small")
        return figure


@dataclass(frozen=True, kw_only=True)
class Ranking(NeuronMethod[RankingResult]):
    """Base of the rankings: each is compared with the others, with its reverse and with random units.

    Metrics, of the method's own order with ``at`` units: ``accuracy`` and ``selectivity`` (accuracy less that on random
    labels of word types), and ``all``, the accuracy with all units. Controls: ``random_units`` (mean of three sets),
    ``bottom``, ``random_weights``, ``majority``.

    Attributes:
        sizes: numbers of units that classifiers read.
        at: the one that metrics are about.
        against: other rankings in the table: linear, probeless, gaussian, average-precision.
    """

    own: ClassVar[str] = ""

    sizes: tuple[int, ...] = (1, 2, 5, 10, 20, 50)
    at: int = 50
    against: tuple[str, ...] = ("linear", "probeless", "gaussian")

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> RankingResult:
        """Rank the units and compare.

        Args:
            model: a :class:`LanguageModel`; its weights are not touched.
            data: a :class:`Treebank`.
            progress: shown.
        """
        began = time.perf_counter()
        for name in self.against:
            if name not in ORDERS:
                raise NeuronError(f"the ranking {name!r} is {did_you_mean(name, ORDERS)}")
        if not self.sizes or min(self.sizes) < 1 or self.at not in self.sizes:
            raise NeuronError(f"at is {self.at} and sizes are {self.sizes}; at must be one of sizes, all above zero.")
        words, units, fresh = self.read_units(model, data, progress)
        if max(self.sizes) > min(len(units.alive), len(fresh.alive)):
            raise NeuronError(f"{max(self.sizes)} units are asked for and {len(units.alive)} vary; lower sizes.")
        names = list(dict.fromkeys((self.own, *self.against)))
        y = words.parts["train"].y
        orders, untrained = (
            {name: ORDERS[name](of, y, words.classes, self.seed) for name in progress.track(names, task="rank units")}
            for of in (units, fresh)
        )
        rows, hits = self._compared(words, units, orders)
        beside, _ = self._compared(words, fresh, untrained)
        rows["random_weights"] = beside["top"].to_numpy()
        own, of_fresh = (
            table[(table["ranking"] == self.own) & (table["k"] == self.at)].iloc[0] for table in (rows, beside)
        )
        everything = [self._all(words, of) for of in (units, fresh)]
        facts, said = self.about(model, words, units)
        facts |= {"order": orders[self.own].tolist(), "seconds": round(time.perf_counter() - began, 1)}
        facts |= self.details(words, units)
        return RankingResult(
            metrics={"accuracy": float(own["top"]), "selectivity": float(own["selectivity"]), "all": everything[0]},
            controls={
                "random_units": {"accuracy": float(own["random"]), "selectivity": float(own["random_selectivity"])},
                "bottom": {"accuracy": float(own["bottom"]), "selectivity": float(own["bottom_selectivity"])},
                "random_weights": {"accuracy": float(of_fresh["top"]), "selectivity": float(of_fresh["selectivity"]),
                                   "all": everything[1]},
                "majority": {"accuracy": words.majority},
            },
            config=self.config,
            rows=rows,
            findings=[*self._findings(words, hits), *said],
            facts=facts,
        )  # fmt: skip

    def details(self, words: Property, units: Units) -> dict[str, Any]:
        """Facts of this ranking alone."""
        del words, units
        return {}

    def _compared(self, words: Property, units: Units, orders: dict[str, Indices]) -> tuple[pd.DataFrame, Floats]:
        """The table, and hits on test [3, n] of the own order's first, random and last ``at`` units."""
        test = words.parts["test"]
        rng = np.random.default_rng(self.seed)
        draws = [rng.permutation(units.alive) for _ in range(_DRAWS)]
        rows: list[dict[str, Any]] = []
        kept = np.zeros((3, len(test)))
        for k in self.sizes:
            sets = [end for order in orders.values() for end in (order[:k], order[-k:])] + [d[:k] for d in draws]
            predicted = self._predicted(words, units, sets)
            hit = (predicted[:, 0] == test.y) * words.known_share
            selectivity = hit.mean(1) - (predicted[:, 1] == test.control).mean(1)
            random, random_selectivity = hit[-_DRAWS:].mean(), selectivity[-_DRAWS:].mean()
            for i, name in enumerate(orders):
                top, bottom = 2 * i, 2 * i + 1
                row = {"ranking": name, "k": k, "top": hit[top].mean(), "random": random, "bottom": hit[bottom].mean()}
                row |= {"selectivity": selectivity[top], "random_selectivity": random_selectivity}
                rows.append({**row, "bottom_selectivity": selectivity[bottom]})
            if k == self.at:
                kept = np.stack([hit[0], hit[-_DRAWS:].mean(0), hit[1]]).astype(np.float64)
        table = pd.DataFrame(rows)
        place = {name: i for i, name in enumerate(orders)}
        return table.sort_values("ranking", key=lambda c: c.map(place), kind="stable").reset_index(drop=True), kept

    def _predicted(self, words: Property, units: Units, sets: list[Indices]) -> Indices:
        """Labels and control labels of the test words by a classifier on each set of units [sets, 2, n]."""
        train = words.parts["train"]
        x = {part: torch.stack([units.x[part][:, torch.from_numpy(np.ascontiguousarray(of))] for of in sets])
             for part in ("train", "test")}  # fmt: skip
        weight, bias = fit(
            x["train"], np.stack([train.y, train.control]), words.classes, l1=0.0, l2=1e-4, seed=self.seed
        )
        return predict(x["test"], weight, bias)

    def _all(self, words: Property, units: Units) -> float:
        hit = self._predicted(words, units, [units.alive])[0, 0] == words.parts["test"].y
        return float(hit.mean()) * words.known_share

    def _findings(self, words: Property, hits: Floats) -> list[str]:
        groups = words.parts["test"].sentence.tolist()
        said = []
        for i, other in ((1, "random units"), (2, "the last units of the order")):
            gap = hits[0] - hits[i]
            low, high = mean_interval(gap, groups, seed=self.seed)
            better = "beat" if low > 0 else "are worse than" if high < 0 else "are not shown to be better than"
            said.append(f"The first {self.at} units {better} {other}: {gap.mean():+.3f} ({low:+.3f} to {high:+.3f}).")
        return said

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """A made-up grammar and a tiny encoder."""
        method = cls(sizes=(2, 4), at=2, train_items=150, test_items=50, fewest=5, against=("linear", "probeless"))
        return method, tiny("bert"), tiny_treebank()
