"""How much a classifier relies on words: by what it answers when they are put in or taken out, and by attribution.

This is what judges a mended classifier, by other measures than the one it was mended by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracemend.data import Labelled
from tracemend.data.words import texts_holding
from tracemend.evaluate import average_precision
from tracemend.mend.marks import Spans, goes_with, marks_of_spans, marks_of_words, put_in, without
from tracemend.progress import Progress
from tracemend.saliency import Example, IntegratedGradients
from tracemend.tuning import TextClassifier
from tracemend.tuning.adapted import Pair


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Figures of a classifier on texts that took no part in its tuning.

    - ``accuracy`` and ``ap`` (average precision of the positive label).

    With words that should not matter:

    - ``flipped``: share of texts whose predicted label changes when one of these words is put in; 0 where they do not
      matter;
    - ``reversed``: accuracy where the words stand only in texts of labels they do not go with in training (put in
      there, taken out of all others): what relying on them costs;
    - ``weight``: share of all weight by integrated gradients that is on them, where one was put in.

    With words that should matter: ``added_first``, the share of texts (into which one was put) in which it ranks first
    by integrated gradients, in magnitude. With rationales: ``plausibility``, the average precision of the words inside
    the rationale when a text's words are ranked by integrated gradients for its label, mean over the texts that have
    one.

    Attributes:
        remove: words that should not matter.
        add: words that should matter.
        goes: the label that each word to remove goes with in the training data, see
            :func:`tracemend.mend.marks.goes_with`.
        rationales: uid -> spans of the text.
        checked: texts that integrated gradients are taken of, drawn under the seed.
        seed: of that draw, and of where words are put.
    """

    remove: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    goes: Mapping[str, str | None] = field(default_factory=dict)
    rationales: Mapping[str, Spans] = field(default_factory=dict)
    checked: int = 50
    seed: int = 0

    @classmethod
    def of(
        cls,
        train: Labelled,
        *,
        remove: Sequence[str] = (),
        add: Sequence[str] = (),
        rationales: Mapping[str, Spans] | None = None,
        checked: int = 50,
        seed: int = 0,
    ) -> Judge:
        """A judge that knows which labels the words go with in ``train``."""
        return cls(
            remove=tuple(remove),
            add=tuple(add),
            goes=goes_with(train.pairs, list(train.frame["label"]), remove),
            rationales=rationales or {},
            checked=checked,
            seed=seed,
        )

    def __call__(self, classifier: TextClassifier, data: Labelled) -> tuple[dict[str, float], pd.DataFrame]:
        """Judge a classifier.

        Returns:
            The figures; and one row a text: text, label, p (probability of the positive label), and with words to
            remove without, having, p_without, p_having (texts and probabilities) and weight, NaN where it was not
            measured.
        """
        p = classifier.probabilities(data.pairs)
        labels = list(data.frame["label"])
        columns: dict[str, object] = {
            "text": [text for text, _ in data.pairs],
            "label": labels,
            "p": p[:, data.positive_index].astype(np.float64),
        }
        y = data.y
        figures = {
            "accuracy": float((p.argmax(axis=1) == y).mean()),
            "ap": float(average_precision(y, p, data.positive_index)),
        }
        if self.remove:
            more, cells = self._removed(classifier, data, labels)
            figures, columns = figures | more, columns | cells
        if self.add:
            figures["added_first"] = self._added(classifier, data)
        if self.rationales:
            figures["plausibility"] = self._plausible(classifier, data)
        return figures, pd.DataFrame(columns)

    def _removed(
        self, classifier: TextClassifier, data: Labelled, labels: Sequence[str]
    ) -> tuple[dict[str, float], dict[str, object]]:
        rng = np.random.default_rng([self.seed, 1])
        bare = [without(pair, self.remove) for pair in data.pairs]
        having = [put_in(pair, str(rng.choice(self.remove)), rng) for pair in bare]
        against = []
        for pair, label in zip(bare, labels, strict=True):
            foreign = [word for word in self.remove if self.goes.get(word) not in (None, label)]
            against.append(put_in(pair, str(rng.choice(foreign)), rng) if foreign else pair)
        p_bare, p_having, p_against = (classifier.probabilities(pairs) for pairs in (bare, having, against))
        drawn = self._drawn(len(data))
        targets = [int(p_having[i].argmax()) for i in drawn]
        shares = np.full(len(data), np.nan)
        for i, example, weight in zip(drawn, *self._weights(classifier, having, drawn, targets), strict=True):
            own = ~np.isnan(marks_of_words(example, remove=self.remove)) & example.read
            whole = float(np.nansum(np.abs(weight)))
            shares[i] = np.abs(weight[own]).sum() / whole if whole > 0 else 0.0
        figures = {
            "flipped": float((p_bare.argmax(axis=1) != p_having.argmax(axis=1)).mean()),
            "reversed": float((p_against.argmax(axis=1) == data.y).mean()),
            "weight": float(np.nanmean(shares)),
        }
        cells: dict[str, object] = {
            "without": [text for text, _ in bare],
            "having": [text for text, _ in having],
            "p_without": p_bare[:, data.positive_index].astype(np.float64),
            "p_having": p_having[:, data.positive_index].astype(np.float64),
            "weight": shares,
        }
        return figures, cells

    def _added(self, classifier: TextClassifier, data: Labelled) -> float:
        rng = np.random.default_rng([self.seed, 2])
        having = [put_in(without(pair, self.add), str(rng.choice(self.add)), rng) for pair in data.pairs]
        drawn = self._drawn(len(data))
        targets = [int(y) for y in data.y[drawn]]
        first = []
        for example, weight in zip(*self._weights(classifier, having, drawn, targets), strict=True):
            own = ~np.isnan(marks_of_words(example, add=self.add))
            first.append(bool(own[int(np.nanargmax(np.abs(weight)))]))
        return float(np.mean(first))

    def _plausible(self, classifier: TextClassifier, data: Labelled) -> float:
        from sklearn.metrics import average_precision_score

        uids, found = data.uid, []
        told = np.array([i for i, uid in enumerate(uids) if self.rationales.get(uid)], dtype=np.int64)
        told = told[self._drawn(len(told))]
        targets = [int(y) for y in data.y[told]]
        for i, example, weight in zip(told, *self._weights(classifier, data.pairs, told, targets), strict=True):
            marks = marks_of_spans(example, self.rationales[uids[i]])
            both = ~np.isnan(marks) & ~np.isnan(weight)
            if len(np.unique(marks[both])) == 2:
                found.append(float(average_precision_score(marks[both], weight[both])))
        return float(np.mean(found)) if found else float("nan")

    def _drawn(self, n: int) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = np.sort(np.random.default_rng(self.seed).permutation(n)[: self.checked])
        return found

    def _weights(
        self, classifier: TextClassifier, pairs: Sequence[Pair], drawn: npt.NDArray[np.int64], targets: Sequence[int]
    ) -> tuple[list[Example], list[npt.NDArray[np.float64]]]:
        return _weighed(classifier, [pairs[i] for i in drawn], targets)


def word_shares(
    classifier: TextClassifier,
    data: Labelled,
    words: Sequence[str],
    *,
    most: int = 10,
    seed: int = 0,
    progress: Progress = Progress(),
) -> pd.DataFrame:
    """How much of a text's weight single words carry, by integrated gradients for the predicted label.

    Args:
        classifier: that is asked.
        data: texts that took no part in its tuning.
        words: looked for in each text without regard to case.
        most: texts of each word that are weighed at most, drawn under the seed.

    Returns:
        One row a word: word, texts (that hold it), share (of all weight, in magnitude, mean over the weighed texts) and
        rank (of the heaviest of its places in a text, 1 is the first; mean); NaN where no text holds it.

    Example:
        >>> word_shares(classifier, splits.verdict, ["honestly"])
               word  texts  share  rank
        0  honestly     31   0.42  1.13
    """
    rows: list[dict[str, object]] = []
    for word in progress.track(words, task="weigh words"):
        holding = [i for i, (text, reply) in enumerate(data.pairs) if texts_holding([f"{text}\n{reply or ''}"], word)]
        drawn = np.random.default_rng(seed).permutation(len(holding))[:most]
        pairs = [data.pairs[holding[k]] for k in sorted(drawn.tolist())]
        shares, ranks = [], []
        targets = classifier.probabilities(pairs).argmax(axis=1).tolist() if pairs else []
        for example, weight in zip(*_weighed(classifier, pairs, targets, quick=True), strict=True):
            size = np.abs(np.nan_to_num(weight))
            own = ~np.isnan(marks_of_words(example, remove=[word])) & example.read
            if own.any() and size.sum() > 0:
                shares.append(size[own].sum() / size.sum())
                ranks.append(1 + int((size > size[own].max()).sum()))
        mean = [float(np.mean(some)) if some else float("nan") for some in (shares, ranks)]
        rows.append({"word": word, "texts": len(holding), "share": mean[0], "rank": mean[1]})
    return pd.DataFrame(rows, columns=["word", "texts", "share", "rank"])


def _weighed(
    classifier: TextClassifier, pairs: Sequence[Pair], targets: Sequence[int], *, quick: bool = False
) -> tuple[list[Example], list[npt.NDArray[np.float64]]]:
    # A share or an order of weights needs no fine integral, and one that a person waits for may be coarser still.
    method = IntegratedGradients(max_steps=128, tolerance=0.05)
    if quick:
        method = IntegratedGradients(steps=8, max_steps=32, tolerance=0.1)
    return method.weights(classifier, pairs, targets) if pairs else ([], [])
