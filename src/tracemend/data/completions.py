"""Texts to go on with: prompts with their completions, or texts alone, for models that learn to write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracemend.data.labels import is_missing
from tracemend.data.schema import uids
from tracemend.errors import DataError
from tracemend.runs import fingerprint


@dataclass(frozen=True, eq=False)
class Completions:
    """Prompts with completions, or texts alone: what a causal language model is tuned on.

    Attributes:
        frame: one row an example, index 0..n-1: ``uid`` (hash of both texts, and the occurrence), ``text`` (the prompt,
            or the text where it stands alone), ``reply`` (the completion; None for a text alone), ``label`` (always
            empty: what is learnt is the text itself), ``group``, and ``corrupted`` (True or False where that is known,
            else None); further columns ride along unread.

    Example:
        >>> data = Completions.make(["Capital of France?", "2 + 2?"], ["Paris", "4"])
        >>> data.pairs[0], len(data)
        (('Capital of France?', 'Paris'), 2)
    """

    frame: pd.DataFrame

    @classmethod
    def make(
        cls,
        texts: Iterable[str],
        completions: Iterable[str] | None = None,
        *,
        groups: Iterable[str | None] | None = None,
        corrupted: Iterable[bool | None] | None = None,
        extra: pd.DataFrame | None = None,
    ) -> Completions:
        """Build from columns.

        Args:
            texts: the prompts; or the texts themselves, where there are no completions.
            completions: one a prompt.
            groups: author, conversation or the like.
            corrupted: whether an example is known to be a bad one.
            extra: further columns.

        Raises:
            DataError: a text or completion is empty, there are more of one than of the other, or one of the two
                columns says the same in every row.
        """
        text = list(texts)
        nothing: list[Any] = [None] * len(text)
        columns: dict[str, list[Any]] = {
            "text": text,
            "reply": nothing if completions is None else list(completions),
            "label": [""] * len(text),
            "group": nothing if groups is None else list(groups),
            "corrupted": nothing if corrupted is None else list(corrupted),
        }
        for name, values in columns.items():
            if len(values) != len(text):
                raise DataError(f"there are {len(text)} texts and {len(values)} in the column {name}; give one each.")
        sides = [("prompt" if completions is not None else "text", text)]
        if completions is not None:
            sides.append(("completion", columns["reply"]))
        for role, cells in sides:
            _check_cells(role, cells)
        columns = {"uid": uids(text, columns["reply"]), **columns}
        frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
        if extra is not None:
            frame = pd.concat([frame, extra.reset_index(drop=True)], axis=1)
        return cls(frame)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def uid(self) -> list[str]:
        """The examples' ids, in order."""
        return list(self.frame["uid"])

    @property
    def pairs(self) -> list[tuple[str, str | None]]:
        """(prompt, completion) of each example, or (text, None)."""
        return list(zip(self.frame["text"], self.frame["reply"], strict=True))

    @property
    def labels(self) -> tuple[str, ...]:
        """None: the loss is about the tokens of the text."""
        return ()

    @property
    def y(self) -> npt.NDArray[np.int64]:
        """Zeros [n], for what asks for label indices; nothing depends on them."""
        return np.zeros(len(self), dtype=np.int64)

    @property
    def has_truth(self) -> bool:
        """Whether it is known of every example if it is corrupted."""
        return len(self) > 0 and bool(self.frame["corrupted"].notna().all())

    @property
    def wrong(self) -> npt.NDArray[np.bool_]:
        """Which examples are corrupted [n].

        Raises:
            DataError: that is not known of every example.
        """
        if not self.has_truth:
            raise DataError("it is not known which completions are corrupted; name the column that says so.")
        return self.frame["corrupted"].to_numpy(dtype=bool)

    def take(self, rows: Iterable[int] | npt.NDArray[np.int64]) -> Completions:
        """The examples at these positions, in this order; uids stay."""
        return replace(self, frame=self.frame.iloc[np.asarray(list(rows), dtype=int)].reset_index(drop=True))

    def without(self, removed: Iterable[str]) -> Completions:
        """All examples but those with these uids."""
        return replace(self, frame=self.frame[~self.frame["uid"].isin(set(removed))].reset_index(drop=True))

    def swapped(self, share: float = 0.2, *, seed: int = 0) -> Completions:
        """The same prompts, a random share of which exchange their completions: noise made on purpose.

        Every completion is still a good one, to another prompt. What is known to be corrupted already stays so.

        Args:
            share: of the examples, in (0, 1]; at least two are swapped.
            seed: of the draw.

        Returns:
            Examples with ``corrupted`` known of all; swapped ones have new uids.

        Raises:
            DataError: there are no completions, fewer than two different ones were drawn, or the share is out of range.
        """
        if not 0 < share <= 1:
            raise DataError(f"share is {share}; it must be above 0 and at most 1.")
        replies = list(self.frame["reply"])
        if any(reply is None for reply in replies):
            raise DataError("texts alone have no completions to swap; read the data with a completion column.")
        rng = np.random.default_rng(seed)
        drawn = rng.permutation(len(self))[: max(2, round(share * len(self)))]
        # Equal completions side by side, turned by as many as there are of the commonest: no prompt keeps its own.
        drawn = np.array(sorted(drawn.tolist(), key=lambda row: str(replies[row])))
        given = [replies[row] for row in drawn]
        commonest, turn = Counter(given).most_common(1)[0]
        if 2 * turn > len(given):
            raise DataError(
                f"{turn} of the {len(given)} completions drawn are {commonest[:40]!r}, so not all of them can be "
                "exchanged for another one; give more varied data, or another share or seed."
            )
        for row, reply in zip(drawn, given[turn:] + given[:turn], strict=True):
            replies[row] = reply
        was = [not is_missing(flag) and bool(flag) for flag in self.frame["corrupted"]]
        swapped = set(drawn.tolist())
        frame = self.frame.assign(
            uid=uids(self.frame["text"], replies),
            reply=np.array(replies, dtype=object),
            corrupted=np.array([flag or row in swapped for row, flag in enumerate(was)], dtype=object),
        )
        return replace(self, frame=frame)

    @property
    def fingerprint(self) -> str:
        """Hash over texts, groups and what is known to be corrupted, in order."""
        return fingerprint([list(self.frame[c]) for c in ("uid", "group", "corrupted")])


@dataclass(frozen=True, eq=False)
class CompletionSplits:
    """The parts of a data set of completions.

    Attributes:
        train: what is tuned on, and in question.
        validation: trusted; early stop and rankings look at it.
    """

    train: Completions
    validation: Completions


def _check_cells(role: str, cells: list[Any]) -> None:
    for row, cell in enumerate(cells):
        if not is_missing(cell) and not isinstance(cell, str):
            raise DataError(f"the {role} in row {row} is {cell!r}, a {type(cell).__name__}; expected text.")
    empty = [row for row, cell in enumerate(cells) if is_missing(cell)]
    if empty:
        raise DataError(
            f"{len(empty)} of {len(cells)} {role}s are empty, the first in row {empty[0]}: there is nothing to learn "
            "from them; fill them in or leave these rows out."
        )
    if len(cells) > 1 and len(set(cells)) == 1:
        remedy = " For texts without prompts, leave the completions out." if role == "prompt" else ""
        raise DataError(f"all {len(cells)} {role}s are the same ({cells[0][:40]!r}); is it the right column?{remedy}")
