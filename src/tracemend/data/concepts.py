"""Human concepts as sets of texts: examples of each concept, texts to draw counterexamples from, texts to explain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracemend.data.labels import is_missing
from tracemend.data.readers import read_unlabelled
from tracemend.data.sources import open_table
from tracemend.errors import DataError
from tracemend.runs import fingerprint

Pair = tuple[str, str | None]


@dataclass(frozen=True, eq=False)
class Concepts:
    """What a concept method is given.

    Attributes:
        sets: example texts of each concept, by its name, each text once.
        random: texts of no concept, from which counterexamples and random concepts are drawn, each text once.
        texts: the inputs whose classification is asked about, with their replies.
        labels: the true label of each of ``texts``; None where the classifier's answer counts instead.

    Raises:
        DataError: an empty text, no concept, no texts, or labels for another number of texts.
    """

    sets: Mapping[str, tuple[str, ...]]
    random: tuple[str, ...]
    texts: tuple[Pair, ...]
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.sets or not self.random or not self.texts:
            raise DataError(
                f"{len(self.sets)} concepts, {len(self.random)} random texts and {len(self.texts)} texts were given; "
                "at least one of each is needed."
            )
        whole = {**{f"concept {name!r}": of for name, of in self.sets.items()}, "the random texts": self.random,
                 "the texts": tuple(text for text, _ in self.texts)}  # fmt: skip
        for what, of in whole.items():
            empty = [i for i, text in enumerate(of) if not text.strip()]
            if empty:
                raise DataError(f"text {empty[0]} of {what} is empty; leave it out.")
        if self.labels is not None and len(self.labels) != len(self.texts):
            raise DataError(f"there are {len(self.labels)} labels for {len(self.texts)} texts; give one a text.")
        object.__setattr__(self, "sets", {name: _once(of) for name, of in self.sets.items()})
        object.__setattr__(self, "random", _once(self.random))

    @property
    def fingerprint(self) -> str:
        """Of all texts and labels."""
        return fingerprint({name: list(of) for name, of in self.sets.items()}, self.random, self.texts, self.labels)


def read_concepts(
    source: Any, random: Any, texts: Sequence[Pair], *, text: str = "text", concept: str = "concept",
    labels: Sequence[str] | None = None,
) -> Concepts:  # fmt: skip
    """Read concepts from tables (CSV, TSV, JSONL, Parquet or a data frame).

    Args:
        source: one row an example of a concept; without a column ``concept`` all rows are of one, called ``concept``.
        random: one row a text of no concept.
        texts: what is to be explained, see :func:`read_texts`.
        text: the column of the text in both tables.
        concept: the column of the concept's name.
        labels: of ``texts``.

    Raises:
        DataError: a table cannot be read, a row names no concept, or what :class:`Concepts` refuses.

    Example:
        >>> import pandas as pd
        >>> rows = pd.DataFrame({"text": ["so good", "lovely"], "concept": "praise"})
        >>> read_concepts(rows, pd.DataFrame({"text": ["the road home"]}), [("a nice film", None)]).sets
        {'praise': ('so good', 'lovely')}
    """
    table = open_table(source)
    pairs, others = read_unlabelled(table, text=text)
    cells = list(others[concept]) if concept in others else ["concept"] * len(pairs)
    nameless = [row for row, cell in enumerate(cells) if is_missing(cell)]
    if nameless:
        raise DataError(
            f"{len(nameless)} of {len(cells)} cells in column {concept!r} of {table.name} are empty: "
            f"{table.at(nameless)}. Name the concept of these rows, or delete them."
        )
    names = [str(cell).strip() for cell in cells]
    sets: dict[str, list[str]] = {}
    for (example, _), name in zip(pairs, names, strict=True):
        sets.setdefault(name, []).append(example)
    beside = [example for example, _ in read_unlabelled(random, text=text)[0]]
    return Concepts(
        {name: tuple(of) for name, of in sets.items()},
        tuple(beside),
        tuple(texts),
        None if labels is None else tuple(labels),
    )


def _once(texts: Sequence[str]) -> tuple[str, ...]:
    """Each text once, whatever its case and spaces."""
    found: dict[str, str] = {}
    for text in texts:
        found.setdefault(plain(text), text)
    return tuple(found.values())


def plain(text: str) -> str:
    """A text without what does not make it another one: case, and how its words are spaced."""
    return " ".join(text.casefold().split())
