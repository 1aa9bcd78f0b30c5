"""Labelled spans and pairs of spans: what edge probing asks about."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from tracemend.data.treebanks import PARTS, Treebank, files_of, part_of, text_of
from tracemend.errors import DataError
from tracemend.runs import fingerprint

Span = tuple[int, int]
# A mention that opens, perhaps to close on the same word; or the end of one.
_ENTITY = re.compile(r"\(([^()]+)(\))?|([^()]+)\)")


@dataclass(frozen=True, kw_only=True)
class SpanExamples:
    """Sentences with labelled spans.

    Attributes:
        words: of each sentence [s].
        sentence: in which sentence each example lies [n].
        first: its span as (begin, end), words counted from 0, the end excluded [n].
        second: its second span [n]; None where the task has one span.
        label: [n].
        part: of each sentence [s]: train, dev, test or empty.
        name: for messages.
        document: of each sentence [s]: no document crosses a split; a sentence without one (empty) is one of its own.
    """

    words: tuple[tuple[str, ...], ...]
    sentence: tuple[int, ...]
    first: tuple[Span, ...]
    second: tuple[Span, ...] | None
    label: tuple[str, ...]
    part: tuple[str, ...]
    name: str = "spans"
    document: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.label:
            raise DataError(f"{self.name} holds no labelled span; is it the right file?")
        if self.second is not None and len(self.second) != len(self.first):
            raise DataError(
                f"{self.name}: {len(self.second)} of {len(self.first)} examples have a second span; on a task of two "
                "spans each needs both."
            )
        if self.document and len(self.document) != len(self.words):
            raise DataError(f"{self.name} names {len(self.document)} documents for {len(self.words)} sentences.")
        for at, sentence in enumerate(self.sentence):
            spans = [self.first[at]] + ([self.second[at]] if self.second is not None else [])
            for begin, end in spans:
                if not 0 <= begin < end <= len(self.words[sentence]):
                    raise DataError(
                        f"example {at + 1} of {self.name} has the span [{begin}, {end}) in a sentence of "
                        f"{len(self.words[sentence])} words; expected 0 <= begin < end <= words."
                    )

    def __len__(self) -> int:
        return len(self.label)

    @property
    def fingerprint(self) -> str:
        """Sha256 (16 hex digits) over all of it."""
        own = [self.document] if any(self.document) else []
        return fingerprint(self.words, self.sentence, self.first, self.second, self.label, self.part, *own)

    def of(self, part: str) -> Self:
        """The examples of one part; the sentences stay."""
        where = [i for i, sentence in enumerate(self.sentence) if self.part[sentence] == part]
        return self.take(where)

    def split(self, *, shares: Sequence[float] = (0.7, 0.1, 0.2), seed: int = 0) -> dict[str, Self]:
        """Train, dev and test, whole documents at a time; published parts stay, see :meth:`Treebank.split`.

        Args:
            shares: of sentences, for what has to be made.
            seed: of the order of documents.

        Raises:
            DataError: there are too few documents, or a document lies in two parts.
        """
        part = np.array(self.part, dtype=object)
        part[~np.isin(part, PARTS)] = "train"
        if not (part == "train").any():
            # As of a treebank: a published dev serves as train beside a published test.
            both = (part == "dev").any() and (part == "test").any()
            part[part == "dev" if both else np.ones(len(part), dtype=bool)] = "train"
        document = [name or f"sentence {i}" for i, name in enumerate(self.document or ("",) * len(self.words))]
        rng = np.random.default_rng(seed)
        for name in ("test", "dev"):
            if not (part == name).any():
                place = PARTS.index(name)
                own = np.flatnonzero(part == "train").tolist()
                size = max(1, round(len(own) * shares[place] / sum(shares[: place + 1])))
                part[_some_documents([document[i] for i in own], own, size, rng, self.name)] = name
        crossing = {(document[i], part[i]) for i in range(len(part))}
        twice = [name for name, n in Counter(name for name, _ in crossing).items() if n > 1]
        if twice:
            raise DataError(
                f"document {sorted(twice)[0]!r} of {self.name} lies in two parts, so a probe would be tested on a text "
                "that it was trained on; give parts that share no document."
            )
        made = replace(self, part=tuple(part.tolist()))
        return {name: made.of(name) for name in PARTS}

    def take(self, where: Iterable[int]) -> Self:
        """The examples at these places; the sentences stay."""
        at = list(where)
        return replace(
            self,
            sentence=tuple(self.sentence[i] for i in at),
            first=tuple(self.first[i] for i in at),
            second=None if self.second is None else tuple(self.second[i] for i in at),
            label=tuple(self.label[i] for i in at),
        )


def read_spans(source: Path | str) -> SpanExamples:
    """Read spans from JSONL, a sentence a line, in the form of jiant's edge probing.

    ``{"text": "words with spaces", "targets": [{"span1": [0, 2], "span2": [3, 4], "label": "agent"}]}``; ``words`` (a
    list) may stand for ``text``, and ``part`` (train, dev or validation, test) and ``document`` beside them. Spans
    count words from 0, the end excluded.

    Args:
        source: a file, or a folder with train, dev and test.

    Raises:
        DataError: no such file, a line that is not of this form, or a span outside its sentence.
    """
    path = Path(source)
    if not path.exists():
        raise DataError(f"there is no JSONL file of spans at {source}; name one, or a folder of train, dev and test.")
    files = files_of(path, ".jsonl")
    words: list[tuple[str, ...]] = []
    parts: list[str] = []
    documents: list[str] = []
    rows: list[tuple[int, Span, Span | None, str]] = []
    for file, part in files:
        for number, line in enumerate(text_of(file).split("\n"), start=1):
            if not line.strip():
                continue
            sentence, targets, own, document = _line(line, f"line {number} of {file}")
            rows += [(len(words), *target) for target in targets]
            words.append(sentence)
            parts.append(part or own)
            documents.append(document)
    second = [row[2] for row in rows if row[2] is not None]
    return SpanExamples(
        words=tuple(words),
        sentence=tuple(row[0] for row in rows),
        first=tuple(row[1] for row in rows),
        second=tuple(second) if second else None,
        label=tuple(row[3] for row in rows),
        part=tuple(parts),
        name=str(source),
        document=tuple(documents),
    )


def entity_spans(bank: Treebank, tag: str = "ner") -> SpanExamples:
    """The spans that BIO tags mark, with their types.

    Raises:
        DataError: the sentences have no such tags, or none marks a span.
    """
    rows: list[tuple[int, Span, str]] = []
    for at, sentence in enumerate(bank.sentences):
        if tag not in sentence.tags:
            raise DataError(f"sentence {sentence.id} has no tags {tag!r}; read a BIO file, or name another tag.")
        rows += [(at, span, kind) for span, kind in _bio_spans(sentence.tags[tag])]
    return spans_of(bank, rows)


class Mention(NamedTuple):
    """A mention of GUM's: where it stands in its sentence, its entity type, and the cluster of its document."""

    span: Span
    kind: str
    group: str


def gum_mentions(bank: Treebank) -> list[list[Mention]]:
    """Mentions of each sentence in the order in which they end, from the ``Entity=`` of MISC as GUM writes it.

    Raises:
        DataError: a mention is not closed in its sentence.
    """
    found: list[list[Mention]] = []
    for sentence in bank.sentences:
        own: list[Mention] = []
        open_mentions: list[tuple[str, int, str]] = []
        for i, cell in enumerate(sentence.tags.get("misc", ())):
            marks = next((part[len("Entity=") :] for part in cell.split("|") if part.startswith("Entity=")), "")
            for opened, alone, closed in _ENTITY.findall(marks):
                group, _, rest = (opened or closed).partition("-")
                if opened:
                    kind = rest.partition("-")[0]
                    if alone:
                        own.append(Mention((i, i + 1), kind, group))
                    else:
                        open_mentions.append((group, i, kind))
                    continue
                place = next((k for k in reversed(range(len(open_mentions))) if open_mentions[k][0] == group), None)
                if place is None:
                    raise DataError(
                        f"word {i + 1} of sentence {sentence.id} closes mention {group}, which is not open."
                    )
                _, begin, kind = open_mentions.pop(place)
                own.append(Mention((begin, i + 1), kind, group))
        if open_mentions:
            raise DataError(f"sentence {sentence.id} does not close the mention {open_mentions[0][0]}.")
        found.append(own)
    return found


def gum_entities(bank: Treebank) -> SpanExamples:
    """Mentions with their entity types, from the ``Entity=`` of MISC as GUM writes it.

    Raises:
        DataError: nothing is annotated so, or a mention is not closed in its sentence.
    """
    return spans_of(bank, [(at, own.span, own.kind) for at, of in enumerate(gum_mentions(bank)) for own in of])


def spans_of(bank: Treebank, rows: list[tuple[int, Span, str]]) -> SpanExamples:
    """Single spans: (sentence, span, label) of each."""
    return SpanExamples(
        words=tuple(bank.words),
        sentence=tuple(row[0] for row in rows),
        first=tuple(row[1] for row in rows),
        second=None,
        label=tuple(row[2] for row in rows),
        part=tuple(sentence.part for sentence in bank.sentences),
        name=bank.name,
        document=tuple(sentence.document for sentence in bank.sentences),
    )


def dependency_spans(bank: Treebank) -> SpanExamples:
    """Pairs of a word and its head, labelled with their relation (without subtypes).

    Raises:
        DataError: the sentences have no trees.
    """
    rows: list[tuple[int, Span, Span, str]] = []
    for at, sentence in enumerate(bank.sentences):
        if sentence.heads is None or "deprel" not in sentence.tags:
            raise DataError(f"sentence {sentence.id} has no dependency tree; give a treebank in CoNLL-U.")
        for i, head in enumerate(sentence.heads):
            label = sentence.tags["deprel"][i].partition(":")[0]
            if head >= 0 and label:
                rows.append((at, (i, i + 1), (head, head + 1), label))
    return SpanExamples(
        words=tuple(bank.words),
        sentence=tuple(row[0] for row in rows),
        first=tuple(row[1] for row in rows),
        second=tuple(row[2] for row in rows),
        label=tuple(row[3] for row in rows),
        part=tuple(sentence.part for sentence in bank.sentences),
        name=bank.name,
        document=tuple(sentence.document for sentence in bank.sentences),
    )


def _some_documents(
    document: Sequence[str], sentences: Sequence[int], size: int, rng: np.random.Generator, name: str
) -> list[int]:
    """Sentences of random documents until there are as many, never all."""
    of: dict[str, list[int]] = {}
    for one, sentence in zip(document, sentences, strict=True):
        of.setdefault(one, []).append(sentence)
    if len(of) < 2:
        raise DataError(
            f"{name} has {len(of)} document to divide into train, dev and test, and no document crosses a split; give "
            "spans of more documents, or name their parts."
        )
    taken: list[int] = []
    known = list(of)
    for i in rng.permutation(len(known))[:-1].tolist():
        if len(taken) >= size:
            break
        taken += of[known[i]]
    return taken


def _bio_spans(tags: Sequence[str]) -> list[tuple[Span, str]]:
    """Spans of BIO tags; an I- without its B- begins one, as in IOB1."""
    found: list[tuple[Span, str]] = []
    begin, kind = 0, ""
    for i, tag in enumerate([*tags, "O"]):
        prefix, _, here = tag.partition("-")
        if kind and (prefix in ("O", "B", "S") or here != kind):
            found.append(((begin, i), kind))
            kind = ""
        if not kind and prefix != "O":
            begin, kind = i, here
    return found


def _line(line: str, place: str) -> tuple[tuple[str, ...], list[tuple[Span, Span | None, str]], str, str]:
    try:
        facts: Any = json.loads(line)
        words = facts["words"] if "words" in facts else facts["text"].split()
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise TypeError(f"words are {words!r}, not a list of strings")
        targets = []
        for target in facts["targets"]:
            second = target.get("span2")
            label = target["label"]
            if not isinstance(label, str):
                raise TypeError(f"label {label!r} is not a string")
            targets.append((_span(target["span1"]), None if second is None else _span(second), label))
        named, document = str(facts.get("part") or ""), str(facts.get("document") or "")
        own = part_of(named)
        if named.strip() and not own:
            raise ValueError(f"part {named!r} is none of {', '.join(PARTS)}")
        return tuple(words), targets, own, document
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f'{place} cannot be read ({type(error).__name__}: {error}); expected {{"text": ..., "targets": '
            '[{"span1": [begin, end], "label": ...}]}.'
        ) from None


def _span(value: Any) -> Span:
    begin, end = value
    if type(begin) is not int or type(end) is not int:
        raise TypeError(f"span {value!r} is not of whole numbers")
    return begin, end
