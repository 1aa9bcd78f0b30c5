"""Span tasks made of facts, treebanks and rationales (van Aken et al. 2019): relations, questions, evidence."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from tracemend.data.facts import Fact, Facts
from tracemend.data.spans import Span, SpanExamples, gum_mentions, spans_of
from tracemend.data.treebanks import PARTS, Sentence, Treebank, text_of
from tracemend.errors import DataError

T = TypeVar("T")

# A relation needs a pattern for each part.
_FEWEST_PATTERNS = len(PARTS)
_PIECES = re.compile(r"\[[XY]\]|\w+(?:['’]\w+)?|[^\w\s]")
_SHARES = (0.7, 0.1, 0.2)
_QUANTITIES = ("many", "much", "long", "old", "far", "often", "big", "large", "high", "tall", "fast", "soon")
_ASKED = {
    "who": "person", "whom": "person", "whose": "person", "where": "place", "when": "time", "why": "reason",
    "what": "thing", "which": "thing",
}  # fmt: skip


def relation_spans(facts: Facts, *, per_relation: int = 60, seed: int = 0) -> SpanExamples:
    """Pairs of a subject and an object, labelled with their relation, in sentences filled in from patterns.

    Neither a pattern nor a fact crosses the parts: what a probe says of test it says of wordings that it has not seen.
    Each fact stands in one random pattern of its part. Relations with fewer than three patterns are left out.

    Args:
        facts: with several patterns a relation, such as ParaRel's.
        per_relation: facts of each relation at most, at random.
        seed: of what is drawn.

    Raises:
        DataError: no two relations have three patterns and three facts.

    Example:
        >>> spans = relation_spans(read_facts("pararel"))
        >>> EdgeProbe(task="relation").run(load("minilm"), spans)
    """
    rng = np.random.default_rng(seed)
    words: list[tuple[str, ...]] = []
    parts: list[str] = []
    rows: list[tuple[Span, Span, str]] = []
    chosen = facts.sample(per_relation, seed=seed)
    for relation in chosen.relations:
        own = [fact for fact in chosen.facts if fact.relation == relation]
        patterns = list(dict.fromkeys(facts.patterns[relation]))
        if min(len(patterns), len(own)) < _FEWEST_PATTERNS:
            continue
        for part, of, wordings in zip(PARTS, _divided(own, rng), _divided(patterns, rng), strict=True):
            for fact in of:
                sentence, first, second = _filled(wordings[int(rng.integers(len(wordings)))], fact)
                words.append(sentence)
                parts.append(part)
                rows.append((first, second, relation))
    if len({row[2] for row in rows}) < 2:
        raise DataError(
            f"{facts.name} has fewer than two relations with {_FEWEST_PATTERNS} patterns and as many facts; one "
            "pattern of each is kept for dev and one for test."
        )
    return SpanExamples(
        words=tuple(words),
        sentence=tuple(range(len(words))),
        first=tuple(row[0] for row in rows),
        second=tuple(row[1] for row in rows),
        label=tuple(row[2] for row in rows),
        part=tuple(parts),
        name=facts.name,
    )


def question_spans(bank: Treebank, *, whole: bool = False) -> SpanExamples:
    """Questions, labelled by rules with what they ask for.

    Of a question with an interrogative (``PronType=Int``) the first one says: person (who), place (where), time (when),
    reason (why, how come), quantity (how many, how long ...), manner (how) or thing (what, which). Without one it asks
    for yes or no where its first word is an auxiliary, and else is left out. That word gives the label away, so the
    span is what stands behind it: a probe must find in the other words what kind of question they belong to.

    Args:
        bank: with parts of speech and features.
        whole: the span is the whole question.

    Raises:
        DataError: sentences without features, or no question among them.

    Example:
        >>> spans = question_spans(read_conllu("ud_ewt"))
        >>> EdgeProbe(task="question-type").run(load("minilm"), spans)
    """
    rows: list[tuple[int, Span, str]] = []
    for at, sentence in enumerate(bank.sentences):
        if "feats" not in sentence.tags or "upos" not in sentence.tags:
            raise DataError(f"sentence {sentence.id} has no features or parts of speech; give a treebank in CoNLL-U.")
        if "?" not in sentence.words[-2:]:
            continue
        label, begin = _asked(sentence)
        if label and begin < len(sentence) - 1:
            rows.append((at, (0 if whole else begin, len(sentence)), label))
    if not rows:
        raise DataError(f"{bank.name} holds no question of a known kind (a sentence that ends in a question mark).")
    return spans_of(bank, rows)


def pos_spans(bank: Treebank) -> SpanExamples:
    """Words with their part of speech (UPOS).

    Raises:
        DataError: no word has one.
    """
    rows = [
        (at, (i, i + 1), tag)
        for at, sentence in enumerate(bank.sentences)
        for i, tag in enumerate(sentence.tags.get("upos", ()))
        if tag
    ]
    if not rows:
        raise DataError(f"no word of {bank.name} has a part of speech; give a treebank in CoNLL-U.")
    return spans_of(bank, rows)


def coreference_spans(bank: Treebank, *, seed: int = 0) -> SpanExamples:
    """Pairs of mentions of GUM's, in one sentence or two that follow: of the same cluster, or not.

    Of every mention with one of its cluster before it the nearest such makes a pair ``same``, and a random one of
    another cluster before it a pair ``other``, so that both are as frequent. Neither holds the mention. Mentions
    without both are left out. A probe sees the sentence with the one before it.

    Args:
        bank: with the ``Entity=`` of MISC.
        seed: of the draws.

    Raises:
        DataError: nothing is annotated so.

    Example:
        >>> EdgeProbe(task="coreference").run(load("minilm"), coreference_spans(read_conllu("gum")))
    """
    rng = np.random.default_rng(seed)
    mentions = gum_mentions(bank)
    words: list[tuple[str, ...]] = []
    kept: list[Sentence] = []
    rows: list[tuple[int, Span, Span, str]] = []
    for at, sentence in enumerate(bank.sentences):
        goes_on = at > 0 and bank.sentences[at - 1].document == sentence.document
        before = bank.sentences[at - 1].words if goes_on else ()
        known = [(m.span, m.group) for m in mentions[at - 1]] if goes_on else []
        known += [((b + len(before), e + len(before)), group) for (b, e), _, group in mentions[at]]
        found: list[tuple[int, Span, Span, str]] = []
        for span, group in known:
            # Only what the sentence itself holds is asked, so that no pair is asked twice.
            if span[0] < len(before):
                continue
            earlier = [(other, its) for other, its in known if other[1] <= span[0]]
            same = [other for other, its in earlier if its == group]
            others = [other for other, its in earlier if its != group]
            if same and others:
                found.append((len(words), max(same), span, "same"))
                found.append((len(words), others[int(rng.integers(len(others)))], span, "other"))
        if found:
            rows += found
            words.append((*before, *sentence.words))
            kept.append(sentence)
    if not rows:
        raise DataError(f"{bank.name} has no mentions of one cluster near each other; is it annotated as GUM is?")
    return SpanExamples(
        words=tuple(words),
        sentence=tuple(row[0] for row in rows),
        first=tuple(row[1] for row in rows),
        second=tuple(row[2] for row in rows),
        label=tuple(row[3] for row in rows),
        part=tuple(sentence.part for sentence in kept),
        name=bank.name,
        document=tuple(sentence.document for sentence in kept),
    )


def read_evidence(source: Path | str, *, documents: int = 100, longest: int = 100, seed: int = 0) -> SpanExamples:
    """Sentences of documents that people marked as the reason of its label, and as many others (supporting facts).

    ERASER's form, a document a line: ``{"text": "a sentence a line", "rationale_token_spans": [[begin, end], ...]}``,
    spans counted in words over the whole text. A document is read in passages of consecutive sentences, so that a
    sentence stands in its context. Whole documents go to train, dev and test.

    Args:
        source: a JSONL file.
        documents: at most, at random.
        longest: words of a passage; longer sentences are left out.
        seed: of what is drawn.

    Raises:
        DataError: no such file, a line of another form, a span outside its text, or fewer than three documents.

    Example:
        >>> spans = read_evidence("eraser_movies/test.jsonl")
        >>> EdgeProbe(task="evidence").run(load("minilm"), spans)
    """
    path = Path(source)
    if not path.is_file():
        raise DataError(f"there is no file {source}; name a JSONL file of documents with rationale_token_spans.")
    lines = [line for line in text_of(path).split("\n") if line.strip()]
    if len(lines) < len(PARTS):
        raise DataError(f"{source} has {len(lines)} documents; train, dev and test need one each.")
    rng = np.random.default_rng(seed)
    order: list[int] = rng.permutation(len(lines))[:documents].tolist()
    words: list[tuple[str, ...]] = []
    parts: list[str] = []
    rows: list[tuple[int, Span, str]] = []
    for part, places in zip(PARTS, _divided(order, rng), strict=True):
        for place in places:
            sentences, marked = _document(lines[place], f"line {place + 1} of {source}")
            kept = _balanced(marked, [0 < len(s) <= longest for s in sentences], rng)
            for passage in _passages([len(s) for s in sentences], longest):
                begin = 0
                for i in passage:
                    if i in kept:
                        label = "evidence" if marked[i] else "other"
                        rows.append((len(words), (begin, begin + len(sentences[i])), label))
                    begin += len(sentences[i])
                words.append(tuple(word for i in passage for word in sentences[i]))
                parts.append(part)
    return SpanExamples(
        words=tuple(words),
        sentence=tuple(row[0] for row in rows),
        first=tuple(row[1] for row in rows),
        second=None,
        label=tuple(row[2] for row in rows),
        part=tuple(parts),
        name=str(source),
    )


def _divided(of: Sequence[T], rng: np.random.Generator) -> tuple[list[T], list[T], list[T]]:
    """Train, dev and test at random, at least one each."""
    mixed = [of[i] for i in rng.permutation(len(of))]
    dev, test = (max(1, round(share * len(of))) for share in _SHARES[1:])
    return mixed[dev + test :], mixed[:dev], mixed[dev : dev + test]


def _filled(pattern: str, fact: Fact) -> tuple[tuple[str, ...], Span, Span]:
    """The words of a pattern with its subject and object, and where these stand."""
    words: list[str] = []
    at: dict[str, Span] = {}
    for piece in _PIECES.findall(pattern):
        put = {"[X]": fact.subject, "[Y]": fact.object}.get(piece, piece).split()
        if piece in ("[X]", "[Y]"):
            at[piece] = (len(words), len(words) + len(put))
        words += put
    return tuple(words), at["[X]"], at["[Y]"]


def _asked(sentence: Sentence) -> tuple[str, int]:
    """What a question asks for, and where the words behind the one that says so begin; nothing where none does."""
    words = [word.lower() for word in sentence.words]
    kinds = sentence.feature("PronType")
    at = next((i for i, kind in enumerate(kinds) if kind == "Int"), -1)
    if at < 0:
        first = next((i for i, tag in enumerate(sentence.tags["upos"]) if tag not in ("PUNCT", "CCONJ", "INTJ")), 0)
        return ("yes-no", first + 1) if sentence.tags["upos"][first] == "AUX" else ("", 0)
    if words[at] == "how":
        behind = words[at + 1] if at + 1 < len(words) else ""
        if behind in _QUANTITIES:
            return "quantity", at + 2
        return ("reason", at + 2) if behind == "come" else ("manner", at + 1)
    return _ASKED.get(words[at], ""), at + 1


def _document(line: str, place: str) -> tuple[list[list[str]], list[bool]]:
    """The words of each sentence, and whether one of them is marked."""
    try:
        given: Any = json.loads(line)
        sentences = [text.split() for text in given["text"].split("\n")]
        spans = [(int(begin), int(end)) for begin, end in given["rationale_token_spans"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f'{place} cannot be read ({type(error).__name__}: {error}); expected {{"text": "a sentence a line", '
            '"rationale_token_spans": [[begin, end], ...]}.'
        ) from None
    marks = np.zeros(sum(map(len, sentences)), dtype=bool)
    for begin, end in spans:
        # ERASER has a few empty spans, which mark nothing.
        if not 0 <= begin <= end <= len(marks):
            raise DataError(f"{place} has the span [{begin}, {end}) in a text of {len(marks)} words.")
        marks[begin:end] = True
    ends = np.cumsum([len(s) for s in sentences])
    return sentences, [bool(marks[end - len(s) : end].any()) for s, end in zip(sentences, ends, strict=True)]


def _balanced(marked: Sequence[bool], fits: Sequence[bool], rng: np.random.Generator) -> set[int]:
    """As many marked sentences as others, at random."""
    arms = [[i for i, (mark, fit) in enumerate(zip(marked, fits, strict=True)) if fit and mark is is_marked]
            for is_marked in (True, False)]  # fmt: skip
    n = min(map(len, arms))
    return {int(i) for arm in arms for i in rng.permutation(arm)[:n]}


def _passages(lengths: Sequence[int], longest: int) -> list[list[int]]:
    """Consecutive sentences of at most so many words together; longer and empty ones stand in none."""
    found: list[list[int]] = [[]]
    total = 0
    for i, length in enumerate(lengths):
        if not 0 < length <= longest:
            continue
        if total + length > longest:
            found.append([])
            total = 0
        found[-1].append(i)
        total += length
    return [passage for passage in found if passage]
