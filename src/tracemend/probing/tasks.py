"""What can be asked of a word or a sentence: tasks made of annotated sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tracemend.arrays import Indices
from tracemend.data import Labelled, Sentence, Treebank
from tracemend.errors import ProbeError, did_you_mean
from tracemend.models.representations import Unit

# Words whose identity a neighbour is asked for.
_NEIGHBOURS = 50
# Upper ends of the first five bins of sentence length.
_LENGTHS = (5, 8, 12, 16, 25)
_FINITE = ("aux", "aux:pass", "cop")


@dataclass(frozen=True, eq=False)
class Items:
    """Labelled words or sentences.

    Attributes:
        words: the sentences as they go into the model.
        sentence: of each item [n].
        word: its place in the sentence [n]; 0 where the item is the sentence.
        label: [n].
        form: the word, or the text, as it is written [n], of a pair of spans the first one's: the type that a
            control task labels.
        unit: word or sentence.
        first: its span as begin and end in the sentence [n, 2], where items are spans.
        second: its second span [n, 2], where they are pairs.
        group: what intervals resample it with [n]; its sentence where none is given.
    """

    words: tuple[tuple[str, ...], ...]
    sentence: Indices
    word: Indices
    label: tuple[str, ...]
    form: tuple[str, ...]
    unit: Unit
    first: Indices | None = None
    second: Indices | None = None
    group: Indices | None = None

    def __len__(self) -> int:
        return len(self.label)

    def take(self, where: npt.NDArray[np.bool_]) -> Items:
        """The items where it is true; the sentences stay."""
        at = np.flatnonzero(where)
        label, form = (tuple(column[i] for i in at) for column in (self.label, self.form))
        first, second, group = (None if of is None else of[at] for of in (self.first, self.second, self.group))
        return Items(self.words, self.sentence[at], self.word[at], label, form, self.unit, first, second, group)

    def sample(self, most: int, *, seed: int = 0) -> Items:
        """Items of random sentences until there are ``most``, or all; the other sentences are left out."""
        counts = np.bincount(self.sentence, minlength=len(self.words))
        order = np.random.default_rng(seed).permutation(len(self.words))
        order = order[counts[order] > 0]
        kept = np.sort(order[: int(np.searchsorted(np.cumsum(counts[order]), most)) + 1])
        found = self.take(np.isin(self.sentence, kept))
        place = np.full(len(self.words), -1, dtype=np.int64)
        place[kept] = np.arange(len(kept))
        return replace(found, words=tuple(self.words[i] for i in kept), sentence=place[found.sentence])


def items(bank: Treebank, task: str, *, known: Sequence[str] = (), seed: int = 0) -> Items:
    """The items of a task.

    Tasks of words: a layer of annotation (``upos``, ``xpos``, ``deprel`` without its subtypes, ``phrase`` ...); a
    morphological feature such as ``Number`` or ``Tense``, over the words that have it; ``previous-word`` and
    ``next-word``, which of the 50 most frequent words stands beside (Kunz and Kuhlmann 2020).

    Tasks of sentences (Conneau et al. 2018, made from trees): ``length`` (6 bins), ``depth`` (of the tree), ``tense``
    (of the finite root or its auxiliary), ``voice`` (passive where a subject or auxiliary is), ``subject-number``,
    ``object-number``, ``top-constituents`` (children of the first clause, where there are constituent trees),
    ``bigram-shift`` (two neighbours were swapped in every second sentence).

    Args:
        bank: one part.
        task: see above.
        known: labels of the training part, where they are those of a vocabulary (``previous-word``, ``next-word``).
        seed: of what is drawn.

    Raises:
        ProbeError: no such task, or nothing in the treebank is labelled for it.
    """
    if task in ("previous-word", "next-word"):
        found = _neighbours(bank, -1 if task == "previous-word" else 1, known)
    elif task == "bigram-shift":
        found = _bigram_shift(bank, seed)
    elif task in _SENTENCE_TASKS:
        labels = [_SENTENCE_TASKS[task](sentence) for sentence in bank.sentences]
        found = _of_sentences(bank.words, labels)
    else:
        found = _of_words(bank, [_word_labels(sentence, task) for sentence in bank.sentences])
    if not len(found):
        raise ProbeError(f"nothing in {bank.name} is labelled for the task {task!r}: {_tasks(bank, task)}")
    return found


def joined(labelled: Labelled) -> list[str]:
    """One text of each example: the reply, where there is one, behind its text.

    Example:
        >>> joined(Labelled.make(["who goes", "stop"], ["0", "1"], replies=["you", None]))
        ['who goes you', 'stop']
    """
    return [text if reply is None else f"{text} {reply}" for text, reply in labelled.pairs]


def frequent_words(bank: Treebank, most: int = _NEIGHBOURS) -> list[str]:
    """The most frequent words, in lower case."""
    counts = Counter(word.lower() for sentence in bank.sentences for word in sentence.words)
    return [word for word, _ in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:most]]


def _tasks(bank: Treebank, task: str) -> str:
    first = bank.sentences[0]
    features = sorted(
        {pair.partition("=")[0] for cell in first.tags.get("feats", ()) for pair in cell.split("|")} - {""}
    )
    layers = [tag for tag in first.tags if tag not in ("feats", "misc", "lemma")]
    known = [*layers, *features, "previous-word", "next-word", *_SENTENCE_TASKS, "bigram-shift"]
    if task in known:
        return "there is such a task, and nothing here has what it asks for; give a treebank that is annotated so."
    return f"it is {did_you_mean(task, known)}"


def _word_labels(sentence: Sentence, task: str) -> Sequence[str]:
    if task == "deprel":
        return [label.partition(":")[0] for label in sentence.tags.get("deprel", ())]
    if task in sentence.tags:
        return sentence.tags[task]
    return sentence.feature(task)


def _of_words(bank: Treebank, labels: Sequence[Sequence[str]]) -> Items:
    rows = [
        (i, j, label, bank.sentences[i].words[j].lower())
        for i, of_sentence in enumerate(labels)
        for j, label in enumerate(of_sentence)
        if label
    ]
    sentence, word, label, form = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Items(tuple(bank.words), np.array(sentence, int), np.array(word, int), label, form, "word")


def _of_sentences(words: Sequence[tuple[str, ...]], labels: Sequence[str]) -> Items:
    where = [i for i, label in enumerate(labels) if label]
    form = tuple(" ".join(words[i]) for i in where)
    zeros = np.zeros(len(where), dtype=np.int64)
    return Items(tuple(words), np.array(where, int), zeros, tuple(labels[i] for i in where), form, "sentence")


def _neighbours(bank: Treebank, offset: int, known: Sequence[str]) -> Items:
    names = set(known or frequent_words(bank))
    labels = []
    for sentence in bank.sentences:
        lower = [word.lower() for word in sentence.words]
        beside = [lower[i + offset] if 0 <= i + offset < len(lower) else "" for i in range(len(lower))]
        labels.append([word if word in names else "" for word in beside])
    return _of_words(bank, labels)


def _bigram_shift(bank: Treebank, seed: int) -> Items:
    rng = np.random.default_rng(seed)
    words, labels = [], []
    for sentence in bank.sentences:
        inner = [i for i in range(len(sentence) - 1) if sentence.words[i].lower() != sentence.words[i + 1].lower()]
        swap = bool(rng.random() < 0.5) and len(inner) > 0
        made = list(sentence.words)
        if swap:
            at = int(rng.choice(inner))
            made[at], made[at + 1] = made[at + 1], made[at]
        words.append(tuple(made))
        labels.append("" if not inner else "shifted" if swap else "kept")
    return _of_sentences(words, labels)


def _length(sentence: Sentence) -> str:
    return str(sum(len(sentence) > end for end in _LENGTHS))


def _depth(sentence: Sentence) -> str:
    if sentence.heads is None:
        return ""
    return str(min(max(depths(sentence.heads)), 8))


def depths(heads: Sequence[int]) -> list[int]:
    """Steps from each word to the root of its tree, 0 for the root."""
    found = []
    for place in range(len(heads)):
        steps = 0
        while heads[place] != -1:
            place, steps = heads[place], steps + 1
        found.append(steps)
    return found


def _root_and_children(sentence: Sentence) -> tuple[int, dict[str, int]]:
    if sentence.heads is None or "deprel" not in sentence.tags:
        return -1, {}
    root = sentence.heads.index(-1)
    children = {sentence.tags["deprel"][i]: i for i, head in reversed(list(enumerate(sentence.heads))) if head == root}
    return root, children


def _tense(sentence: Sentence) -> str:
    root, children = _root_and_children(sentence)
    if root < 0:
        return ""
    tenses, forms = sentence.feature("Tense"), sentence.feature("VerbForm")
    places = [root, *(children[name] for name in _FINITE if name in children)]
    return next((tenses[i] for i in places if forms[i] == "Fin" and tenses[i]), "")


def _voice(sentence: Sentence) -> str:
    root, children = _root_and_children(sentence)
    if root < 0 or sentence.tags["upos"][root] != "VERB":
        return ""
    return "passive" if {"nsubj:pass", "aux:pass", "csubj:pass"} & set(children) else "active"


def _number_of(relation: str) -> Callable[[Sentence], str]:
    def number(sentence: Sentence) -> str:
        _, children = _root_and_children(sentence)
        return sentence.feature("Number")[children[relation]] if relation in children else ""

    return number


_SENTENCE_TASKS: Mapping[str, Callable[[Sentence], str]] = {
    "length": _length,
    "depth": _depth,
    "tense": _tense,
    "voice": _voice,
    "subject-number": _number_of("nsubj"),
    "object-number": _number_of("obj"),
    "top-constituents": lambda sentence: sentence.tags["top"][0] if "top" in sentence.tags else "",
}
