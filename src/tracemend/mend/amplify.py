"""AMPLIFY: key words of samples that a decoder gets wrong, named in the examples of its prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from tracemend.arrays import Doubles
from tracemend.data import Labelled, Splits
from tracemend.errors import DataError, ModelError, TuningError
from tracemend.evaluate import mean_interval
from tracemend.mend.chat_asked import ChatAsked
from tracemend.mend.rationales import Asked, Asks, Shot, Wording, decided, fitting
from tracemend.methods import Method, MethodResult
from tracemend.models import LanguageModel
from tracemend.models.endpoint import Endpoint, KeptAnswers
from tracemend.progress import Progress
from tracemend.saliency import Gradient, InputXGradient, IntegratedGradients, Saliency
from tracemend.tuning import TextClassifier, Tuning, tune

Attribution = Literal["gradient", "input-x-gradient", "integrated-gradients"]
_METHODS: Mapping[str, type[Saliency]] = {
    "gradient": Gradient, "input-x-gradient": InputXGradient, "integrated-gradients": IntegratedGradients,
}  # fmt: skip
KEY, LABELS, RANDOM, OTHERS = "key words", "labels only", "random words", "another sample's words"
ZERO_SHOT, MAJORITY = "zero-shot", "majority"
# The list of function words holds some that carry a text's meaning.
_FUNCTION = ENGLISH_STOP_WORDS - {
    "bill", "cry", "fire", "interest", "mill", "never", "no", "none", "not", "nothing", "please", "serious", "sincere",
    "system",
}  # fmt: skip
# Examples without which there is no other sample to take words of.
_FEWEST = 2


@dataclass(frozen=True, kw_only=True)
class AmplifyResult(MethodResult):
    """A row an arm and checked text: what the decoder said. The samples and prompts are in ``facts``."""

    def arms(self) -> pd.DataFrame:
        """One row a figure, one column an arm, that with key words first."""
        every: Mapping[str, Mapping[str, Any]] = {KEY: self.metrics, **self.controls}
        return pd.DataFrame({arm: pd.Series(dict(of), dtype=float) for arm, of in every.items()}).loc[
            list(self.metrics)
        ]

    def samples(self) -> pd.DataFrame:
        """The samples shown as examples, in the order of their confidence score, with the words of each arm."""
        return pd.DataFrame(self.facts["samples"])

    def figure(self) -> Any:
        """A matplotlib figure: the figures of each arm."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 3.5), layout="constrained")
        axes = figure.subplots()
        colours: Any = ["#2f6f8f", "#d8b26e"]
        self.arms().T.plot.barh(ax=axes, color=colours)
        axes.invert_yaxis()
        return figure


@dataclass(frozen=True, kw_only=True)
class Amplify(Method[AmplifyResult]):
    r"""Name a proxy's key words in a decoder's few-shot prompt, and say whether that makes it answer better.

    After Krishna, Ma et al. 2023, "Post Hoc Explanations of Language Models Can Improve Language Models" (AMPLIFY,
    arXiv 2305.11426). The decoder is asked about the validation texts without examples. Those that it gets wrong are
    ranked by the misclassification confidence score of a proxy classifier f,

    .. math:: MCS(x) = f(x)_{said} - f(x)_{true},

    where said is the decoder's answer. The first ``shots`` of them become examples, each with its ``top`` key words by
    an attribution of the proxy for the true label. Examples of all arms are the same samples in the same order, and
    the answer is the label whose word is the most probable behind "The answer is". The decoder writes no rationale of
    its own before it answers, as in the paper it does.

    Metrics, on verdict texts: ``accuracy``, and ``probability``, the mean probability of the true label's word among
    the words of all labels. Controls: ``labels only``, the examples without words; ``random words``, as many other
    words of the same text (its key words only where it has no others); ``another sample's words``, the key words of
    the next sample; ``zero-shot``; ``majority``, the most frequent training label (accuracy alone). Findings give
    paired t intervals over texts.

    Attributes:
        words: ``label=word`` for labels whose names are no words.
        shots: samples shown; fewer where the decoder errs less often or its window is short.
        top: key words of a sample.
        attribution: of the proxy.
        rationale: the sentence before an example's answer, with {words} and {label}.
        answer: what stands before the label's word.
        balanced: take samples of the labels in turn, each label's by their score; else by their score alone.
        asked: validation texts that the decoder is asked about, drawn at random where there are more.
        checked: verdict texts, likewise.
        batch_size: prompts of a forward pass.
        tuning: of the proxy, under ``seed``.

    Example:
        >>> Amplify().run(load("smollm2"), splits, proxy=load("minilm")).arms()
    """

    name: ClassVar[str] = "mend.amplify"
    inputs: ClassVar[str] = "Splits"
    capabilities: ClassVar[frozenset[str]] = frozenset({"decoder", "labels", "gradients", "validation"})
    at_least: ClassVar = {"shots": _FEWEST, "top": 1, "asked": 1, "checked": 1, "batch_size": 1}

    words: tuple[str, ...] = ()
    shots: int = 8
    top: int = 5
    attribution: Attribution = "integrated-gradients"
    rationale: str = Wording.rationale
    answer: str = Wording.asks
    balanced: bool = True
    asked: int = 200
    checked: int = 200
    batch_size: int = 16
    tuning: Tuning = field(default_factory=Tuning)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "tuning", replace(self.tuning, seed=self.seed))

    def run(
        self,
        model: Any,
        data: Any,
        *,
        proxy: LanguageModel | TextClassifier | None = None,
        cache: Path | None = None,
        progress: Progress = Progress(),
    ) -> AmplifyResult:
        """Choose samples, explain them, and ask with and without their key words.

        Args:
            model: a decoder, whose weights are not touched; or an :class:`tracemend.models.endpoint.Endpoint`, of which
                the label that its answer names counts, so that there is no ``probability``.
            data: Splits.
            proxy: a model that is tuned on the training part, or a classifier of these labels that already is; None:
                a copy of the decoder is tuned.
            cache: a folder that keeps an endpoint's answers, so that a stopped run goes on.

        Raises:
            DataError: other data than Splits, words that cannot be told apart, fewer than two samples that the decoder
                gets wrong or that its window has room for.
            ModelError: no decoder, one without a bos token, or an endpoint that gives no answer.
            TuningError: a choice out of range, a proxy of other labels, or none beside an endpoint.
        """
        if not isinstance(data, Splits):
            raise DataError(f"{self.name} takes Splits, not {type(data).__name__}; make them with tracemend.data.")
        asked, own_proxy = self._asked(model, data.labels, cache)
        rng = np.random.default_rng(self.seed)
        pool, texts = _drawn(data.validation, self.asked, rng), _drawn(data.verdict, self.checked, rng)
        if asked.room([*pool.pairs, *texts.pairs]) < 0:
            raise DataError(f"a text is longer than the window of {model.name} ({model.window} tokens); shorten it.")
        answers = decided(self._ask(asked, (), pool, progress))
        if not (answers != pool.y).any():
            raise DataError(f"{model.name} gets none of {len(pool)} validation texts wrong; there is nothing to mend.")
        classifier = self._proxy(proxy or own_proxy, data, progress)
        p = classifier.probabilities(pool.pairs, progress=progress)
        rows = np.arange(len(pool))
        score: Doubles = np.where(answers >= 0, p[rows, answers], 0.0) - p[rows, pool.y].astype(np.float64)
        chosen = self.choose(score, answers, pool.y)
        samples = self._explained(classifier, pool, chosen, progress)
        said_of = [asked.words[answers[i]] if answers[i] >= 0 else "" for i in chosen]
        samples = samples.assign(said=said_of, score=score[chosen])
        arms = {arm: _shots(pool, chosen, asked, samples.get(arm)) for arm in (KEY, LABELS, RANDOM, OTHERS)}
        n = fitting(arms, asked, texts.pairs)
        if n < _FEWEST:
            raise DataError(
                f"{model.name} gets {len(chosen)} samples wrong, and its window ({model.window} tokens) has room for "
                f"{n} of them beside a question; {_FEWEST} are the least. Ask about more texts, or take shorter ones."
            )
        # The most confidently wrong stand last, next to the question.
        shown: dict[str, Sequence[Shot]] = {arm: of[:n][::-1] for arm, of in arms.items()}
        said = {arm: self._ask(asked, of, texts, progress) for arm, of in {**shown, ZERO_SHOT: ()}.items()}
        of = {arm: _figures(q, texts.y, asked.graded) for arm, q in said.items()}
        figures = {arm: {name: float(values.mean()) for name, values in own.items()} for arm, own in of.items()}
        usual = int(np.bincount(data.train.y, minlength=len(data.labels)).argmax())
        figures[MAJORITY] = {"accuracy": float((texts.y == usual).mean())}
        facts = {
            "samples": samples.head(n).to_dict("records"),
            "prompts": {arm: asked.wording.prompt(of) for arm, of in shown.items()},
            "wrong": int((answers != pool.y).sum()),
            "asked": len(pool),
            "checked": len(texts),
            "unread": int(sum((decided(q) < 0).sum() for q in said.values())),
            "proxy_accuracy": float((p.argmax(axis=1) == pool.y).mean()),
            "model": model.name,
            "proxy": classifier.language_model.name,
        }
        return AmplifyResult(
            metrics=figures.pop(KEY),
            controls=figures,
            config=self.config,
            rows=_table(said, texts),
            findings=[*self._notes(facts, len(chosen), n), *self._compared(of, texts.group_ids)],
            facts=facts,
        )

    def choose(self, score: Doubles, answers: npt.NDArray[np.int64], y: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Places of the samples to show, of the wrong answers only, the most confidently wrong first.

        Args:
            score: misclassification confidence of each text [n].
            answers: the decoder's [n].
            y: true [n].
        """
        wrong = np.flatnonzero(answers != y)
        ranked = wrong[np.argsort(-score[wrong], kind="stable")]
        if self.balanced:
            turn = pd.Series(y[ranked]).groupby(y[ranked]).cumcount().to_numpy()
            ranked = ranked[np.argsort(turn, kind="stable")][: self.shots]
            ranked = ranked[np.argsort(-score[ranked], kind="stable")]
        return ranked[: self.shots]

    def _asked(self, model: Any, labels: Sequence[str], cache: Path | None) -> tuple[Asks, LanguageModel | None]:
        """Who is asked, and the model whose copy may be the proxy."""
        wording = Wording(self.rationale, self.answer)
        if isinstance(model, Endpoint):
            kept = KeptAnswers(model, None if cache is None else cache / "answers.jsonl")
            return ChatAsked.make(kept, labels, self.words, wording), None
        if not isinstance(model, LanguageModel):
            raise ModelError(
                f"{self.name} takes a LanguageModel or an Endpoint, not {type(model).__name__}; load one first."
            )
        if model.family != "decoder":
            raise ModelError(f"{model.name} is an {model.family}; prompts need a decoder, such as smollm2.")
        return Asked.make(model, labels, self.words, wording), model

    def _proxy(self, proxy: LanguageModel | TextClassifier | None, data: Splits, progress: Progress) -> TextClassifier:
        if isinstance(proxy, LanguageModel):
            return tune(proxy, data.train, data.validation, self.tuning, progress=progress).classifier
        if proxy is None:
            raise TuningError("an endpoint cannot be explained; give a proxy, such as load('minilm').")
        if not isinstance(proxy, TextClassifier):
            raise TuningError(f"the proxy is a {type(proxy).__name__}; give a LanguageModel or a TextClassifier.")
        if tuple(proxy.labels) != tuple(data.labels):
            raise TuningError(
                f"the proxy knows the labels {', '.join(proxy.labels)}, but the data have {', '.join(data.labels)}; "
                "tune one on these data."
            )
        return proxy

    def _ask(self, asked: Asks, shots: Sequence[Shot], data: Labelled, progress: Progress) -> Doubles:
        return asked.probabilities(shots, data.pairs, batch_size=self.batch_size, progress=progress)

    def _explained(
        self, classifier: TextClassifier, pool: Labelled, chosen: npt.NDArray[np.int64], progress: Progress
    ) -> pd.DataFrame:
        """One row a sample: uid, text, label, and its words in each arm that has some."""
        samples = pool.take(chosen)
        method = _METHODS[self.attribution]()
        examples, weights = method.weights(classifier, samples.pairs, [int(y) for y in samples.y], progress)
        words = [
            key_words([example.text_of(word) for word in example.words], weight, self.top)
            for example, weight in zip(examples, weights, strict=True)
        ]
        rng = np.random.default_rng([self.seed, 1])
        random = [
            random_words([example.text_of(word) for word in example.words], own, rng)
            for example, own in zip(examples, words, strict=True)
        ]
        return pd.DataFrame(
            {
                "uid": list(samples.uid),
                "text": [pair[0] for pair in samples.pairs],
                "label": list(samples.frame["label"]),
                KEY: words,
                RANDOM: random,
                OTHERS: [*words[1:], *words[:1]],
            }
        )

    def _notes(self, facts: Mapping[str, Any], chosen: int, shown: int) -> list[str]:
        notes = [f"The decoder gets {facts['wrong']} of {facts['asked']} validation texts wrong without examples; "
                 f"{shown} of them are shown."]  # fmt: skip
        if chosen < self.shots:
            notes.append(f"{self.shots} examples were asked for, but only {chosen} samples are wrong.")
        if shown < chosen:
            notes.append(f"{chosen - shown} examples were dropped: the window of the decoder has no room for them.")
        labels = {sample["label"] for sample in facts["samples"]}
        if len(labels) == 1:
            notes.append(f"All examples have the label {labels.pop()!r}: the decoder errs on no other.")
        same = sum(bool(set(sample[KEY]) & set(sample[RANDOM])) for sample in facts["samples"])
        mute = sum(not sample[KEY] for sample in facts["samples"])
        if mute:
            notes.append(f"{mute} samples have no word that speaks for their label, and are shown without key words.")
        if facts["unread"]:
            notes.append(f"{facts['unread']} answers named no label, or more than one; they count as wrong.")
        if same:
            notes.append(f"{same} samples are so short that their random words hold some of their key words.")
        return notes

    def _compared(self, of: Mapping[str, Mapping[str, Doubles]], groups: npt.NDArray[np.int64]) -> list[str]:
        arms = (LABELS, RANDOM, OTHERS, ZERO_SHOT)
        m = len(arms) * len(of[KEY])
        notes = [
            f"Intervals are widened for the {m} comparisons (Bonferroni), and resample authors where these are known."
        ]
        for figure, ours in of[KEY].items():
            for arm in arms:
                gap = ours - of[arm][figure]
                low, high = mean_interval(gap, groups.tolist(), level=1 - 0.05 / m, seed=self.seed)
                shown = "better" if low > 0 else "worse" if high < 0 else "no effect shown"
                notes.append(f"{figure} with key words beside {arm}: {gap.mean():+.3f} "
                             f"[{float(low):+.3f}, {float(high):+.3f}], {shown}.")  # fmt: skip
        return notes

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Texts of two words, one of which goes with a label, and a tiny decoder that is its own proxy."""
        from tracemend.models import tiny

        kinds = (("love", "great", "nice", "happy"), ("hate", "awful", "terrible", "sad"))
        things = ("movie", "film", "people", "reply")
        made = [(f"{things[i // 2 % 4]} {kinds[i % 2][i // 8 % 4]}", ("safe", "unsafe")[i % 2]) for i in range(48)]
        train, validation, verdict = (Labelled.make(*zip(*made[k : k + 16], strict=True)) for k in (0, 16, 32))
        tuning = Tuning(epochs=1, batch_size=8, rank=2, max_length=24, precision="fp32")
        config = cls(shots=2, top=1, attribution="gradient", rationale="{words} {label}", answer="is", tuning=tuning)
        return config, tiny("gpt2"), Splits(train=train, validation=validation, verdict=verdict)


def key_words(words: Sequence[str], weights: npt.ArrayLike, top: int) -> tuple[str, ...]:
    """The first words of positive weight, each once, without function words unless there are no others.

    A word of a negative weight speaks for another label and is no clue: there may be fewer words than ``top``, or none.

    Args:
        words: of a text.
        weights: of each; NaN for a word that the model does not read.
        top: how many at most.

    Example:
        >>> key_words(["the", "film", "is", "fine"], [0.9, 0.1, 0.3, 0.7], 2)
        ('fine', 'film')
    """
    weight = np.asarray(weights, dtype=np.float64)
    read = [int(i) for i in np.argsort(-weight, kind="stable") if weight[i] > 0]
    return _distinct([words[i] for i in read])[:top]


def random_words(words: Sequence[str], key: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
    """As many words of the same text as there are key words, at random; key words only where it has no others."""
    every = _distinct([words[i] for i in rng.permutation(len(words))])
    known = {word.casefold() for word in key}
    others = [word for word in every if word.casefold() not in known]
    return tuple([*others, *(word for word in every if word.casefold() in known)][: len(key)])


def _distinct(words: Sequence[str]) -> tuple[str, ...]:
    once = {word.casefold(): word for word in reversed(words)}
    ordered = [once[name] for name in dict.fromkeys(word.casefold() for word in words)]
    content = [w for w in ordered if w.casefold() not in _FUNCTION and any(c.isalnum() for c in w)]
    return tuple(content or ordered)


def _drawn(data: Labelled, most: int, rng: np.random.Generator) -> Labelled:
    return data.take(np.sort(rng.permutation(len(data))[:most]))


def _figures(q: Doubles, y: npt.NDArray[np.int64], graded: bool) -> dict[str, Doubles]:
    """Each figure by text [n]: whether the answer is right, and the probability of the true label where it is told."""
    right = {"accuracy": (decided(q) == y).astype(np.float64)}
    return {**right, "probability": q[np.arange(len(y)), y]} if graded else right


def _shots(pool: Labelled, chosen: Sequence[int] | npt.NDArray[np.int64], asked: Asks, words: Any) -> list[Shot]:
    of = [()] * len(chosen) if words is None else list(words)
    return [Shot(pool.pairs[i], asked.words[pool.y[i]], tuple(w)) for i, w in zip(chosen, of, strict=True)]


def _table(said: Mapping[str, Doubles], texts: Labelled) -> pd.DataFrame:
    own = np.arange(len(texts))
    frames = [
        pd.DataFrame(
            {
                "arm": arm,
                "uid": list(texts.uid),
                "label": list(texts.frame["label"]),
                "said": [texts.labels[i] if i >= 0 else "" for i in decided(q)],
                "right": decided(q) == texts.y,
                "probability": q[own, texts.y],
            }
        )
        for arm, q in said.items()
    ]
    return pd.concat(frames, ignore_index=True)
