"""Minimal pairs: an acceptable sentence beside one that differs from it where it is not."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from tracemend.data.labels import is_missing
from tracemend.data.tables import table_from_file
from tracemend.errors import DataError, did_you_mean
from tracemend.runs import fingerprint

# What known sets call their columns.
_NAMES = {
    "good": ("good", "sentence_good"),
    "bad": ("bad", "sentence_bad"),
    "phenomenon": ("phenomenon", "linguistics_term", "case"),
    "paradigm": ("uid", "paradigm", "condition"),
}


@dataclass(frozen=True, kw_only=True)
class MinimalPairs:
    """Pairs in their order.

    Attributes:
        good: the acceptable sentences [n].
        bad: the others [n].
        phenomenon: what each pair is about [n], ``"all"`` where nobody says.
        paradigm: the construction each belongs to [n].
        name: for messages.

    Example:
        >>> pairs = MinimalPairs.make(["The cats sleep."], ["The cats sleeps."])
        >>> len(pairs), pairs.phenomenon
        (1, ('all',))
    """

    good: tuple[str, ...]
    bad: tuple[str, ...]
    phenomenon: tuple[str, ...]
    paradigm: tuple[str, ...]
    name: str = "pairs"

    @classmethod
    def make(
        cls,
        good: Iterable[str],
        bad: Iterable[str],
        *,
        phenomenon: Iterable[str] | None = None,
        paradigm: Iterable[str] | None = None,
        name: str = "pairs",
    ) -> Self:
        """Check and keep pairs.

        Raises:
            DataError: none, other counts of good and bad, an empty sentence, or a pair of two equal ones.
        """
        goods, bads = tuple(good), tuple(bad)
        if len(goods) != len(bads):
            raise DataError(f"{name} has {len(goods)} good and {len(bads)} bad sentences; a pair is one of each.")
        if not goods:
            raise DataError(f"{name} holds no pair; is it the right file?")
        for i, (one, other) in enumerate(zip(goods, bads, strict=True), start=1):
            if is_missing(one) or is_missing(other) or not str(one).strip() or not str(other).strip():
                raise DataError(
                    f"pair {i} of {name} lacks a sentence ({one!r}, {other!r}); fill it in or drop the pair."
                )
            if one == other:
                raise DataError(
                    f"pair {i} of {name} holds the same sentence twice ({one!r}); it shows nothing, drop it."
                )
        of = tuple(phenomenon) if phenomenon is not None else ("all",) * len(goods)
        kind = tuple(paradigm) if paradigm is not None else of
        if {len(of), len(kind)} != {len(goods)}:
            raise DataError(f"{name}: {len(of)} phenomena and {len(kind)} paradigms for {len(goods)} pairs.")
        return cls(good=goods, bad=bads, phenomenon=of, paradigm=kind, name=name)

    def __len__(self) -> int:
        return len(self.good)

    @property
    def frame(self) -> pd.DataFrame:
        """One row a pair: phenomenon, paradigm, good, bad."""
        columns = ("phenomenon", "paradigm", "good", "bad")
        return pd.DataFrame({column: list(getattr(self, column)) for column in columns})

    @property
    def fingerprint(self) -> str:
        """Sha256 (16 hex digits) over all of it."""
        return fingerprint(self.good, self.bad, self.phenomenon, self.paradigm)

    def sample(self, per_paradigm: int, *, seed: int = 0) -> Self:
        """At most so many random pairs of each paradigm, in the order of the set."""
        rng = np.random.default_rng(seed)
        kinds = np.array(self.paradigm, dtype=object)
        kept = [rng.permutation(np.flatnonzero(kinds == kind))[:per_paradigm] for kind in dict.fromkeys(self.paradigm)]
        return self._take(np.sort(np.concatenate(kept)).tolist())

    def _take(self, where: Sequence[int]) -> Self:
        columns = (self.good, self.bad, self.phenomenon, self.paradigm)
        good, bad, phenomenon, paradigm = (tuple(column[i] for i in where) for column in columns)
        return type(self)(good=good, bad=bad, phenomenon=phenomenon, paradigm=paradigm, name=self.name)


def read_pairs(
    source: Path | str,
    *,
    good: str | None = None,
    bad: str | None = None,
    phenomenon: str | None = None,
    paradigm: str | None = None,
) -> MinimalPairs:
    """Read minimal pairs from a table: BLiMP's JSONL, Marvin and Linzen's as TSV, or any with two columns.

    Args:
        source: .csv, .tsv, .jsonl, .json or .parquet.
        good: column of the acceptable sentences (default: ``good`` or ``sentence_good``, or the first of two).
        bad: column of the others (default: ``bad`` or ``sentence_bad``, or the second of two).
        phenomenon: column of what a pair is about (default: ``phenomenon``, ``linguistics_term`` or ``case``).
        paradigm: column of its construction (default: ``uid``, ``paradigm`` or ``condition``).

    Pairs of one sentence twice are left out, with a warning.

    Raises:
        DataError: no such file or column; and what :meth:`MinimalPairs.make` refuses.

    Example:
        >>> len(read_pairs("blimp/blimp-200.jsonl"))
        13399
    """
    table = table_from_file(Path(source))
    columns = [str(column) for column in table.frame.columns]
    given = {"good": good, "bad": bad, "phenomenon": phenomenon, "paradigm": paradigm}
    found = {role: _column(role, name, columns, table.name) for role, name in given.items()}
    if found["good"] is None or found["bad"] is None:
        if len(columns) != 2 or good or bad:
            raise DataError(
                f"{table.name} has the columns {', '.join(columns)}; name those of the good and the bad sentences "
                "(--good, --bad), or give a file of two columns."
            )
        found["good"], found["bad"] = columns
    frame = table.frame
    same = frame[found["good"]] == frame[found["bad"]]
    if same.any() and not same.all():
        # Published sets hold a few (one of 13,400 in BLiMP's files): they show nothing, and are no reason to stop.
        warnings.warn(f"{int(same.sum())} pairs of {table.name} hold one sentence twice and are left out", stacklevel=2)
        frame = frame[~same]
    cells = {role: list(frame[name]) for role, name in found.items() if name is not None}
    return MinimalPairs.make(
        cells["good"],
        cells["bad"],
        phenomenon=[str(cell) for cell in cells["phenomenon"]] if "phenomenon" in cells else None,
        paradigm=[str(cell) for cell in cells["paradigm"]] if "paradigm" in cells else None,
        name=str(source),
    )


def _column(role: str, given: str | None, columns: Sequence[str], name: str) -> str | None:
    if given is not None:
        if given not in columns:
            raise DataError(f"{name} has no column {given!r} (--{role}): it is {did_you_mean(given, columns)}")
        return given
    return next((known for known in _NAMES[role] if known in columns), None)
