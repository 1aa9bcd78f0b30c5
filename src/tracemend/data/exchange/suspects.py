"""What is given out for review."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from tracemend.data.exchange.answers import REMOVE
from tracemend.errors import DataError

NEEDED = ("uid", "text", "label")
# Missing columns are taken as empty.
OPTIONAL = ("reply", "suggested", "score", "probability", "evidence")


@dataclass(frozen=True, eq=False)
class Suspects:
    """Suspect examples, the most suspicious first.

    Attributes:
        frame: one row an example: ``uid``, ``text``, ``reply``, ``label`` (as given), ``suggested`` (a label, or
            ``REMOVE``), ``score``, ``probability`` (that the label is wrong) and ``evidence``; None where there is
            none.
        labels: the label names, which are the answers a reviewer may give.
        agent: who suspects them, such as ``trace.out-of-fold-loss``.
        own: further columns of the same rows, by which a reviewer finds them in a system of theirs.
    """

    frame: pd.DataFrame
    labels: tuple[str, ...]
    agent: str
    own: pd.DataFrame = field(default_factory=pd.DataFrame)

    @classmethod
    def of(cls, table: pd.DataFrame, labels: tuple[str, ...], agent: str) -> Suspects:
        """From a table with the columns of :attr:`frame`, and others that ride along.

        Raises:
            DataError: a column is missing, an example occurs twice, a label is called as the answer to remove is, or
                there is no row.

        Example:
            >>> table = pd.DataFrame({"uid": ["a-0"], "text": ["go away"], "label": ["safe"], "suggested": ["unsafe"]})
            >>> len(Suspects.of(table, ("safe", "unsafe"), "trace.loss"))
            1
        """
        missing = [name for name in NEEDED if name not in table]
        if missing:
            raise DataError(f"the table of suspects lacks the columns {', '.join(missing)}.")
        if not len(table):
            raise DataError(
                "there is no suspect to give out: no decision of the run stands (what it tried and took back, if "
                "anything, is in its taken-back.csv). Rank all examples with tracemend detect; a repair with --ask has "
                "its open questions in questions.csv."
            )
        twice = sorted(set(table["uid"][table["uid"].duplicated()]))
        if twice:
            raise DataError(f"{len(twice)} examples occur twice among the suspects, such as {twice[0]}.")
        if REMOVE in labels:
            raise DataError(f"a label is called {REMOVE!r}, which is the answer that removes an example; rename it.")
        known = [*NEEDED, *OPTIONAL]
        whole = table.reset_index(drop=True).astype(object)
        whole = whole.where(whole.notna(), None)
        return cls(
            whole.reindex(columns=known).replace({np.nan: None}),
            labels,
            agent,
            whole.drop(columns=known, errors="ignore"),
        )

    def __len__(self) -> int:
        return len(self.frame)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """The rows as mappings; ``own`` is one of the cells that ride along and hold something."""
        for row, own in zip(self.frame.to_dict("records"), self.own.to_dict("records"), strict=True):
            further = {str(name): value for name, value in own.items() if value is not None}
            yield {**{str(name): value for name, value in row.items()}, "own": further}

    @property
    def answers(self) -> tuple[str, ...]:
        """What a reviewer may answer: a label, or that the example be removed."""
        return (*self.labels, REMOVE)

    @property
    def has_replies(self) -> bool:
        """Whether any example has a second text."""
        return bool(self.frame["reply"].notna().any())


def share(value: Any) -> float | None:
    """A probability as both tools take scores, from 0 to 1; None where there is none."""
    return None if value is None else min(1.0, max(0.0, float(value)))


def number(value: Any) -> float | None:
    """A score as a plain number; None where there is none."""
    return None if value is None else float(value)
