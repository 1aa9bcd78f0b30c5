"""Words that may stand for others: near each other in the model's own input embeddings, and of no other label."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tracemend.data import Labelled
from tracemend.data.words import words_of
from tracemend.errors import DataError, TuningError
from tracemend.models import LanguageModel
from tracemend.models.tokens import word_tokens
from tracemend.tuning.adapted import Pair

# Words of a pair as (part, start, end), see :func:`places_of`.
Place = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Synonyms:
    """For each word those that may stand for it, the nearest first; words without any are left out.

    Attributes:
        of: from a word, without regard to case, to its substitutes.
        known: all words that were compared.
    """

    of: Mapping[str, tuple[str, ...]]
    known: tuple[str, ...]

    @classmethod
    def make(
        cls,
        model: LanguageModel,
        data: Labelled,
        *,
        similarity: float = 0.4,
        apart: float = 0.15,
        fewest: int = 2,
        most: int = 8,
    ) -> Synonyms:
        r"""Substitutes among the words of training texts, without a list of synonyms from elsewhere.

        A word's vector is the mean of its tokens' rows in the embedding table. A word w' may stand for w where the
        cosine of their vectors is at least ``similarity``, and where the training texts do not say that the two go with
        different labels, since antonyms lie near each other, too:

        .. math:: \tfrac{1}{2} \sum_y |p(y \mid w) - p(y \mid w')| \le apart, \quad
            p(y \mid w) = \frac{n(w, y) + 4 p(y)}{n(w) + 4}

        with n(w, y) the number of training texts of label y that hold w. Function words of English, numbers and words
        of other signs than letters are neither replaced nor put in. Grammar is not looked at.

        Args:
            model: whose embeddings are taken.
            data: the training texts.
            similarity: the least cosine.
            apart: the largest distance of two words' labels.
            fewest: training texts that a word stands in at least.
            most: substitutes of a word at most.

        Raises:
            TuningError: a choice out of range.
            DataError: no word has a substitute.

        Example:
            >>> Synonyms.make(load("minilm"), splits.train).of["movie"]
            ('movies', 'film', 'films', 'cinema')
        """
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        if not -1 <= similarity < 1 or not 0 <= apart <= 1:
            raise TuningError(
                f"similarity is {similarity} and apart {apart}; a cosine from -1 to below 1, and a distance from 0 to "
                "1, were expected."
            )
        if fewest < 1 or most < 1:
            raise TuningError(f"fewest is {fewest} and most {most}; both must be at least 1.")
        counts = _counts(data)
        words = [
            word
            for word, held in counts.items()
            if held.sum() >= fewest and word.isalpha() and len(word) > 1 and word not in ENGLISH_STOP_WORDS
        ]
        found: dict[str, tuple[str, ...]] = {}
        if len(words) > 1:
            vectors = _vectors(model, words)
            base = np.bincount(data.y, minlength=len(data.labels)) / len(data)
            held = np.array([counts[word] for word in words])
            shares = (held + 4 * base) / (held.sum(axis=1, keepdims=True) + 4)
            for i, word in enumerate(words):
                near = vectors @ vectors[i]
                good = (near >= similarity) & (np.abs(shares - shares[i]).sum(axis=1) / 2 <= apart)
                good[i] = False
                ranked = np.flatnonzero(good)[np.argsort(-near[good], kind="stable")][:most]
                if len(ranked):
                    found[word] = tuple(words[k] for k in ranked)
        if not found:
            raise DataError(
                f"none of {len(words)} words of the training texts has a substitute at a similarity of {similarity}; "
                "lower it, or give more texts."
            )
        return cls(found, tuple(words))

    def places(self, pair: Pair) -> list[int]:
        """The words of a pair, by their place in :func:`places_of`, that have a substitute."""
        return [k for k, place in enumerate(places_of(pair)) if text_at(pair, place).casefold() in self.of]

    def at(self, pair: Pair, place: int) -> tuple[str, ...]:
        """The substitutes of the word at this place, written as it is."""
        word = text_at(pair, places_of(pair)[place])
        return tuple(_as(word, other) for other in self.of.get(word.casefold(), ()))


def places_of(pair: Pair) -> list[Place]:
    """The words of text and reply, in reading order."""
    return [(part, *span) for part, text in enumerate(pair) if text is not None for span in words_of(text)]


def text_at(pair: Pair, place: Place) -> str:
    """The word at a place."""
    part, start, end = place
    return str(pair[part])[start:end]


def replaced(pair: Pair, words: Mapping[int, str]) -> Pair:
    """The pair with other words at these places of :func:`places_of`.

    Example:
        >>> replaced(("a good film", None), {1: "fine"})
        ('a fine film', None)
    """
    texts = list(pair)
    places = places_of(pair)
    for k in sorted(words, reverse=True):  # from the end, so that what is before stays where it is
        part, start, end = places[k]
        texts[part] = str(texts[part])[:start] + words[k] + str(texts[part])[end:]
    return str(texts[0]), texts[1]


def number_of(places: Sequence[int], words: int, share: float) -> int:
    """How many of these places may change: this share of a pair's words, at least one where there is one."""
    return min(len(places), max(1, math.floor(share * words)))


def _counts(data: Labelled) -> dict[str, npt.NDArray[np.int64]]:
    """In how many texts of each label each word stands."""
    counts: dict[str, npt.NDArray[np.int64]] = {}
    for pair, y in zip(data.pairs, data.y, strict=True):
        for word in sorted({text_at(pair, place).casefold() for place in places_of(pair)}):
            counts.setdefault(word, np.zeros(len(data.labels), dtype=np.int64))[y] += 1
    return counts


def _vectors(model: LanguageModel, words: Sequence[str]) -> npt.NDArray[np.float64]:
    """Unit vectors [words, D]; tokens as they are within a text, behind a space."""
    table = model.network.get_input_embeddings().weight.detach()
    rows = []
    for word in words:
        ids = word_tokens(model, word)
        rows.append(table[torch.tensor(ids, device=table.device)].double().mean(0).cpu().numpy())
    found = np.array(rows)
    unit: npt.NDArray[np.float64] = found / np.linalg.norm(found, axis=1, keepdims=True).clip(min=1e-12)
    return unit


def _as(word: str, other: str) -> str:
    """A word with the capitals of another."""
    if word.isupper() and len(word) > 1:
        return other.upper()
    return other.capitalize() if word[:1].isupper() else other
