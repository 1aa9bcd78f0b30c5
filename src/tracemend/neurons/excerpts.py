"""Excerpts of text with what one unit does on each word, and how well a simulation follows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from tracemend.arrays import Floats, Indices
from tracemend.errors import NeuronError
from tracemend.models import LanguageModel

# Activations are told to an explainer on this scale (OpenAI 2023).
SCALE = 10
# Below this share of the highest activation a word does not count as one on which the unit fires.
_FIRES = 0.2


def cut(model: LanguageModel, sentences: Sequence[Sequence[str]], longest: int) -> tuple[list[tuple[str, ...]], int]:
    """Excerpts of sentences, each within the model's window.

    Args:
        model: whose window.
        sentences: of words.
        longest: words of an excerpt, at most.

    Returns:
        The excerpts, and how many words were left out because one of them alone does not fit.

    Raises:
        NeuronError: no word fits.
    """
    found: list[tuple[str, ...]] = []
    for words in sentences:
        for begin in range(0, len(words), longest):
            waiting = [tuple(words[begin : begin + longest])]
            while waiting:
                piece = waiting.pop()
                if len(model.tokenizer(" ".join(piece)).input_ids) <= model.window:
                    found.append(piece)
                elif len(piece) > 1:
                    half = len(piece) // 2
                    waiting += [piece[half:], piece[:half]]
    whole = sum(len(words) for words in sentences)
    if not found:
        raise NeuronError(
            f"none of {whole} words fits the window of {model.name}, {model.window} tokens; give text that is divided "
            "into words, or a model with a longer window."
        )
    return found, whole - sum(len(piece) for piece in found)


@dataclass(frozen=True, eq=False)
class Excerpts:
    """Words in excerpts, and the activations of units on them.

    Attributes:
        words: of each excerpt.
        x: rectified activations, excerpt after excerpt [n, units].
        measured: the same before they were rectified; where it is not given, ``x``.
    """

    words: tuple[tuple[str, ...], ...]
    x: Floats
    measured: Floats | None = None

    @property
    def raw(self) -> Floats:
        """Activations as they are [n, units]."""
        return self.x if self.measured is None else self.measured

    @property
    def bounds(self) -> Indices:
        """Where excerpts begin, and the end of the last [excerpts + 1]."""
        found: Indices = np.cumsum([0, *(len(words) for words in self.words)])
        return found

    def of(self, unit: int, excerpt: int) -> Floats:
        """A unit's activations on one excerpt."""
        begin, end = self.bounds[excerpt : excerpt + 2]
        found: Floats = self.x[begin:end, unit]
        return found

    def peaks(self, unit: int) -> Floats:
        """The highest activation of a unit on each excerpt."""
        return np.maximum.reduceat(self.x[:, unit], self.bounds[:-1])

    def top(self, unit: int, count: int) -> Indices:
        """The excerpts with the highest peaks, at most ``count``, on which the unit is active at all."""
        peaks = self.peaks(unit)
        order = np.argsort(-peaks, kind="stable")[:count]
        found: Indices = order[peaks[order] > 0]
        return found

    def rows(self, excerpts: Sequence[int] | Indices) -> Indices:
        """Places of the words of some excerpts, one after another."""
        bounds = self.bounds
        return np.concatenate([np.arange(bounds[i], bounds[i + 1]) for i in excerpts]).astype(np.int64)

    def top_and_random(self, unit: int, count: int, rng: np.random.Generator) -> Indices:
        """``count`` top excerpts and as many random ones of the others: what a score is about."""
        top = self.top(unit, count)
        others = np.setdiff1d(np.arange(len(self.words)), top)
        return np.concatenate([top, rng.permutation(others)[:count]]).astype(np.int64)


def correlation(true: Floats, simulated: Floats) -> float:
    """Pearson's correlation over words of all excerpts together; NaN, undefined, where either does not vary.

    Example:
        >>> correlation(x, x), correlation(x, np.zeros_like(x))
        (1.0, nan)
    """
    if len(true) < 2 or np.ptp(true) < 1e-12 or np.ptp(simulated) < 1e-12:
        return float("nan")
    return float(np.corrcoef(true, simulated)[0, 1])


def detection(excerpts: Excerpts, unit: int, simulated: Floats, chosen: Indices) -> float:
    """Area under the curve of telling excerpts on which a unit fires from others by the simulation's peak.

    Args:
        excerpts: held out.
        unit: which.
        simulated: of the words of the chosen excerpts, one after another.
        chosen: excerpts, those with the highest peaks and random ones.

    Returns:
        0.5 is chance; NaN where all excerpts are of one kind.
    """
    sizes = [len(excerpts.words[i]) for i in chosen]
    peak = np.maximum.reduceat(simulated, np.cumsum([0, *sizes])[:-1])
    highest = excerpts.peaks(unit)[chosen]
    return _area(highest >= _FIRES * max(float(highest.max()), 1e-12), peak)


def fuzzing(true: Floats, simulated: Floats) -> float:
    """Area under the curve of telling the words on which a unit fires from the others by the simulation."""
    return _area(true >= _FIRES * max(float(true.max()), 1e-12), simulated)


def _area(true: npt.NDArray[np.bool_], scores: Floats) -> float:
    if true.all() or not true.any():
        return float("nan")
    return float(roc_auc_score(true, scores))
