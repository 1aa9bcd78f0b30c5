"""The words of a text, and which of a model's tokens belong to each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tracemend.data.words import words_of
from tracemend.errors import DataError
from tracemend.tuning import TextClassifier
from tracemend.tuning.adapted import Pair
from tracemend.tuning.verbaliser import Place

PARTS = ("text", "reply")


@dataclass(frozen=True)
class Word:
    """A word of the user's text.

    Attributes:
        part: 0 in the text, 1 in the reply.
        start: its first character.
        end: the character after its last.
    """

    part: int
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Example:
    """A text as the model reads it, with its words.

    Attributes:
        pair: text and reply.
        ids: token ids, without virtual tokens.
        words: in reading order; also those that the model does not read, since the text was cut or its tokenizer
            drops them.
        owner: the word of each token, -1 for a token of none [tokens].
        of_text: whether a token is of the text or the reply, not of a prompt around them [tokens].
        cut: whether the text was cut to what the model takes.
    """

    pair: Pair
    ids: list[int]
    words: tuple[Word, ...]
    owner: npt.NDArray[np.int64]
    of_text: npt.NDArray[np.bool_]
    cut: bool

    @property
    def read(self) -> npt.NDArray[np.bool_]:
        """Whether the model reads each word [words]."""
        found = np.zeros(len(self.words), dtype=bool)
        found[self.owner[self.owner >= 0]] = True
        return found

    def of_words(self, tokens: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The sum over each word's tokens [words], NaN for a word that the model does not read."""
        inside = self.owner >= 0
        found = np.bincount(self.owner[inside], weights=tokens[inside], minlength=len(self.words))
        return np.where(self.read, found, np.nan)

    def text_of(self, word: Word) -> str:
        """The word as the user wrote it."""
        return str(self.pair[word.part])[word.start : word.end]


def encoded(classifier: TextClassifier, pairs: Sequence[Pair]) -> list[Example]:
    """The texts as the classifier reads them, with their words.

    Words that share a token are one: the model cannot tell them apart.

    Raises:
        DataError: a text is empty, or the model reads no token of it.
    """
    for i, (text, reply) in enumerate(pairs):
        if not text.strip() or (reply is not None and not reply.strip()):
            raise DataError(f"text {i} is empty, so it has no words; leave it out, or give its text.")
    found = []
    for i, pair in enumerate(pairs):
        (ids,), cut = classifier.encode([pair])
        example = _example(pair, ids, classifier.places([pair])[0], cut=cut > 0)
        if not example.read.any():
            raise DataError(
                f"the model's tokenizer reads no word of text {i} ({pair[0][:40]!r}), so nothing can be said about "
                "its words; leave it out."
            )
        found.append(example)
    return found


def _example(pair: Pair, ids: list[int], places: list[Place | None], *, cut: bool) -> Example:
    words = [Word(part, *span) for part, text in enumerate(pair) if text is not None for span in words_of(text)]
    # Which word each character of each part is of.
    of_sign = [np.full(len(text or ""), -1, dtype=np.int64) for text in pair]
    for i, word in enumerate(words):
        of_sign[word.part][word.start : word.end] = i
    touched = [_touched(pair, of_sign, place) for place in places]
    # From each word to the first of those it shares a token with.
    first = np.arange(len(words))
    for some in touched:
        if len(some) > 1:
            first[some] = first[some].min()
    for i in range(len(words)):
        first[i] = first[first[i]]
    kept, merged = np.unique(first, return_inverse=True)
    together = [[words[i] for i in np.flatnonzero(first == k)] for k in kept]
    owner = np.array([merged[some[0]] if len(some) else -1 for some in touched], dtype=np.int64)
    return Example(
        pair,
        ids,
        tuple(Word(some[0].part, some[0].start, some[-1].end) for some in together),
        owner,
        np.array([place is not None for place in places]),
        cut,
    )


def _touched(pair: Pair, of_sign: list[npt.NDArray[np.int64]], place: Place | None) -> npt.NDArray[np.int64]:
    """The words that a token has characters of; a lone space that begins a word (``▁``, ``Ġ``) is of that word."""
    if place is None:
        return np.empty(0, dtype=np.int64)
    part, start, end = place
    if not str(pair[part])[start:end].strip(" "):
        start, end = end, end + 1
    some = np.unique(of_sign[part][start:end])
    return some[some >= 0]
