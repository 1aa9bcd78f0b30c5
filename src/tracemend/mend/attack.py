"""Copies of texts with words replaced by near ones: at random, and so that a classifier errs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tracemend.mend.synonyms import Synonyms, number_of, places_of, replaced
from tracemend.progress import Progress
from tracemend.tuning import TextClassifier
from tracemend.tuning.adapted import Pair


@dataclass(frozen=True)
class Copy:
    """A text with some words replaced, as many words as before.

    Attributes:
        pair: the copy.
        places: of the replaced words, see :func:`tracemend.mend.synonyms.places_of`.
    """

    pair: Pair
    places: tuple[int, ...]


def swapped(pair: Pair, synonyms: Synonyms, share: float, rng: np.random.Generator) -> Copy | None:
    """A copy with this share of its words, drawn at random, replaced by drawn substitutes; None where none has any."""
    places = synonyms.places(pair)
    if not places:
        return None
    n = number_of(places, len(places_of(pair)), share)
    chosen = sorted(int(k) for k in rng.permutation(places)[:n])
    return Copy(replaced(pair, {k: str(rng.choice(synonyms.at(pair, k))) for k in chosen}), tuple(chosen))


def at_random(pair: Pair, copy: Copy, synonyms: Synonyms, rng: np.random.Generator) -> Copy:
    """The control of a copy: any other words at the same places."""
    return Copy(replaced(pair, {k: str(rng.choice(synonyms.known)) for k in copy.places}), copy.places)


def attack(
    classifier: TextClassifier,
    pairs: Sequence[Pair],
    y: npt.NDArray[np.int64],
    synonyms: Synonyms,
    *,
    share: float,
    progress: Progress = Progress(),
) -> list[Copy | None]:
    r"""For each text a copy that the classifier takes for another label, by a greedy search (after Jin et al. 2020).

    Words with substitutes are taken in the order of how far :math:`p_y` falls when the word is left out. Each in its
    turn is replaced by the substitute that lowers :math:`p_y` most, if any lowers it, until the predicted label is
    another or the share of words is used up.

    Args:
        classifier: that is attacked; it is only asked.
        pairs: texts that the classifier classifies as ``y``.
        y: their classes [n].
        synonyms: what may stand for what.
        share: of a text's words that may be replaced.

    Returns:
        A copy a text; None where the search ended without success.
    """
    orders = _orders(classifier, pairs, y, synonyms, progress)
    allowed = [number_of(o, len(places_of(pair)), share) for o, pair in zip(orders, pairs, strict=True)]
    best = classifier.probabilities(pairs, progress=progress)[np.arange(len(pairs)), y]
    put: list[dict[int, str]] = [{} for _ in pairs]
    found: list[Copy | None] = [None] * len(pairs)
    for turn in range(max(map(len, orders), default=0)):
        live = [i for i in range(len(pairs)) if found[i] is None and turn < len(orders[i]) and len(put[i]) < allowed[i]]
        asked = [(i, word) for i in live for word in synonyms.at(pairs[i], orders[i][turn])]
        if not asked:
            continue
        tried = [replaced(pairs[i], put[i] | {orders[i][turn]: word}) for i, word in asked]
        p = classifier.probabilities(tried, progress=progress, task="attack")
        for (i, word), copy, row in zip(asked, tried, p, strict=True):
            if row[y[i]] < best[i]:
                best[i] = row[y[i]]
                put[i] = put[i] | {orders[i][turn]: word}
                found[i] = Copy(copy, tuple(sorted(put[i]))) if int(row.argmax()) != y[i] else found[i]
    return found


def _orders(
    classifier: TextClassifier,
    pairs: Sequence[Pair],
    y: npt.NDArray[np.int64],
    synonyms: Synonyms,
    progress: Progress,
) -> list[list[int]]:
    """The places with substitutes of each text, those first without which its label is least probable."""
    places = [synonyms.places(pair) for pair in pairs]
    asked = [(i, k) for i, some in enumerate(places) for k in some]
    if not asked:
        return [[] for _ in pairs]
    # A single word left out may leave nothing, which no classifier reads.
    without = [_or(replaced(pairs[i], {k: ""}), pairs[i]) for i, k in asked]
    p = classifier.probabilities(without, progress=progress, task="attack")
    left: list[dict[int, float]] = [{} for _ in pairs]
    for (i, k), row in zip(asked, p, strict=True):
        left[i][k] = float(row[y[i]])
    return [sorted(some, key=lambda k: (left[i][k], k)) for i, some in enumerate(places)]


def _or(pair: Pair, other: Pair) -> Pair:
    """The pair, or where a part of it is empty the other."""
    return pair if all(text is None or text.strip() for text in pair) else other
