"""Labelled words of a treebank, in three parts: the property that units are asked for, and its control task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tracemend.arrays import Indices
from tracemend.data import Sentence, Treebank
from tracemend.errors import NeuronError, did_you_mean

PARTS = ("train", "dev", "test")


@dataclass(frozen=True, eq=False)
class Words:
    """Labelled words of one part.

    Attributes:
        sentences: as they go into the model.
        sentence: of each word [n].
        word: its place in the sentence [n].
        form: as it is written, in lower case [n].
        y: label index [n].
        control: index of a random label of the word's type [n].
    """

    sentences: tuple[tuple[str, ...], ...]
    sentence: Indices
    word: Indices
    form: tuple[str, ...]
    y: Indices
    control: Indices

    def __len__(self) -> int:
        return len(self.form)


@dataclass(frozen=True, eq=False)
class Property:
    """A property of words: its labels, and the words that have them in train, dev and test.

    The control task gives every word type a random label, with the frequencies of the true ones (Hewitt and Liang
    2019, arXiv 1909.03368): what is reached there was learnt by heart.

    Attributes:
        names: the labels, sorted.
        parts: by name of the part.
        left_out: labels of which training has too few words.
        foreign: labels of test that training lacks, with how many words have them: nothing can say them, so that
            rankings count them as errors; they stand in no part.
    """

    names: tuple[str, ...]
    parts: dict[str, Words]
    left_out: tuple[str, ...] = ()
    foreign: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(
        cls, bank: Treebank, task: str, *, among: str = "", most: dict[str, int], fewest: int = 10, seed: int = 0
    ) -> Property:
        """Read a property from a treebank; documents never cross the parts.

        Args:
            bank: annotated sentences.
            task: a layer of annotation (``upos``, ``deprel`` ...) or a morphological feature such as ``Number``.
            among: a part of speech (UPOS), of whose words alone are taken.
            most: words of each part, at most; whole sentences at random.
            fewest: words of training that a label must have.
            seed: of what is drawn.

        Raises:
            NeuronError: nothing is labelled so, or fewer than two labels are left, or a part is empty.
        """
        banks = bank.split(seed=seed)
        rows = {part: _sampled(banks[part], task, among, most[part], seed) for part in PARTS}
        counts = Counter(label for _, _, _, label in rows["train"])
        if not counts:
            first = bank.sentences[0]
            features = {pair.partition("=")[0] for s in bank.sentences[:200] for cell in s.tags.get("feats", ())
                        for pair in cell.split("|")} - {""}  # fmt: skip
            known = [*(tag for tag in first.tags if tag not in ("feats", "misc", "lemma")), *sorted(features)]
            which = f" among the words with UPOS {among!r}" if among else ""
            raise NeuronError(
                f"no word of {bank.name}{which} is labelled for {task!r}: it is {did_you_mean(task, known)}"
            )
        names = tuple(sorted(label for label in counts if counts[label] >= fewest))
        if len(names) < 2:
            raise NeuronError(
                f"{len(names)} label of {task!r} has at least {fewest} words of training ({dict(counts)}); units can "
                "be ranked for two or more. Take more words, or lower fewest."
            )
        left_out = tuple(sorted(set(counts) - set(names)))
        shares = np.array([counts[name] for name in names], dtype=np.float64)
        types = sorted({form for part in PARTS for _, _, form, _ in rows[part]})
        drawn = np.random.default_rng(seed).choice(len(names), size=len(types), p=shares / shares.sum())
        random = dict(zip(types, drawn.tolist(), strict=True))
        index = {name: i for i, name in enumerate(names)}
        parts = {}
        for part in PARTS:
            kept = [row for row in rows[part] if row[3] in index]
            if not kept:
                raise NeuronError(f"the {part} part of {bank.name} has no word with a label that training has.")
            places = sorted({row[0] for row in kept})
            at = {place: i for i, place in enumerate(places)}
            parts[part] = Words(
                sentences=tuple(banks[part].sentences[place].words for place in places),
                sentence=np.array([at[row[0]] for row in kept], dtype=np.int64),
                word=np.array([row[1] for row in kept], dtype=np.int64),
                form=tuple(row[2] for row in kept),
                y=np.array([index[row[3]] for row in kept], dtype=np.int64),
                control=np.array([random[row[2]] for row in kept], dtype=np.int64),
            )
        foreign = Counter(label for _, _, _, label in rows["test"] if label not in counts)
        return cls(names, parts, left_out, dict(sorted(foreign.items())))

    @property
    def classes(self) -> int:
        """How many labels there are."""
        return len(self.names)

    @property
    def majority(self) -> float:
        """Accuracy on test of always saying the label that is most frequent in training."""
        own = (self.parts["test"].y == np.bincount(self.parts["train"].y).argmax()).mean()
        return float(own) * self.known_share

    @property
    def known_share(self) -> float:
        """Share of the test words whose label training has; what is right among them is so much less of all."""
        n = len(self.parts["test"])
        return n / (n + sum(self.foreign.values()))


def _sampled(bank: Treebank, task: str, among: str, most: int, seed: int) -> list[tuple[int, int, str, str]]:
    """(sentence, place, form, label) of words of random sentences until there are enough, in the treebank's order."""
    found: list[tuple[int, int, str, str]] = []
    for place in np.random.default_rng(seed).permutation(len(bank)).tolist():
        if len(found) >= most:
            break
        sentence = bank.sentences[place]
        tags = sentence.tags.get("upos", ())
        labels = _labels(sentence, task)
        found += [
            (place, j, word.lower(), labels[j])
            for j, word in enumerate(sentence.words)
            if j < len(labels) and labels[j] and (not among or (j < len(tags) and tags[j] == among))
        ]
    return sorted(found)


def _labels(sentence: Sentence, task: str) -> tuple[str, ...]:
    if task == "deprel":
        return tuple(label.partition(":")[0] for label in sentence.tags.get("deprel", ()))
    return sentence.tags[task] if task in sentence.tags else sentence.feature(task)


def tiny_treebank() -> Treebank:
    """Sixty sentences of a made-up grammar in ten documents, for the contract test and for trying things out."""
    rng = np.random.default_rng(0)
    words = {"DET": ["the", "a", "this", "my"], "NOUN": ["movie", "film", "people", "reply"],
             "VERB": ["love", "hate", "stop", "go"]}  # fmt: skip
    tags = ("DET", "NOUN", "VERB", "DET", "NOUN")
    made = [
        Sentence(
            words=tuple(str(rng.choice(words[tag])) for tag in tags), tags={"upos": tags}, id=f"s{i}",
            document=f"d{i // 6}",
        )
        for i in range(60)
    ]  # fmt: skip
    return Treebank(sentences=tuple(made), name="made-up treebank")
