"""SASC: what a function of text stands for, in words that are tested on texts about them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracemend.arrays import Doubles
from tracemend.concepts.modules import Along, Module, OwnFunction, checked, embedded, module_of
from tracemend.concepts.result import ConceptsResult
from tracemend.concepts.themes import Grams, drivers, grams, held_out, sentences, themes
from tracemend.errors import ConceptError
from tracemend.evaluate import mean_interval
from tracemend.methods import Method
from tracemend.models import load
from tracemend.progress import Progress

FEWEST_GRAMS = 200
# Of the words, for the test.
_HELD = 1 / 3
_SIGMA = 1.0


@dataclass(frozen=True, kw_only=True)
class SascResult(ConceptsResult):
    """A row an explanation, the chosen one first.

    Columns: ``explanation``; ``chosen_by``, its score on the texts that choose; ``score`` (in standard deviations) on
    others, ``low`` and ``high`` (95 % over the words of these), ``with_it`` and ``without`` (mean of the function on
    them); ``drivers`` (words it was made from), ``tested`` (words its texts hold, which had no part in making it).
    """

    def figure(self) -> Any:
        """Scores of the explanations, with the best that shuffled answers reach."""
        from matplotlib.figure import Figure

        rows = self.rows
        figure = Figure(figsize=(8, 1 + 0.4 * len(rows)), layout="constrained")
        axes = figure.subplots()
        error = np.maximum(0, np.stack([rows["score"] - rows["low"], rows["high"] - rows["score"]]))
        axes.barh(range(len(rows)), rows["score"], xerr=error, color="#2f6f8f")
        for arm, line, said in (("shuffled", "--", "shuffled answers"), ("random_direction", ":", "random directions")):
            axes.axvline(float(self.controls[arm]["score"]), color="#8a8a8a", ls=line, label=said)
        axes.set_yticks(range(len(rows)), [str(name).replace("$", r"\$") for name in rows["explanation"]])
        axes.invert_yaxis()
        axes.set_xlabel("score (standard deviations)")
        axes.legend(fontsize="small")
        return figure


@dataclass(frozen=True, kw_only=True)
class Sasc(Method[SascResult]):
    """What a function from text to a number responds to, in words (Singh et al. 2023, arXiv 2305.09863).

    1. The function f is asked of n-grams of a corpus. 2. From those that drive it most, themes are made, each named by
    words. 3. Each is tested on made texts that hold words of the theme, T+, and texts that do not, T-:

        score = (mean of f on T+  -  mean of f on T-) / sd of f over the n-grams

    The explainer needs no large model: a word drives f by the mean of the n-grams that hold it, and a theme is where
    the driving words lie in the space of an encoder. A third of the words is kept aside: no n-gram that holds one has a
    part in making an explanation, and the texts of the test are made of these words alone, by one half of which the
    best explanation is chosen and by the other half scored. So an explanation scores only where it says more than the
    words that it was made from, and none scores for having been the luckiest.

    Controls, the score of the best explanation: ``shuffled``, of f with its answers dealt anew; ``random_direction``,
    of directions drawn at random in the encoder's space, which respond to some themes more than to others, but stand
    for nothing. An explanation is shown from a score of 1 up, with an interval above zero, above every shuffle and
    above every random direction.

    Attributes:
        longest: words of an n-gram, at most.
        grams: n-grams, at most.
        top: driving words.
        candidates: explanations.
        texts: of either side of each explanation's test.
        shuffles: times that f's answers are dealt anew to the n-grams for the control, which then chooses its best
            explanation too.
        directions: random ones, asked of the single words; a random direction passes for an explained function with a
            chance of about 1 in ``directions + 1``.
        encoder: an embedded encoder, a folder or a hub id, in whose space words are near or far.

    Raises:
        ConceptError: a module that is no function, or gives something else than one finite number a text; a constant
            function; texts that hold fewer than 200 n-grams, or too few words for a test.

    Example:
        >>> found = Sasc().run(lambda text: text.count("!"), texts)
        >>> found.table()[["explanation", "score", "low", "high"]]
    """

    name: ClassVar[str] = "concepts.sasc"
    inputs: ClassVar[str] = "Corpus"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "encoder-decoder"})
    at_least: ClassVar = dict.fromkeys(("longest", "candidates", "shuffles", "directions"), 1) | {
        "grams": FEWEST_GRAMS,
        "top": 4,
        "texts": 2,
    }

    longest: int = 3
    grams: int = 6_000
    top: int = 30
    candidates: int = 5
    texts: int = 20
    shuffles: int = 5
    directions: int = 10
    encoder: str = "minilm"

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> SascResult:
        """Explain a function.

        Args:
            model: a function from one text to a number, or a module of :mod:`tracemend.concepts.modules`.
            data: texts, whose n-grams the function is asked about.
            progress: shown.
        """
        began = time.perf_counter()
        module = module_of(model)
        made = self._grams(data)
        parts = [made.texts[i : i + 512] for i in range(0, len(made.texts), 512)]
        values = np.concatenate([checked(module, part) for part in progress.track(parts, task="ask of n-grams")])
        spread = float(values.std())
        if spread <= 1e-9 * max(1.0, float(np.abs(values).max())):
            raise ConceptError(
                f"the function gives {values[0]:.4g} for all {len(values)} n-grams; a constant has no explanation."
            )
        z = (values - values.mean()) / spread
        hidden = held_out(made.vocabulary, share=_HELD, seed=self.seed)
        encoder = load(self.encoder)
        vectors = embedded(encoder, made.vocabulary)
        space = vectors - vectors.mean(0)
        space /= np.maximum(np.linalg.norm(space, axis=1, keepdims=True), 1e-12)
        rows = self._explained(module, made, z, hidden, space, spread)
        best = []
        for i in progress.track(range(self.shuffles), task="shuffled answers"):
            dealt = np.random.default_rng((self.seed, 3, i)).permutation(z)
            best.append(self._explained(module, made, dealt, hidden, space, spread)["score"].iloc[0])
        single = Grams(made.vocabulary, made.vocabulary, tuple((i,) for i in range(len(made.vocabulary))))
        beside = []
        for i in progress.track(range(self.directions), task="random directions"):
            direction = Along.at_random(encoder, int(np.random.default_rng((self.seed, 4, i)).integers(2**31)))
            along = vectors @ direction.direction
            level = (along - along.mean()) / along.std()
            scored = self._explained(direction, single, level, hidden, space, float(along.std()))
            beside.append(float(scored["score"].iloc[0]))
        first = rows.iloc[0]
        return SascResult(
            metrics={"score": float(first["score"]), "low": float(first["low"]), "high": float(first["high"])},
            controls={
                "shuffled": {"score": float(np.mean(best))},
                "random_direction": {"score": float(np.mean(beside))},
            },
            config=self.config,
            rows=rows,
            findings=_findings(first, best, beside),
            facts={
                "explanation": first["explanation"],
                "grams": len(made.texts),
                "words": len(made.vocabulary),
                "kept_aside": int(hidden.sum()),
                "strongest": [made.texts[i] for i in np.argsort(-z, kind="stable")[:20]],
                "shuffled_scores": [round(float(score), 4) for score in best],
                "direction_scores": [round(score, 4) for score in beside],
                "seconds": round(time.perf_counter() - began, 1),
            },
        )

    def _grams(self, data: Any) -> Grams:
        if not isinstance(data, Sequence) or isinstance(data, str) or not all(isinstance(text, str) for text in data):
            raise ConceptError(f"{self.name} takes a list of texts, not {type(data).__name__}; read them first.")
        made = grams(data, longest=self.longest, most=self.grams, seed=self.seed)
        if len(made.texts) < FEWEST_GRAMS:
            raise ConceptError(
                f"the {len(data)} texts hold {len(made.texts)} different n-grams; at least {FEWEST_GRAMS} are needed "
                "to see what drives a function. Give more texts."
            )
        return made

    def _explained(
        self, module: Module, made: Grams, z: Doubles, hidden: npt.NDArray[np.bool_], space: Doubles, spread: float
    ) -> pd.DataFrame:
        """Explanations from these standardised answers, tested on the function itself."""
        found, lift = drivers(made, z, hidden, self.top)
        if not len(found):
            raise ConceptError("no word raises the function above its mean; give texts of another kind.")
        rows = []
        for theme in themes(made, found, lift, space, hidden, self.candidates, self.seed):
            sides = (theme.choosing, theme.beside, theme.tested, theme.others)
            near, far, with_it, without = (checked(module, sentences(words, self.texts)) for words in sides)
            gaps = (with_it - without) / spread
            words = [theme.tested[i % len(theme.tested)] for i in range(self.texts)]
            low, high = mean_interval(gaps, words, seed=self.seed)
            rows.append(
                {
                    "explanation": theme.name,
                    "chosen_by": float((near - far).mean() / spread),
                    "score": float(gaps.mean()),
                    "low": float(low),
                    "high": float(high),
                    "with_it": float(with_it.mean()),
                    "without": float(without.mean()),
                    "drivers": ", ".join(theme.drivers),
                    "tested": ", ".join(theme.tested),
                }
            )
        table = pd.DataFrame(rows).drop_duplicates("explanation")
        return table.sort_values("chosen_by", ascending=False, kind="stable").reset_index(drop=True)

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """A function that counts words of praise, and made-up texts."""
        praise = ("love", "great", "nice", "happy", "wonderful", "beautiful", "kind", "fine")
        method = cls(grams=300, candidates=3, texts=6, shuffles=1, directions=1)
        return method, OwnFunction(_Counts(praise)), tiny_corpus()


@dataclass(frozen=True)
class _Counts:
    words: tuple[str, ...]

    def __call__(self, text: str) -> float:
        return float(sum(text.lower().count(word) for word in self.words))


_TINY = """
love great nice happy wonderful beautiful kind fine lovely joyful gentle pleasant good charming sweet cheerful bread
soup dinner meat rice apple cheese kitchen lunch cook train road bridge ship engine wheel travel station ticket bus
teacher school paper book lesson pupil class exam letter page river tree stone hill rain snow wind cloud sun field
doctor nurse pain fever hospital drug wound blood sick bone money bank price market sale shop trade tax coin debt
"""


def tiny_corpus() -> list[str]:
    """Made-up texts of eighty words, for the contract test and for trying things out."""
    rng = np.random.default_rng(0)
    words = _TINY.split()
    return [" ".join(rng.choice(words, 5).tolist()) for _ in range(120)]


def _findings(first: pd.Series[Any], best: Sequence[float], beside: Sequence[float]) -> list[str]:
    score, low = float(first["score"]), float(first["low"])
    said = (
        f"{score:.2f} ({low:.2f} to {first['high']:.2f}) standard deviations, shuffled answers {np.mean(best):.2f}, "
        f"random directions {np.mean(beside):.2f} and at most {max(beside):.2f}"
    )
    if score >= _SIGMA and low > 0 and score > max(best) and score > max(beside):
        return [f"The best explanation is {first['explanation']!r}: {said}."]
    return [
        f"No explanation is shown: the best, {first['explanation']!r}, reaches {said}; one is shown from {_SIGMA:.0f} "
        "up, with an interval above zero, and above every shuffle and every random direction."
    ]
