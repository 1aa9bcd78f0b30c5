"""Which of two sentences a model finds more probable: targeted minimal pairs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from tracemend.arrays import Floats
from tracemend.data import MinimalPairs
from tracemend.errors import ProbeError
from tracemend.evaluate import mean_interval
from tracemend.methods import Method
from tracemend.models import LanguageModel, tiny
from tracemend.models.likelihood import check_likelihood, contextless, likelihoods
from tracemend.probing.result import ProbeResult, compared
from tracemend.probing.untrained import averaged, untrained
from tracemend.progress import Progress

# Scores that differ by less are equal.
_EQUAL = 1e-6
ARMS = ("random_weights", "shuffled_words", "unigram", "shorter")


@dataclass(frozen=True, kw_only=True)
class MinimalPairsResult(ProbeResult):
    """A row a pair, with both scores and what each control chose; the table counts them by phenomenon."""

    def table(self) -> pd.DataFrame:
        """By phenomenon, the worst first: pairs, accuracy with its interval, and the controls' accuracy."""
        found = []
        for phenomenon, own in self.rows.groupby("phenomenon", sort=True):
            low, high = mean_interval(own["correct"].to_numpy())
            arms = {arm: float(own[arm].mean()) for arm in ARMS}
            accuracy = float(own["correct"].mean())
            found.append({"phenomenon": phenomenon, "pairs": len(own), "accuracy": accuracy, "low": low, "high": high,
                          **arms})  # fmt: skip
        return pd.DataFrame(found).sort_values("accuracy", kind="stable").reset_index(drop=True)

    def worst(self, n: int = 20) -> pd.DataFrame:
        """The pairs that the model is most wrong about: log-probability of good minus bad, lowest first."""
        columns = ["margin", "paradigm", "good", "bad"]
        return self.rows.sort_values("margin", kind="stable").head(n)[columns].reset_index(drop=True)

    def figure(self) -> Any:
        """Accuracy by phenomenon with intervals, beside unigrams and random weights; chance is one half."""
        from matplotlib.figure import Figure

        table = self.table().iloc[::-1]
        figure = Figure(figsize=(7, 1 + 0.35 * len(table)), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(table))
        errors = [table["accuracy"] - table["low"], table["high"] - table["accuracy"]]
        axes.barh(places, table["accuracy"], xerr=errors, color="#2f6f8f", label="model")
        axes.plot(table["unigram"], places, "d", color="#b07d2b", label="unigram")
        axes.plot(table["random_weights"], places, "o", color="#555555", mfc="white", ms=5, label="random weights")
        axes.axvline(0.5, color="#b9b9b9", lw=1)
        axes.set(yticks=places, yticklabels=table["phenomenon"], xlim=(0, 1), xlabel="accuracy")
        figure.legend(fontsize="small", loc="outside upper right", ncols=3)
        return figure


@dataclass(frozen=True, kw_only=True)
class MinimalPairsProbe(Method[MinimalPairsResult]):
    """Share of minimal pairs of which a model finds the acceptable sentence more probable.

    score(s) = sum over t of log p(w_t | w_<t), with a bos token before the text, for a decoder; for a masked model the
    pseudo-log-likelihood (:func:`tracemend.models.likelihood.likelihoods`). A pair is right where score(good) >
    score(bad); equal scores count one half (Marvin and Linzen 2018, arXiv 1808.09031; BLiMP: Warstadt et al. 2020,
    arXiv 1912.00582). No probe is trained, so nothing can be learnt from the pairs; what a score can follow without
    grammar, the controls show:

    - ``random_weights``: the same network untrained; the mean over ``random_models`` of them;
    - ``shuffled_words``: the model on both sentences with their words in random order, the same for both where they are
      as long: which words there are is kept, their order is lost;
    - ``unigram``: each token's probability without context, by the model itself;
    - ``shorter``: the sentence of fewer tokens, which a sum favours.

    Metrics: ``accuracy``; ``accuracy_per_token``, with scores divided by the number of tokens.

    Attributes:
        batch_size: texts of a forward pass.
        random_models: how many untrained networks.

    Raises:
        ModelError: the model gives no probabilities of texts (an encoder without its head, an encoder-decoder).
        ProbeError: data that are no pairs.

    Example:
        >>> found = MinimalPairsProbe().run(load("smollm2"), read_pairs("blimp-200.jsonl").sample(2))
        >>> found.metrics["accuracy"], found.controls["unigram"]
        >>> found.worst(3)
    """

    name = "probing.minimal-pairs"
    inputs: ClassVar[str] = "Pairs"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder"})
    at_least: ClassVar = {"batch_size": 1, "random_models": 1}

    batch_size: int = 16
    random_models: int = 2

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> MinimalPairsResult:
        """Score both sentences of every pair, by the model and by every control.

        Args:
            model: a :class:`LanguageModel` that gives probabilities of texts.
            data: :class:`MinimalPairs`.
        """
        began = time.perf_counter()
        if not isinstance(model, LanguageModel):
            raise ProbeError(f"{self.name} takes a LanguageModel, not {type(model).__name__}; load one first.")
        if not isinstance(data, MinimalPairs):
            raise ProbeError(f"{self.name} takes MinimalPairs, not {type(data).__name__}; read them with read_pairs.")
        check_likelihood(model)
        shuffled = self._shuffled(data)
        scores = self._scores(model, [*data.good, *data.bad], progress)
        arms = {
            "random_weights": [
                self._scores(one, [*data.good, *data.bad], progress)
                for one in untrained(model, self.random_models, seed=self.seed)
            ],
            "shuffled_words": [self._scores(model, shuffled, progress)],
            "unigram": [_unigram(model, scores)],
            "shorter": [_Scores(-scores.lengths, -scores.lengths, scores.tokens)],
        }
        rows = data.frame.assign(
            score_good=scores.good(scores.total),
            score_bad=scores.bad(scores.total),
            margin=scores.good(scores.total) - scores.bad(scores.total),
            tokens_good=scores.good(scores.lengths).astype(int),
            tokens_bad=scores.bad(scores.lengths).astype(int),
            correct=scores.right(scores.total),
            **{arm: np.mean([one.right(one.total) for one in of], axis=0) for arm, of in arms.items()},
        )
        metrics = scores.figures()
        controls = {arm: averaged([one.figures() for one in of]) for arm, of in arms.items()}
        facts = {
            "pairs": len(data),
            "paradigms": len(set(data.paradigm)),
            "unequal_tokens": int((rows["tokens_good"] != rows["tokens_bad"]).sum()),
            "model": model.name,
            "model_fingerprint": model.fingerprint,
            "seconds": round(time.perf_counter() - began, 1),
        }
        made = MinimalPairsResult(
            metrics=metrics, controls=controls, config=self.config, rows=rows, findings=(), facts=facts
        )
        return replace(made, findings=self._findings(made))

    def _scores(self, model: LanguageModel, texts: Sequence[str], progress: Progress) -> _Scores:
        # A sentence that stands in several pairs is scored once.
        distinct = list(dict.fromkeys(texts))
        found = dict(
            zip(distinct, likelihoods(model, distinct, batch_size=self.batch_size, progress=progress), strict=True)
        )
        total, mean = ([getattr(found[text], name) for text in texts] for name in ("total", "mean"))
        return _Scores(np.array(total), np.array(mean), [found[text].tokens for text in texts])

    def _shuffled(self, pairs: MinimalPairs) -> list[str]:
        rng = np.random.default_rng(self.seed)
        good, bad = [], []
        for one, other in zip(pairs.good, pairs.bad, strict=True):
            words, others = one.split(), other.split()
            order = rng.permutation(max(len(words), len(others)))
            good.append(" ".join(words[i] for i in order if i < len(words)))
            bad.append(" ".join(others[i] for i in order if i < len(others)))
        return [*good, *bad]

    def _findings(self, found: MinimalPairsResult) -> list[str]:
        rows = found.rows
        low, high = mean_interval(rows["correct"].to_numpy(), seed=self.seed)
        said = [
            f"The acceptable sentence is the more probable one in {found.metrics['accuracy']:.3f} of {len(rows)} pairs "
            f"({low:.3f} to {high:.3f}; chance 0.5)."
        ]
        for arm in ARMS:
            gap = (rows["correct"] - rows[arm]).to_numpy()
            low, high = mean_interval(gap, seed=self.seed)
            name = {"shuffled_words": "shuffled words", "shorter": "the shorter sentence"}.get(
                arm, arm.replace("_", " ")
            )
            said.append(compared("the model", name, float(gap.mean()), float(low), float(high)))
        table = found.table()
        lost = table[table["low"] <= 0.5]
        if len(lost):
            said.append(f"Not above chance: {', '.join(lost['phenomenon'])}.")
        beaten = table[table["unigram"] >= table["accuracy"]]
        if len(beaten):
            said.append(f"Unigrams do as well or better on: {', '.join(beaten['phenomenon'])}.")
        unequal = found.facts["unequal_tokens"]
        if unequal:
            said.append(
                f"In {unequal} of {len(rows)} pairs the sentences have different numbers of tokens, and a sum favours "
                f"the shorter; divided by length the accuracy is {found.metrics['accuracy_per_token']:.3f}."
            )
        return said

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Ten pairs and a tiny decoder."""
        things = ("movie", "film", "people", "reply", "question")
        good = [f"the {thing} is good" for thing in things] + [f"i love this {thing}" for thing in things]
        bad = [f"the {thing} are are good" for thing in things] + [f"i love {thing} this" for thing in things]
        kinds = ["agreement"] * 5 + ["order"] * 5
        return cls(), tiny("gpt2"), MinimalPairs.make(good, bad, phenomenon=kinds)


@dataclass(frozen=True, eq=False)
class _Scores:
    """Scores of the good sentences and, behind them, of the bad ones [2 n]."""

    total: Floats
    mean: Floats
    tokens: list[list[int]]

    @property
    def lengths(self) -> Floats:
        return np.array([len(tokens) for tokens in self.tokens], dtype=np.float64)

    def good(self, values: Floats) -> Floats:
        return values[: len(values) // 2]

    def bad(self, values: Floats) -> Floats:
        return values[len(values) // 2 :]

    def right(self, values: Floats) -> Floats:
        good, bad = self.good(values), self.bad(values)
        # The same tokens in another order have the same sum but for rounding.
        return np.where(np.abs(good - bad) < _EQUAL, 0.5, good > bad)

    def figures(self) -> dict[str, float]:
        return {
            "accuracy": float(self.right(self.total).mean()),
            "accuracy_per_token": float(self.right(self.mean).mean()),
        }


def _unigram(model: LanguageModel, scores: _Scores) -> _Scores:
    table = contextless(model).double().numpy()
    of = [table[tokens] for tokens in scores.tokens]
    return _Scores(np.array([v.sum() for v in of]), np.array([v.mean() for v in of]), scores.tokens)
