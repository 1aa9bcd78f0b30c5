"""Explanations without a large model: words that drive a function, the themes they share, and texts about a theme."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.cluster import KMeans

from tracemend.arrays import Doubles, Indices
from tracemend.errors import ConceptError

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
# Words of a theme that name it; words that texts about it are made of, and fewest of them.
_NAMES = 5
_TESTED = 10
_FEWEST = 3
# Letters that two words share at their beginning when one is taken for a form of the other.
_STEM = 5
_TEMPLATES = (
    "It was all about {}.",
    "We talked about {} for a while.",
    "I have been thinking of {} lately.",
    "There is something about {} here.",
    "They wrote a page on {}.",
    "She told me about {}.",
    "This reminds me of {}.",
    "He asked about {} again.",
    "The word was {}.",
    "In the end it came down to {}.",
    "You can read about {} in it.",
    "What do you know about {}?",
    "The first thing we saw was {}.",
    "My friend mentioned {}.",
    "Everything here has to do with {}.",
    "Nobody said a word about {}.",
    "A story of {}.",
    "That is what they call {}.",
    "Some people care about {}.",
    "The next part is on {}.",
)


@dataclass(frozen=True, eq=False)
class Grams:
    """N-grams of a corpus.

    Attributes:
        texts: the n-grams, single words first.
        vocabulary: the single words among them.
        words: indices into the vocabulary of the words of each n-gram; -1 for a word that is not in it.
    """

    texts: tuple[str, ...]
    vocabulary: tuple[str, ...]
    words: tuple[tuple[int, ...], ...]


def grams(corpus: Sequence[str], *, longest: int, most: int, seed: int) -> Grams:
    """Single words by frequency, up to half of ``most``, and of longer n-grams a random rest.

    Args:
        corpus: texts; an n-gram never crosses punctuation.
        longest: words of an n-gram, at most.
        most: n-grams, at most.
        seed: of the rest.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    for text in corpus:
        for run in re.split(r"[^\w\s'’-]+", text.lower()):
            words = _WORD.findall(run)
            counts.update(tuple(words[i : i + n]) for n in range(1, longest + 1) for i in range(len(words) - n + 1))
    single = sorted((gram for gram in counts if len(gram) == 1), key=lambda gram: (-counts[gram], gram))
    single = single[: max(1, most // 2)]
    longer = sorted(gram for gram in counts if len(gram) > 1)
    drawn = np.random.default_rng(seed).permutation(len(longer))[: most - len(single)]
    chosen = [*single, *(longer[i] for i in sorted(drawn.tolist()))]
    place = {gram[0]: i for i, gram in enumerate(single)}
    return Grams(
        tuple(" ".join(gram) for gram in chosen),
        tuple(gram[0] for gram in single),
        tuple(tuple(place.get(word, -1) for word in gram) for gram in chosen),
    )


def held_out(vocabulary: Sequence[str], *, share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Which words are kept for the test: forms of one word stay together."""
    stems: dict[str, int] = {}
    of = np.array([stems.setdefault(word[:_STEM], len(stems)) for word in vocabulary], dtype=np.int64)
    kept: npt.NDArray[np.bool_] = np.random.default_rng((seed, 1)).random(len(stems))[of] < share
    return kept


@dataclass(frozen=True, eq=False)
class Theme:
    """One explanation.

    Attributes:
        name: its words.
        drivers: the driving words that it was made from, strongest first.
        choosing: words near it that had no part in making it; by texts of these the best theme is chosen.
        tested: others of these; by texts of these it is scored.
        beside: as many words far from it, for the choice.
        others: and for the score.
    """

    name: str
    drivers: tuple[str, ...]
    choosing: tuple[str, ...]
    tested: tuple[str, ...]
    beside: tuple[str, ...]
    others: tuple[str, ...]


def drivers(made: Grams, z: Doubles, hidden: npt.NDArray[np.bool_], top: int) -> tuple[Indices, Doubles]:
    """The words that raise a function most, strongest first, from n-grams without a hidden word.

    The lift of a word is the mean of z over the n-grams that hold it, shrunk as if one more had been at the mean.

    Returns:
        Indices into the vocabulary, at most ``top``, and their lifts.
    """
    total, count = np.zeros(len(made.vocabulary)), np.zeros(len(made.vocabulary))
    for words, value in zip(made.words, z.tolist(), strict=True):
        known = [word for word in words if word >= 0]
        if not any(hidden[word] for word in known):
            total[known] += value
            count[known] += 1
    lift = total / (count + 1)
    order = np.argsort(-lift, kind="stable")
    chosen = order[: min(top, int((lift > 0).sum()))]
    return chosen, lift[chosen]


def themes(
    made: Grams, found: Indices, lift: Doubles, space: Doubles, hidden: npt.NDArray[np.bool_], n: int, seed: int
) -> list[Theme]:
    """Themes of the driving words: all of them, and what they fall into.

    A theme is a point in the space of an encoder: the mean of its drivers' vectors, weighted by lift. Its name is the
    nearest words of the vocabulary, and its test the nearest words that were hidden.

    Args:
        made: the n-grams.
        found: the driving words.
        lift: how strongly.
        space: vectors of the vocabulary [v, d], of length one about their mean.
        hidden: the words that were kept for the test.
        n: themes, at most.
        seed: of the clusters and of the others.

    Raises:
        ConceptError: too few words were hidden for a test.
    """
    aside = np.flatnonzero(hidden)
    size = min(_TESTED, len(aside) // 4)
    if size < _FEWEST:
        raise ConceptError(
            f"{len(aside)} words of the corpus are kept for the test; at least {4 * _FEWEST} are needed. Give more "
            "texts."
        )
    groups = [np.arange(len(found))]
    parts = min(n - 1, len(found) // 4)
    if parts > 1:
        labels = KMeans(parts, n_init=5, random_state=seed).fit(space[found], sample_weight=lift).labels_
        groups += sorted((np.flatnonzero(labels == k) for k in range(parts)), key=lambda of: -float(lift[of].sum()))
    result = []
    for k, group in enumerate(groups):
        centre = (space[found[group]] * lift[group, None]).sum(0)
        near = space @ (centre / max(float(np.linalg.norm(centre)), 1e-12))
        name = [made.vocabulary[i] for i in _apart(made.vocabulary, np.argsort(-near, kind="stable"), _NAMES)]
        ranked = aside[np.argsort(-near[aside], kind="stable")]
        far = ranked[len(ranked) // 2 :]
        others = np.random.default_rng((seed, 2, k)).choice(far, 2 * size, replace=False)
        result.append(
            Theme(
                ", ".join(name),
                tuple(made.vocabulary[i] for i in found[group]),
                tuple(made.vocabulary[i] for i in ranked[0 : 2 * size : 2]),
                tuple(made.vocabulary[i] for i in ranked[1 : 2 * size : 2]),
                tuple(made.vocabulary[i] for i in others[:size]),
                tuple(made.vocabulary[i] for i in others[size:]),
            )
        )
    return result


def sentences(words: Sequence[str], n: int) -> list[str]:
    """``n`` sentences that hold one of the words each, over and over the same frames."""
    return [_TEMPLATES[i % len(_TEMPLATES)].format(words[i % len(words)]) for i in range(n)]


def _apart(vocabulary: Sequence[str], order: Indices, n: int) -> list[int]:
    """The first n of an order, without forms of one word."""
    found: list[int] = []
    stems: set[str] = set()
    for i in order.tolist():
        if vocabulary[i][:_STEM] not in stems:
            stems.add(vocabulary[i][:_STEM])
            found.append(i)
        if len(found) == n:
            break
    return found
