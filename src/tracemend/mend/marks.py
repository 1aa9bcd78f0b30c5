"""What people say of single words: which should not matter to a classifier, and which should.

Marks come from lists of words, from spans of characters in single texts, or from the word decisions of a ledger; all
end as one number a word of each text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from tracemend.data.decision import Decision
from tracemend.data.words import words_of
from tracemend.errors import DataError, TuningError
from tracemend.saliency import Example
from tracemend.tuning.adapted import Pair

# What each word of a text should do: 0 not matter, 1 matter, NaN nothing is said.
Marks = npt.NDArray[np.float64]
# Characters [start, end) of a text that a person takes to be the reason of its label.
Spans = Sequence[tuple[int, int]]

# A control word is as frequent as the one it stands for within this factor.
_ALIKE = 2.0


def marks_of_words(example: Example, *, remove: Iterable[str] = (), add: Iterable[str] = ()) -> Marks:
    """Marks [words] of one text from words that should not matter, or should, wherever they stand (case is ignored).

    Example:
        >>> marks_of_words(example, remove=["honestly"])      # of the text "Honestly good"
        array([ 0., nan])
    """
    targets = dict.fromkeys((word.casefold() for word in remove), 0.0)
    targets |= dict.fromkeys((word.casefold() for word in add), 1.0)
    return np.array([targets.get(example.text_of(word).casefold(), np.nan) for word in example.words])


def marks_of_spans(example: Example, spans: Spans, *, part: int = 0) -> Marks:
    """Marks [words] of one text from a person's rationale: words inside the spans should matter, the others not.

    A rationale of no span, or of every word, tells nothing apart: all its marks are NaN.

    Args:
        example: the text with its words.
        spans: characters ``[start, end)`` of the text; a word counts as inside where most of it is.
        part: 0 where they are of the text, 1 of the reply; words of the other part have no mark.

    Raises:
        TuningError: a span reaches beyond the text.
    """
    text = example.pair[part] or ""
    inside = np.zeros(len(text), dtype=bool)
    for start, end in spans:
        if not 0 <= start < end <= len(text):
            raise TuningError(
                f"the span {start}-{end} is not of the text, which has {len(text)} characters ({text[:40]!r}); give "
                "offsets of characters, the end after the last."
            )
        inside[start:end] = True
    found = np.array([np.nan if w.part != part else float(inside[w.start : w.end].mean() > 0.5) for w in example.words])
    told = found[~np.isnan(found)]
    return found if len(np.unique(told)) == 2 else np.full(len(found), np.nan)


def marks_of_decisions(example: Example, uid: str, decisions: Iterable[Decision]) -> Marks:
    """Marks [words] of one text from word decisions: those of scope ``all``, and over them those of this example.

    Args:
        example: the text with its words.
        uid: of the text.
        decisions: of kind ``word`` that stand, with ``evidence["matters"]``; a later one of the same scope counts.
    """
    rows = [row for row in decisions if row.kind == "word" and (row.scope == "all" or row.uid == uid)]
    targets: dict[str, float] = {}
    for row in sorted(rows, key=lambda row: (row.scope != "all", row.version)):
        targets[str(row.new).casefold()] = float(bool(row.evidence.get("matters")))
    return np.array([targets.get(example.text_of(word).casefold(), np.nan) for word in example.words])


def check_words(remove: Sequence[str], add: Sequence[str]) -> None:
    """Refuse what cannot be found in a text.

    Raises:
        TuningError: an entry is not one word, or one is both to be removed and added.
    """
    for word in (*remove, *add):
        if len(words_of(word)) != 1 or word != word.strip():
            raise TuningError(
                f"{word!r} is {len(words_of(word))} words; marks are of single words as they stand in a text "
                "(mark each word of a phrase by itself)."
            )
    both = {word.casefold() for word in remove} & {word.casefold() for word in add}
    if both:
        raise TuningError(f"{', '.join(sorted(both))}: marked as not to matter and as to matter; choose one.")


def of_tokens(i: int, example: Example, marks: Marks) -> Marks:
    """The mark of each token [tokens] of text i: that of its word.

    Raises:
        TuningError: marks and words are not as many.
    """
    if len(marks) != len(example.words):
        raise TuningError(
            f"text {i} has {len(example.words)} words and {len(marks)} marks; give one mark a word, NaN where nothing "
            "is said (marks_of_words and marks_of_spans make them)."
        )
    return np.where(example.owner >= 0, np.append(marks, np.nan)[example.owner], np.nan)


def other_words(pairs: Sequence[Pair], words: Sequence[str], *, fewest: int, seed: int) -> dict[str, str]:
    """For each word another one, drawn among those in about as many texts: what a control marks in its place.

    Args:
        pairs: the training texts.
        words: the marked words; none of them is drawn.
        fewest: texts that a drawn word stands in at least.
        seed: of the draw.

    Raises:
        DataError: there is no other word in as many texts.
    """
    held = frequencies(pairs)
    rng = np.random.default_rng(seed)
    taken = {word.casefold() for word in words}
    drawn = {}
    for word in words:
        own = max(held.get(word.casefold(), 0), fewest)
        free = sorted(
            (w for w in held if w not in taken and w.isalpha() and held[w] >= fewest),
            key=lambda w: (abs(held[w] - own), w),
        )
        alike = [w for w in free if own / _ALIKE <= held[w] <= own * _ALIKE] or free[:10]
        if not alike:
            raise DataError(
                f"no other word stands in {fewest} training texts, so there is no control for {word!r}; give more "
                "training texts."
            )
        drawn[word] = str(rng.choice(alike))
        taken.add(drawn[word])
    return drawn


def elsewhere(marks: Marks, rng: np.random.Generator) -> Marks:
    """As many other words of the text to matter, drawn: what a control marks in place of a rationale.

    Words of the rationale are drawn only where the text has too few others.

    Args:
        marks: 1 inside the rationale, 0 outside, NaN where nothing is said [words].
        rng: of the draw.

    Example:
        >>> elsewhere(np.array([1.0, 0.0, np.nan, 0.0, 1.0]), np.random.default_rng(0))
        array([ 0.,  1., nan,  1.,  0.])
    """
    found = np.where(np.isnan(marks), np.nan, 0.0)
    drawn = rng.permutation(np.flatnonzero(~np.isnan(marks)))
    others_first = drawn[np.argsort(marks[drawn], kind="stable")]
    found[others_first[: int(np.nansum(marks))]] = 1.0
    return found


def frequencies(pairs: Sequence[Pair]) -> dict[str, int]:
    """In how many texts (or their replies) each word stands, without regard to case."""
    held: dict[str, int] = {}
    for pair in pairs:
        strings = {text[s:e].casefold() for text in pair if text for s, e in words_of(text)}
        for word in strings:
            held[word] = held.get(word, 0) + 1
    return held


def without(pair: Pair, words: Iterable[str]) -> Pair:
    """The pair without these words; a part that holds nothing else stays as it is."""
    marked = {word.casefold() for word in words}

    def cut(text: str) -> str:
        kept, at = [], 0
        for start, end in words_of(text):
            if text[start:end].casefold() in marked:
                kept.append(text[at:start])
                at = end
        left = " ".join("".join([*kept, text[at:]]).split())
        return left if at and left else text

    return cut(pair[0]), None if pair[1] is None else cut(pair[1])


def put_in(pair: Pair, word: str, rng: np.random.Generator) -> Pair:
    """The pair with this word before a random word of its text or behind the last, nothing else changed."""
    text = pair[0]
    starts = [found.start() for found in re.finditer(r"\S+", text)]
    at = int(rng.integers(0, len(starts) + 1))
    if at == len(starts):
        return (f"{text} {word}" if starts else word), pair[1]
    return f"{text[: starts[at]]}{word} {text[starts[at] :]}", pair[1]


def goes_with(pairs: Sequence[Pair], labels: Sequence[str], words: Iterable[str]) -> Mapping[str, str | None]:
    """The label that each word goes with in these texts: where it is most frequent.

    None where no text holds it, or where it is as frequent in another label, so that it goes with neither.
    """
    names = sorted(set(labels))
    of = {name: [pair for pair, label in zip(pairs, labels, strict=True) if label == name] for name in names}
    held = {name: frequencies(some) for name, some in of.items()}
    found: dict[str, str | None] = {}
    for word in words:
        shares = {name: Fraction(held[name].get(word.casefold(), 0), len(of[name])) for name in names}
        highest = max(shares.values())
        best = [name for name in names if shares[name] == highest]
        found[word] = best[0] if highest > 0 and len(best) == 1 else None
    return found
