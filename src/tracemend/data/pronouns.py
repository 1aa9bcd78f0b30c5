"""Pronouns with the names they may stand for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

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
    """

    words: tuple[str, ...]
    pronoun: Span
    candidates: tuple[Span, ...]
    right: tuple[int, ...]
    id: str = ""
    part: str = ""

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
        return fingerprint(*[[e.words, e.pronoun, e.candidates, e.right, e.part] for e in self.examples])

    def of(self, part: str) -> list[Pronoun]:
        """The examples of one part."""
        return [example for example in self.examples if example.part == part]

    def take(self, where: Iterable[int]) -> Self:
        """The examples at these places."""
        return replace(self, examples=tuple(self.examples[i] for i in where))


def read_gap(source: Path | str) -> Pronouns:
    """Read GAP (Webster et al. 2018): a pronoun and two names a row, places as offsets in the text.

    Args:
        source: a TSV file, or the folder with ``gap-development.tsv`` (train), ``gap-validation.tsv`` (dev) and
            ``gap-test.tsv``.

    Raises:
        DataError: no such file or column, an offset at which the text is another one, or a pronoun inside a name.
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
        for row in frame.to_dict("records"):
            words, spans = [], []
            for match in _WORD.finditer(str(row["Text"])):
                words.append(match.group())
                spans.append(match.span())
            named = {
                name: _span(str(row["Text"]), str(row[name]), row[f"{name}-offset"], spans, str(row["ID"]))
                for name in ("Pronoun", "A", "B")
            }
            right = tuple(i for i, name in enumerate("AB") if str(row[f"{name}-coref"]).upper() == "TRUE")
            found.append(
                Pronoun(
                    words=tuple(words),
                    pronoun=named["Pronoun"],
                    candidates=(named["A"], named["B"]),
                    right=right,
                    id=str(row["ID"]),
                    part=part,
                )
            )
    return Pronouns(examples=tuple(found), name=str(source))


def _span(text: str, mention: str, offset: object, spans: list[Span], name: str) -> Span:
    """Words that a mention covers."""
    begin = int(str(offset))
    end = begin + len(mention)
    if text[begin:end] != mention:
        raise DataError(f"{name} names {mention!r} at {begin}, where the text is {text[begin:end]!r}.")
    covered = [i for i, (first, last) in enumerate(spans) if first < end and last > begin]
    if not covered:
        raise DataError(f"{name}: {mention!r} at {begin} covers no word.")
    return covered[0], covered[-1] + 1
