"""Edits that a unit's formula predicts: a word of it is copied into texts on which the unit is silent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tracemend.arrays import Floats, Masks
from tracemend.data import Labelled
from tracemend.neurons.features import Features
from tracemend.neurons.formulas import Formula
from tracemend.neurons.text_features import is_word, with_word
from tracemend.neurons.texts import peaks
from tracemend.tuning import TextClassifier

# What is measured of an edit: the rise of the label's probability, where the unit fires now, and right answers lost.
FIGURES = ("edit", "fired", "flipped")
_ALIKE = 10


@dataclass(frozen=True, eq=False)
class Edits:
    """Copy-paste edits on measured texts (Mu and Andreas 2020, arXiv 2006.14032).

    Attributes:
        classifier: left as it was.
        site: of the units.
        test: the texts that are edited.
        before: the classifier's probabilities on them [n, C].
        known: the features of formulas.
        counts: of the features, in training: a random word is about as frequent as the one that a formula gives.
        most: texts that a word is added to, at most.
        batch_size: texts of a pass.
    """

    classifier: TextClassifier
    site: str
    test: Labelled
    before: Floats
    known: Features
    counts: Counter[str]
    most: int
    batch_size: int

    def measure(
        self, unit: int, threshold: float, fires: Masks, label: int, formula: Formula, rng: np.random.Generator
    ) -> dict[str, float]:
        """The figures of one unit's edits, and (``_random``) of edits with a random word.

        Args:
            unit: which.
            threshold: above which it fires.
            fires: on which texts it does [n]; the others are edited.
            label: which the unit goes with.
            formula: the unit's; its first word that speaks for it is added.
            rng: draws texts and the random word.

        Returns:
            ``edit``, the mean rise of the label's probability; ``fired``, the share of edited texts on which the unit
            fires now; ``flipped``, of those that were rightly given another label the share that gets this one. All are
            NaN where the formula has no word for itself or there is no text; ``flipped`` also where none was right.
        """
        added = self._word(formula)
        silent = rng.permutation(np.flatnonzero(~fires))[: self.most]
        own = {self.known.names[k] for k, _ in formula.signs()}
        alike = [name for name in self.known.names if is_word(name) and name not in own]
        if added is None or not len(silent) or not alike:
            return {name + arm: float("nan") for name in FIGURES for arm in ("", "_random")}
        alike.sort(key=lambda name: (abs(self.counts[name] - self.counts[added]), name))
        random = alike[int(rng.integers(min(_ALIKE, len(alike))))]
        found: dict[str, float] = {}
        for name, arm in ((added, ""), (random, "_random")):
            for figure, value in self._after(name, silent, unit, threshold, label).items():
                found[figure + arm] = value
        return found

    def _word(self, formula: Formula) -> str | None:
        """The first word of a formula that speaks for it."""
        names = (self.known.names[i] for i, speaks in formula.signs() if speaks)
        return next((name for name in names if is_word(name)), None)

    def _after(
        self, name: str, silent: Sequence[int] | npt.NDArray[np.int64], unit: int, threshold: float, label: int
    ) -> dict[str, float]:
        pairs = [with_word(self.test.pairs[k], name) for k in silent]
        high, after = peaks(self.classifier, pairs, self.site, batch_size=self.batch_size)
        before, y = self.before[silent], self.test.y[silent]
        right = (before.argmax(1) == y) & (y != label)
        return {
            "edit": float((after[:, label] - before[:, label]).mean()),
            "fired": float((high[:, unit] > threshold).mean()),
            "flipped": float((after[right].argmax(1) == label).mean()) if right.any() else float("nan"),
        }
