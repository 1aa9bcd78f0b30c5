"""Pronouns with the names they may stand for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from tracemend.data.tables import table_from_file
from tracemend.errors import DataError
from tracemend.runs import fingerprint

Span = tuple[int, int]
_WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, kw_only=True)
class Pronoun:
    """A pronoun in a text, and its candidates.

    Attributes:
        words: of the text.
        pronoun: its span as (begin, end), words counted from 0, the end excluded.
        candidates: the spans it may stand for, at least two.
        right: which of them it stands for: places in ``candidates``.
        id: for messages.
        part: train, dev, test or empty.
        groups: that it belongs to (a gender, for or against a stereotype), for figures of each.
        document: of which the text is part: no document crosses a split that has to be made.
    """

    words: tuple[str, ...]
    pronoun: Span
    candidates: tuple[Span, ...]
    right: tuple[int, ...]
    id: str = ""
    part: str = ""
    groups: tuple[str, ...] = ()
    document: str = ""

    def __post_init__(self) -> None:
        if len(self.candidates) < 2:
            raise DataError(f"pronoun {self.id} has {len(self.candidates)} candidate; there is nothing to choose from.")
        for begin, end in (self.pronoun, *self.candidates):
            if not 0 <= begin < end <= len(self.words):
                raise DataError(
                    f"pronoun {self.id} has the span [{begin}, {end}) in a text of {len(self.words)} words."
                )
        inside = [c for c in self.candidates if c[0] <= self.pronoun[0] and self.pronoun[1] <= c[1]]
        if inside:
            raise DataError(f"pronoun {self.id} lies inside its candidate [{inside[0][0]}, {inside[0][1]}).")


@dataclass(frozen=True, kw_only=True)
class Pronouns:
    """Pronouns in their order.

    Attributes:
        examples: at least one.
        name: for messages.
    """

    examples: tuple[Pronoun, ...]
    name: str = "pronouns"

    def __post_init__(self) -> None:
        if not self.examples:
            raise DataError(f"{self.name} holds no pronoun; is it the right file?")

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def fingerprint(self) -> str:
        """Sha256 (16 hex digits) over all of it."""
        return fingerprint(
            *[[e.words, e.pronoun, e.candidates, e.right, e.part, e.groups, e.document] for e in self.examples]
        )

    def of(self, part: str) -> list[Pronoun]:
        """The examples of one part."""
        return [example for example in self.examples if example.part == part]

    def split(self, *, shares: Sequence[float] = (0.7, 0.1, 0.2), seed: int = 0) -> Self:
        """With train, dev and test made of whole documents, where no example has a part; else as it is.

        Args:
            shares: of examples.
            seed: of the order of documents.

        Raises:
            DataError: there are fewer than three documents.
        """
        if any(example.part for example in self.examples):
            return self
        of: dict[str, list[int]] = {}
        for i, example in enumerate(self.examples):
            of.setdefault(example.document or f"example {i}", []).append(i)
        if len(of) < 3:
            raise DataError(
                f"{self.name} has {len(of)} documents to divide into train, dev and test; give more, or a folder with "
                "parts."
            )
        order = np.random.default_rng(seed).permutation(list(of)).tolist()
        part = dict.fromkeys(range(len(self)), "train")
        for place, name in ((2, "test"), (1, "dev")):
            made = 0
            # The documents of what is still to be made are left over.
            while made < len(self) * shares[place] / sum(shares) and (not made or len(order) > place):
                own = of[order.pop()]
                part |= dict.fromkeys(own, name)
                made += len(own)
        return replace(self, examples=tuple(replace(e, part=part[i]) for i, e in enumerate(self.examples)))

    def tested_on(self, other: Pronouns) -> Self:
        """Train and dev of these, and test of others: their part test, or all where they have no parts.

        Raises:
            DataError: the others have parts and none is test.
        """
        test = other.of("test") or [replace(e, part="test") for e in other.examples if not e.part]
        if not test:
            raise DataError(f"{other.name} has no part test; give the folder with it.")
        own = [example for example in self.examples if example.part in ("train", "dev")]
        return replace(self, examples=(*own, *test), name=f"{other.name} (trained on {self.name})")

    def take(self, where: Iterable[int]) -> Self:
        """The examples at these places."""
        return replace(self, examples=tuple(self.examples[i] for i in where))


def read_gap(source: Path | str) -> Pronouns:
    """Read GAP (Webster et al. 2018): a pronoun and two names a row, places as offsets in the text.

    Args:
        source: a TSV file, or the folder with ``gap-development.tsv`` (train), ``gap-validation.tsv`` (dev) and
            ``gap-test.tsv``. Examples of a file on its own are of no part; their pages are their documents.

    Raises:
        DataError: no such file or column, an offset that is no number or at which the text is another one, or a pronoun
            inside a name. The message names the row.
    """
    path = Path(source)
    parts = {"train": "gap-development.tsv", "dev": "gap-validation.tsv", "test": "gap-test.tsv"}
    files = {part: path / name for part, name in parts.items()} if path.is_dir() else {"": path}
    found = []
    for part, file in files.items():
        frame = table_from_file(file).frame
        lacking = [c for c in ("ID", "Text", "Pronoun", "Pronoun-offset", "A", "A-offset", "A-coref", "B", "B-offset",
                               "B-coref") if c not in frame]  # fmt: skip
        if lacking:
            raise DataError(f"{file} has no column {lacking[0]!r}; it is not GAP.")
        for number, row in enumerate(frame.to_dict("records"), start=1):
            words, spans = worded(str(row["Text"]))
            place = f"{row['ID']} (row {number} of {file})"
            named = {
                name: _span(str(row["Text"]), str(row[name]), row[f"{name}-offset"], spans, place)
                for name in ("Pronoun", "A", "B")
            }
            right = tuple(i for i, name in enumerate("AB") if str(row[f"{name}-coref"]).upper() == "TRUE")
            found.append(
                Pronoun(
                    words=words,
                    pronoun=named["Pronoun"],
                    candidates=(named["A"], named["B"]),
                    right=right,
                    id=str(row["ID"]),
                    part=part,
                    document=str(row.get("URL") or ""),
                )
            )
    return Pronouns(examples=tuple(found), name=str(source))


def worded(text: str) -> tuple[tuple[str, ...], list[Span]]:
    """Words and punctuation marks of a text, and the characters that each covers."""
    matches = list(_WORD.finditer(text))
    return tuple(match.group() for match in matches), [match.span() for match in matches]


def _span(text: str, mention: str, offset: object, spans: list[Span], name: str) -> Span:
    """Words that a mention covers."""
    try:
        begin = int(str(offset))
    except ValueError:
        raise DataError(
            f"{name} has the offset {offset!r} for {mention!r}; expected a whole number, the place of its first "
            "character in Text, counted from 0."
        ) from None
    end = begin + len(mention)
    if text[begin:end] != mention:
        raise DataError(
            f"{name} names {mention!r} at {begin}, where the text is {text[begin:end]!r}; count its characters from 0."
        )
    covered = [i for i, (first, last) in enumerate(spans) if first < end and last > begin]
    if not covered:
        raise DataError(f"{name}: {mention!r} at {begin} covers no word.")
    return covered[0], covered[-1] + 1
