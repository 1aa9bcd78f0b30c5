"""What every saliency method is: words of texts with weights, and their faithfulness beside random orders."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from tracemend.arrays import Doubles
from tracemend.data import Labelled
from tracemend.errors import TraceError, did_you_mean
from tracemend.methods import Method
from tracemend.models import tiny
from tracemend.progress import Progress
from tracemend.saliency.faithfulness import FIGURES, Deleter, Deletion, faithfulness, random_orders
from tracemend.saliency.inputs import Batch, Output, batches, output_of, per_example
from tracemend.saliency.result import SaliencyResult
from tracemend.saliency.words import PARTS, Example, encoded
from tracemend.tuning import TextClassifier
from tracemend.tuning.adapted import Pair
from tracemend.tuning.predictor import Predictor

# Weights [batch, seq] of tokens, and figures of the method, each [batch].
Weighed = tuple[Tensor, Mapping[str, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Saliency(Method[SaliencyResult]):
    """Base of the saliency methods: a subclass says what each token weighs.

    The weight of a word is the sum over its tokens. Metrics are those of :func:`faithfulness`, means over the texts it
    was measured on; the controls are the same for random orders of the words. Everything is computed in float32.

    Attributes:
        label: that the weights are about; None takes what the classifier predicts for each text.
        output: what the weights are of, see :func:`tracemend.saliency.inputs.output_of`.
        deletion: how words are deleted, see :meth:`Deleter.of`.
        checked: texts that the faithfulness is measured on, drawn at random where there are more.
        orders: random orders a text for the control.
        batch_size: texts at a time.
    """

    inputs: ClassVar[str] = "Texts"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "encoder-decoder", "gradients"})
    at_least: ClassVar = {"checked": 1, "orders": 1, "batch_size": 1}

    label: str | None = None
    output: Output = "log-odds"
    deletion: Deletion = "auto"
    checked: int = 50
    orders: int = 5
    batch_size: int = 16

    @abstractmethod
    def tokens(self, classifier: TextClassifier, batch: Batch) -> Weighed:
        """The weight of each token [batch, seq], and figures of the method by name, each [batch]."""

    def used(self, classifier: TextClassifier) -> dict[str, Any]:
        """What the choices named ``auto`` came to, for the result's config."""
        return {"deleted_by": Deleter.of(classifier.language_model, self.deletion).how}

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> SaliencyResult:
        """Weigh the words of texts.

        Args:
            model: a :class:`TextClassifier`, or a :class:`Predictor`, whose threshold then decides the label.
            data: texts with their replies ``[(text, reply or None), ...]``, or a :class:`Labelled`.

        Raises:
            TraceError: another kind of model or data, or a choice out of range; the message names the valid ones.
            DataError: a text is empty.
            ModelError: the model cannot give what the method needs of it.
        """
        classifier = model.classifier if isinstance(model, Predictor) else model
        if not isinstance(classifier, TextClassifier):
            raise TraceError(
                f"{self.name} takes a TextClassifier or a Predictor, not {type(model).__name__}; tune one first."
            )
        pairs = _pairs(self.name, data)
        self._check(classifier)
        deleter = Deleter.of(classifier.language_model, self.deletion)
        classifier.network.eval()
        examples = encoded(classifier, pairs)
        logits = classifier.predict(pairs, batch_size=self.batch_size, progress=progress)
        predicted = _predicted(model, pairs, logits)
        targets = predicted if self.label is None else [classifier.labels.index(self.label)] * len(pairs)
        weights, facts = self._weights(classifier, examples, targets, progress)
        orders = [order(weight) for weight in weights]
        table = _table(classifier, examples, targets, predicted, logits, self.output) | facts
        table |= self._faithful(classifier, examples, targets, orders, deleter, progress)
        frame = pd.DataFrame(table)
        metrics = {"texts": float(len(pairs)), **{name: float(np.nanmean(table[name])) for name in FIGURES}}
        controls = {name: float(np.nanmean(table[f"random_{name}"])) for name in FIGURES}
        return SaliencyResult(
            metrics=metrics | self.figures(frame),
            controls=controls,
            config=self.config | self.used(classifier),
            rows=_rows(examples, weights, orders),
            examples=frame,
        )

    def figures(self, examples: pd.DataFrame) -> dict[str, float]:
        """Further metrics of the method, from the table of texts."""
        del examples
        return {}

    def weights(
        self, classifier: TextClassifier, pairs: Sequence[Pair], targets: Sequence[int], progress: Progress = Progress()
    ) -> tuple[list[Example], list[Doubles]]:
        """The texts with their words, and each word's weight for the text's class index, without faithfulness."""
        return self.weighed(classifier, pairs, targets, progress)[:2]

    def weighed(
        self, classifier: TextClassifier, pairs: Sequence[Pair], targets: Sequence[int], progress: Progress = Progress()
    ) -> tuple[list[Example], list[Doubles], dict[str, Doubles]]:
        """As :meth:`weights`, and what the method says of each text: of integrated gradients, gap and steps [n]."""
        self._check(classifier)
        classifier.network.eval()
        examples = encoded(classifier, pairs)
        return examples, *self._weights(classifier, examples, targets, progress)

    def _weights(
        self, classifier: TextClassifier, examples: Sequence[Example], targets: Sequence[int], progress: Progress
    ) -> tuple[list[Doubles], dict[str, Doubles]]:
        weights: dict[int, Doubles] = {}
        facts: dict[str, Doubles] = {}
        elsewhere = np.zeros(len(examples))
        total = -(-len(examples) // self.batch_size)
        made = batches(classifier, examples, targets, self.batch_size)
        for batch in progress.track(made, task=self.name.partition(".")[2], total=total):
            tokens, more = self.tokens(classifier, batch)
            for name, values in more.items():
                facts.setdefault(name, np.zeros(len(examples)))[batch.at] = values.detach().double().cpu().numpy()
            for i, example, own in zip(batch.at, batch.examples, per_example(batch, tokens), strict=True):
                weights[i] = example.of_words(own)
                outside, everything = np.abs(own[example.owner < 0]).sum(), np.abs(own).sum()
                elsewhere[i] = outside / everything if everything > 0 else 0.0
        return [weights[i] for i in range(len(examples))], {"elsewhere": elsewhere, **facts}

    def _faithful(
        self,
        classifier: TextClassifier,
        examples: Sequence[Example],
        targets: Sequence[int],
        orders: Sequence[list[int]],
        deleter: Deleter,
        progress: Progress,
    ) -> dict[str, Doubles]:
        n = len(examples)
        drawn = np.sort(np.random.default_rng(self.seed).permutation(n)[: self.checked])
        compared = [[orders[i], *random_orders(examples[i], self.orders, (self.seed, int(i)))] for i in drawn]
        found = faithfulness(
            classifier,
            [examples[i] for i in drawn],
            [targets[i] for i in drawn],
            compared,
            deleter,
            batch_size=2 * self.batch_size,
            progress=progress,
        )
        columns = {name: np.full(n, np.nan) for figure in FIGURES for name in (figure, f"random_{figure}")}
        for k, figure in enumerate(FIGURES):
            columns[figure][drawn] = found[:, 0, k]
            columns[f"random_{figure}"][drawn] = found[:, 1:, k].mean(axis=1)
        return columns

    def _check(self, classifier: TextClassifier) -> None:
        if self.label is not None and self.label not in classifier.labels:
            raise TraceError(f"label {self.label!r} is {did_you_mean(self.label, classifier.labels)}")

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Five made-up texts, one with a reply, and a tiny encoder with an untuned head."""
        pairs = [
            ("you are terrible and i hate this film so very much", None),
            ("good movie", None),
            ("why would you do that", "thanks, great people"),
            ("what an awful awful day", None),
            ("please love the people", None),
        ]
        return cls(orders=2), TextClassifier(tiny("bert"), ("safe", "unsafe"), kind="prompt", virtual_tokens=2), pairs


def order(weights: Doubles) -> list[int]:
    """The words that the model reads, those that speak most for the label first; equal ones in reading order."""
    ranked = np.argsort(-np.nan_to_num(weights, nan=-np.inf), kind="stable")
    return [int(i) for i in ranked if not np.isnan(weights[i])]


def _pairs(name: str, data: Any) -> list[Pair]:
    if isinstance(data, Labelled):
        return list(data.pairs)
    pairs = list(data) if isinstance(data, Sequence) and not isinstance(data, str) else None
    if not pairs or not all(_is_pair(pair) for pair in pairs):
        raise TraceError(
            f"{name} takes texts as [(text, reply or None), ...] or a Labelled, at least one of them, not "
            f"{type(data).__name__}; read a file with tracemend.data.read_texts."
        )
    return [(str(text), reply) for text, reply in pairs]


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) == 2
        and isinstance(value[0], str)
        and (value[1] is None or isinstance(value[1], str))
    )


def _predicted(model: Any, pairs: Sequence[Pair], logits: npt.NDArray[np.float32]) -> list[int]:
    if isinstance(model, Predictor):
        labels = model.classifier.labels
        return [labels.index(label) for label in model.table(pairs)["label"]]
    return [int(i) for i in logits.argmax(axis=1)]


def _table(
    classifier: TextClassifier,
    examples: Sequence[Example],
    targets: Sequence[int],
    predicted: Sequence[int],
    logits: npt.NDArray[np.float32],
    output: Output,
) -> dict[str, Any]:
    values, classes = torch.from_numpy(logits).double(), torch.tensor(list(targets))
    return {
        "example": np.arange(len(examples)),
        "text": [example.pair[0] for example in examples],
        "reply": pd.Series([example.pair[1] for example in examples], dtype=object),
        "label": [classifier.labels[i] for i in targets],
        "predicted": [classifier.labels[i] for i in predicted],
        "probability": output_of(values, classes, "probability").numpy(),
        "output": output_of(values, classes, output).numpy(),
        "cut": [example.cut for example in examples],
    }


def _rows(examples: Sequence[Example], weights: Sequence[Doubles], orders: Sequence[list[int]]) -> pd.DataFrame:
    rows = []
    for i, (example, weight, first) in enumerate(zip(examples, weights, orders, strict=True)):
        # Words that are not read come last.
        rank = {word: place for place, word in enumerate([*first, *np.flatnonzero(np.isnan(weight)).tolist()], start=1)}
        rows += [
            {
                "example": i,
                "part": PARTS[word.part],
                "word": k,
                "start": word.start,
                "end": word.end,
                "string": example.text_of(word),
                "weight": float(weight[k]),
                "rank": rank[k],
            }
            for k, word in enumerate(example.words)
        ]
    return pd.DataFrame(rows)
