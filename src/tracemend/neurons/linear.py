"""Ranking by the weights of a classifier with an elastic net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from tracemend.errors import NeuronError
from tracemend.neurons.classifier import elastic_net
from tracemend.neurons.orders import first_masses
from tracemend.neurons.ranking import Ranking, RankingResult
from tracemend.neurons.units import Units
from tracemend.neurons.words import Property
from tracemend.progress import Progress


@dataclass(frozen=True, kw_only=True)
class LinearRanking(Ranking):
    """Units by the weights that a linear classifier gives them, compared with every other ranking.

    A softmax classifier on all units is trained with an elastic net (Dalvi et al. 2019, arXiv 1812.09355),

        min over W, b:  mean -log softmax(W x + b)_y + 1e-3 |W|_1 + 1e-3 |W|_2^2

    For each label its units are taken by size of weight until they hold a share p of the label's whole. A unit's place
    in the order is the least p at which any label takes it in; units taken in at once are sorted by their largest
    weight. The facts hold, for each label, the smallest set with a share ``mass``.

    Attributes:
        mass: share of a label's weight that its set of units holds.

    Raises:
        NeuronError: what :class:`NeuronMethod` refuses, an unknown ranking, or more units than vary.

    Example:
        >>> found = LinearRanking().run(load("minilm"), read_treebank("ud_ewt"))
        >>> units = found.facts["label_units"]
        >>> units.get("NOUN")[:3]
    """

    name: ClassVar[str] = "neurons.linear"
    own: ClassVar[str] = "linear"

    mass: float = 0.25

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> RankingResult:
        """Rank the units and compare.

        Args:
            model: a :class:`LanguageModel`; its weights are not touched.
            data: a :class:`Treebank`.
            progress: shown.
        """
        if not 0 < self.mass <= 1:
            raise NeuronError(f"mass is {self.mass}; it is a share of the weights, above 0 and at most 1.")
        return super().run(model, data, progress=progress)

    def details(self, words: Property, units: Units) -> dict[str, Any]:
        """The units of each label, the heaviest first."""
        x = units.x["train"][:, torch.from_numpy(units.alive)]
        weight = elastic_net(x, words.parts["train"].y, words.classes)
        share = first_masses(weight.double().numpy())
        found = {}
        for c, label in enumerate(words.names):
            taken = np.flatnonzero(share[:, c] < self.mass)
            found[label] = units.alive[taken[np.argsort(share[taken, c], kind="stable")]].tolist()
        return {"label_units": found}
