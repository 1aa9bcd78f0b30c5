"""Prompts for looking inside a model: what it reads, and the words that it is asked about.

Words to be predicted (``answer``, ``foil``) are written without the space before them; one is put there when they
follow a prompt, unless they begin with a space or a punctuation mark themselves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd

from tracemend.data.reference import reference_folder
from tracemend.data.tables import table_from_file
from tracemend.errors import DataError
from tracemend.runs import fingerprint


@dataclass(frozen=True, eq=False)
class Prompts:
    """A table of prompts; each kind of it names its columns.

    Attributes:
        frame: one row a prompt, index 0 to n - 1, with at least ``columns``, all of them texts.
    """

    columns: ClassVar[tuple[str, ...]] = ()

    frame: pd.DataFrame

    @classmethod
    def make(cls, rows: pd.DataFrame | Iterable[Mapping[str, Any]]) -> Self:
        """Check rows and keep them.

        Raises:
            DataError: no rows, a column that lacks, or a cell without text; the message names them.

        Example:
            >>> sky = Contrasts.make([{"prompt": "The sky is", "answer": "blue", "foil": "green"}])
        """
        frame = rows.copy() if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
        frame = frame.reset_index(drop=True)
        missing = [column for column in cls.columns if column not in frame.columns]
        if missing or not len(frame):
            found = ", ".join(map(str, frame.columns)) or "no columns"
            raise DataError(
                f"{cls.__name__} needs the columns {', '.join(cls.columns)} and at least one row; "
                f"found {found} and {len(frame)} rows."
            )
        for column in cls.columns:
            empty = [i for i, cell in enumerate(frame[column]) if not isinstance(cell, str) or not cell.strip()]
            if empty:
                raise DataError(
                    f"column {column!r} has no text in row {empty[0]} (counted from 0); every row needs one."
                )
        return cls(frame)

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read a CSV, TSV, JSON, JSONL or Parquet file with these columns.

        Raises:
            DataError: the file cannot be read, or as :meth:`make`.
        """
        return cls.make(table_from_file(Path(path)).frame)

    def __len__(self) -> int:
        return len(self.frame)

    def head(self, n: int) -> Self:
        """The first ``n`` rows.

        Raises:
            DataError: ``n`` is below 1.
        """
        if n < 1:
            raise DataError(f"{n} rows were asked for; expected at least 1.")
        return replace(self, frame=self.frame.head(n).reset_index(drop=True))

    @property
    def fingerprint(self) -> str:
        """Of the columns that count."""
        return fingerprint(type(self).__name__, self.frame[list(self.columns)].values.tolist())


@dataclass(frozen=True, eq=False)
class Texts(Prompts):
    """Plain texts: the column ``text``.

    Attributes:
        frame: see :class:`Prompts`.
        note: what a reader of the result must know of where they are from; empty: nothing.
    """

    columns: ClassVar[tuple[str, ...]] = ("text",)

    note: str = ""


@dataclass(frozen=True, eq=False)
class Contrasts(Prompts):
    """A prompt, the word that follows, and one that could but does not: ``prompt``, ``answer``, ``foil``."""

    columns: ClassVar[tuple[str, ...]] = ("prompt", "answer", "foil")


@dataclass(frozen=True, eq=False)
class PromptPairs(Prompts):
    """Two prompts of one length in tokens, of which ``answer`` follows the ``clean`` and ``foil`` the ``corrupted``."""

    columns: ClassVar[tuple[str, ...]] = ("clean", "corrupted", "answer", "foil")

    @property
    def contrasts(self) -> Contrasts:
        """The clean side alone."""
        return Contrasts.make(self.frame.rename(columns={"clean": "prompt"}))

    @property
    def texts(self) -> Texts:
        """The clean prompts alone."""
        note = "The texts are the clean prompts of pairs; the corrupted ones were not read."
        return Texts(self.frame[["clean"]].rename(columns={"clean": "text"}), note)


@dataclass(frozen=True, eq=False)
class Facts(Prompts):
    """What is said of somebody or something: ``prompt``, the ``subject`` in it, and the ``answer`` that follows."""

    columns: ClassVar[tuple[str, ...]] = ("prompt", "subject", "answer")


_NAMES = ("Mary", "John", "Tom", "Anna", "Peter", "Sarah", "James", "Emma", "David", "Laura", "Paul", "Alice")
_PLACES = ("store", "park", "school", "office", "station", "garden")
_THINGS = ("drink", "book", "key", "ring", "letter", "ball")
_FORMS = (
    "Then, {a} and {b} went to the {place}. {s} gave a {thing} to",
    "When {a} and {b} were at the {place}, {s} handed a {thing} to",
    "After {a} and {b} left the {place}, {s} passed a {thing} to",
    "While {a} and {b} waited near the {place}, {s} showed a {thing} to",
)


def indirect_objects(count: int = 16, *, seed: int = 0) -> PromptPairs:
    """Pairs for the identification of indirect objects (Wang et al. 2022, arXiv 2211.00593).

    Two people are named, one gives something, and the other one follows; the corrupted prompt lets the other one give.
    Either person may be named first.

    Args:
        count: pairs, all of them different.
        seed: of the draw.

    Raises:
        DataError: fewer than one, or more than there are.

    Example:
        >>> indirect_objects(1).frame.loc[0, "answer"]
        'Tom'
    """
    pairs = [(a, b) for a in _NAMES for b in _NAMES if a != b]
    most = len(_FORMS) * len(pairs) * len(_PLACES) * len(_THINGS)
    if not 1 <= count <= most:
        raise DataError(f"count is {count}; expected 1 to {most}.")
    rng = np.random.default_rng(seed)
    rows: list[dict[str, str]] = []
    seen: set[str] = set()
    while len(rows) < count:
        giver, other = pairs[rng.integers(len(pairs))]
        form, place, thing = (str(rng.choice(words)) for words in (_FORMS, _PLACES, _THINGS))
        a, b = (giver, other) if rng.random() < 0.5 else (other, giver)
        clean, corrupted = (form.format(a=a, b=b, s=s, place=place, thing=thing) for s in (giver, other))
        if clean not in seen:
            seen.add(clean)
            rows.append({"clean": clean, "corrupted": corrupted, "answer": other, "foil": giver})
    return PromptPairs.make(rows)


def reference_indirect_objects() -> PromptPairs:
    """The reference set ``ioi_prompts`` as pairs: in the corrupted prompt the other person gives.

    Prompts in which the giver is not named exactly twice, or in which a name is part of another word, are left out.

    Raises:
        DataError: the set is not there.
    """
    path = reference_folder("ioi_prompts") / "ioi.jsonl"
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        prompt, answer = row["prompt"], row["answer"]
        names = [w for w in re.findall(r"\b[A-Z]\w+", prompt) if prompt.count(w) == 2]
        if len(set(names)) != 1 or len(re.findall(rf"\b{answer}\b", prompt)) != 1:
            continue
        at = prompt.rindex(names[0])
        corrupted = prompt[:at] + answer + prompt[at + len(names[0]) :]
        rows.append({"clean": prompt, "corrupted": corrupted, "answer": answer, "foil": names[0]})
    return PromptPairs.make(rows)


def reference_facts() -> Facts:
    """The reference set ``known_1000``: prompts of causal tracing, with the attribute as answer.

    Raises:
        DataError: the set is not there.
    """
    path = reference_folder("known_1000") / "known_1000.json"
    frame = pd.DataFrame(json.loads(path.read_text(encoding="utf-8"))).rename(columns={"attribute": "answer"})
    return Facts.make(frame)
