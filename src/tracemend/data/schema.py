"""Labelled text in one shape: what every other room takes and gives."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracemend.data.labels import is_missing, label_name
from tracemend.errors import DataError, did_you_mean
from tracemend.runs import fingerprint

# The canonical columns, in this order; `reply`, `group` and `truth` hold None where the data has none.
COLUMNS = ("uid", "text", "reply", "label", "group", "truth")


# Beside these a row of a file carries where it stood in it, counted from 0; written files leave it out.
ROW = "source_row"
RIDING = "original_"


def riding(name: str, taken: Container[str]) -> str:
    """What a user's column is called beside canonical ones; :func:`own_name` takes it back.

    Example:
        >>> riding("votes", COLUMNS), riding("truth", COLUMNS), riding("original_truth", COLUMNS)
        ('votes', 'original_truth', 'original_original_truth')
    """
    return RIDING + name if _bare(name) in taken else name


def own_name(name: str, taken: Container[str]) -> str:
    """What a column that rode along is called in its user's file.

    Example:
        >>> own_name("original_truth", COLUMNS), own_name("original_votes", COLUMNS)
        ('truth', 'original_votes')
    """
    return name.removeprefix(RIDING) if _bare(name) in taken else name


def _bare(name: str) -> str:
    while name.startswith(RIDING):
        name = name.removeprefix(RIDING)
    return name


def uids(texts: Iterable[str], replies: Iterable[str | None]) -> list[str]:
    """Content hash of each example plus its occurrence number, never of the label.

    Example:
        >>> a, b = uids(["hi", "hi"], [None, None])
        >>> a.split("-")[0] == b.split("-")[0], a.endswith("-0"), b.endswith("-1")
        (True, True, True)
    """
    seen: dict[str, int] = {}
    names = []
    for text, reply in zip(texts, replies, strict=True):
        # The unit separator cannot be confused with text, so ("a", "b") and ("ab", None) differ.
        content = text if reply is None else f"{text}\x1f{reply}"
        name = hashlib.sha256(content.encode()).hexdigest()[:12]
        seen[name] = seen.get(name, -1) + 1
        names.append(f"{name}-{seen[name]}")
    return names


def members(groups: Iterable[Any]) -> npt.NDArray[np.int64]:
    """Number of each example's group [n]; an example without one (None, NaN) is a group of its own.

    Example:
        >>> members(["Ada", None, "Ada", None]).tolist()
        [0, 1, 0, 2]
    """
    seen: dict[tuple[str, Any], int] = {}
    names = [("alone", i) if is_missing(name) else ("group", name) for i, name in enumerate(groups)]
    return np.array([seen.setdefault(name, len(seen)) for name in names], dtype=np.int64)


class Examples(Protocol):
    """What can be traced: :class:`Labelled` texts, or :class:`~tracemend.data.Completions`."""

    def __len__(self) -> int:
        """How many."""

    @property
    def frame(self) -> pd.DataFrame:
        """One row an example with at least ``uid``, ``text``, ``reply`` and ``label``."""

    @property
    def uid(self) -> list[str]:
        """The examples' ids, in order."""

    @property
    def pairs(self) -> list[tuple[str, str | None]]:
        """The one or two texts of each example."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; none where the loss is not about classes."""

    @property
    def y(self) -> npt.NDArray[np.int64]:
        """Label indices [n]; zeros where there are no labels."""

    @property
    def fingerprint(self) -> str:
        """Hash over all that a gradient depends on, in order."""

    def take(self, rows: Iterable[int] | npt.NDArray[np.int64]) -> Self:
        """The examples at these positions, in this order; uids stay."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """Texts with labels.

    Attributes:
        frame: one row an example with the columns of ``COLUMNS``, all strings or None, index 0..n-1; further
            columns (votes, say) ride along unread.
        labels: the label names; ``y`` indexes into them.
        positive: the label whose average precision is reported (default: the rarer).
        notes: sentences for the report (rows dropped); they are no part of the fingerprint.

    Example:
        >>> data = Labelled.make(["you rock", "go away"], ["safe", "unsafe"])
        >>> data.labels, data.y.tolist(), len(data)
        (('safe', 'unsafe'), [0, 1], 2)
    """

    frame: pd.DataFrame
    labels: tuple[str, ...]
    positive: str
    notes: tuple[str, ...] = ()

    @classmethod
    def make(
        cls,
        texts: Iterable[str],
        labels: Iterable[str | int | np.integer[Any]],
        *,
        replies: Iterable[str | None] | None = None,
        groups: Iterable[str | None] | None = None,
        truth: Iterable[str | int | np.integer[Any] | None] | None = None,
        label_names: Iterable[str | int | np.integer[Any]] | None = None,
        positive: str | int | np.integer[Any] | None = None,
        extra: pd.DataFrame | None = None,
    ) -> Labelled:
        """Build from columns; a label that is no text, such as 1 or True, gets its :func:`label_name`.

        Raises:
            DataError: columns differ in length or are empty, a text is missing, a label is missing or none of
                ``label_names``, or ``positive`` is no label.

        Example:
            >>> Labelled.make(["you rock", "go away"], [0, 1]).labels
            ('0', '1')
        """
        text, label = list(texts), [_named(label, row) for row, label in enumerate(labels)]
        nothing: list[str | None] = [None] * len(text)
        reply, group = (nothing if of is None else list(of) for of in (replies, groups))
        true = nothing if truth is None else list(truth)
        for name, column in (("labels", label), ("replies", reply), ("groups", group), ("truth", true)):
            if len(column) != len(text):
                raise DataError(f"{len(text)} texts and {len(column)} {name} were given; give one for each text.")
        if not text and label_names is None:
            raise DataError("no text was given; give one at least, or read a table with tracemend.data.read.")
        for row, cell in enumerate(text):
            if not isinstance(cell, str):
                raise DataError(f"text {cell!r} in row {row} is no text; leave such rows out.")
        columns: dict[str, list[Any]] = {
            "uid": uids(text, reply),
            "text": text,
            "reply": reply,
            "label": label,
            "group": group,
            "truth": [t if t is None else _named(t, row) for row, t in enumerate(true)],
        }
        frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
        if extra is not None:
            frame = pd.concat([frame, extra.reset_index(drop=True)], axis=1)
        names = tuple(sorted(set(columns["label"]))) if label_names is None else tuple(map(_text, label_names))
        for row, one in enumerate(label):
            if one not in names:
                raise DataError(f"label {one!r} in row {row} is {did_you_mean(one, names)}")
        if positive is None:
            counts = frame["label"].value_counts()
            positive = min(names, key=lambda name: (counts.get(name, 0), -names.index(name)))
        positive = _text(positive)
        if positive not in names:
            raise DataError(f"the positive label {positive!r} is {did_you_mean(positive, names)}")
        return cls(frame, names, positive)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def uid(self) -> list[str]:
        """The examples' ids, in order."""
        return list(self.frame["uid"])

    @property
    def pairs(self) -> list[tuple[str, str | None]]:
        """(text, reply) of each example; reply is None where there is one text only."""
        return list(zip(self.frame["text"], self.frame["reply"], strict=True))

    @property
    def y(self) -> npt.NDArray[np.int64]:
        """Label indices [n] into ``labels``."""
        return self._indices("label")

    @property
    def has_truth(self) -> bool:
        """Whether every example carries its true label (data corrupted on purpose, or audited)."""
        return len(self) > 0 and bool(self.frame["truth"].notna().all())

    @property
    def wrong(self) -> npt.NDArray[np.bool_]:
        """Which labels differ from the truth [n].

        Raises:
            DataError: there is no truth column.
        """
        if not self.has_truth:
            raise DataError("the true labels are not known; name their column with --truth.")
        return (self.frame["label"] != self.frame["truth"]).to_numpy(dtype=bool)

    def _indices(self, column: str) -> npt.NDArray[np.int64]:
        index = {name: i for i, name in enumerate(self.labels)}
        return np.array([index[value] for value in self.frame[column]], dtype=np.int64)

    @property
    def positive_index(self) -> int:
        """Index of the positive label."""
        return self.labels.index(self.positive)

    def take(self, rows: Iterable[int] | npt.NDArray[np.int64]) -> Labelled:
        """The examples at these positions, in this order; uids stay."""
        return replace(self, frame=self.frame.iloc[np.asarray(list(rows), dtype=int)].reset_index(drop=True))

    def without(self, removed: Iterable[str]) -> Labelled:
        """All examples but those with these uids."""
        return replace(self, frame=self.frame[~self.frame["uid"].isin(set(removed))].reset_index(drop=True))

    def relabelled(self, changes: Mapping[str, str]) -> Labelled:
        """The same examples with the labels of these uids changed.

        Raises:
            DataError: a new label is not one of ``labels``.
        """
        for uid, label in changes.items():
            if label not in self.labels:
                raise DataError(f"new label {label!r} for {uid} is {did_you_mean(label, self.labels)}")
        frame = self.frame.copy()
        frame["label"] = [changes.get(u, old) for u, old in zip(frame["uid"], frame["label"], strict=True)]
        return replace(self, frame=frame)

    def with_truth_as_label(self) -> Labelled:
        """The same examples carrying their true labels: the clean set behind a corrupted one."""
        if not self.has_truth:
            raise DataError("the true labels are not known; name their column with --truth.")
        return replace(self, frame=self.frame.assign(label=self.frame["truth"]))

    @property
    def group_ids(self) -> npt.NDArray[np.int64]:
        """A number of what each example is part of [n]: its group, or itself where it has none.

        Example:
            >>> Labelled.make(list("abcd"), list("xyxy"), groups=["g", None, "g", None]).group_ids.tolist()
            [0, 1, 0, 2]
        """
        return members(self.frame["group"])

    @property
    def fingerprint(self) -> str:
        """Hash over texts, labels, true labels and groups, in order."""
        columns = [list(self.frame[c]) for c in ("uid", "label", "group", "truth")]
        return fingerprint(columns, self.labels, self.positive)


def _written(cell: Any) -> str:
    """A further cell as text, the same whatever of pandas' kinds of nothing and of lists it is read back as."""
    return "" if is_missing(cell) else str(cell.tolist() if isinstance(cell, np.ndarray) else cell)


def _text(name: str | int | np.integer[Any]) -> str:
    """The name of a label as text; what cannot be one, as it is written, so that it is refused by its name."""
    try:
        return name if isinstance(name, str) else label_name(name) or str(name)
    except TypeError:
        return str(name)


def _named(label: object, row: int) -> str:
    """A label as text; text stays as it is."""
    try:
        name = label if isinstance(label, str) else label_name(label)
    except TypeError:
        name = None
    if name is None:
        raise DataError(
            f"label {label!r} in row {row} is none: labels are text, whole numbers or booleans. Leave such rows out."
        )
    return name


@dataclass(frozen=True, eq=False)
class Splits:
    """The parts of a data set, each with one role (docs/design.md).

    Attributes:
        train: what is tuned on, and traced.
        validation: early stop, ranking, fitting.
        verdict: comparison only; never ranks, fits or stops anything.
        test: published figures; may be None.
        notes: sentences for the report (rows dropped, duplicates, how the split was made).
        given: names of the parts that were not taken out of the same data as ``train``.
    """

    train: Labelled
    validation: Labelled
    verdict: Labelled
    test: Labelled | None = None
    notes: tuple[str, ...] = ()
    given: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """The label names."""
        return self.train.labels

    @property
    def parts(self) -> dict[str, Labelled]:
        """The parts there are, by name."""
        parts = {"train": self.train, "validation": self.validation, "verdict": self.verdict, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def fingerprints(self) -> dict[str, str]:
        """One hash a part, and one of the further columns, which steer nothing and are kept with a run."""
        further = [part.frame.drop(columns=list(COLUMNS)) for part in self.parts.values()]
        cells = [[str(name), [_written(cell) for cell in own[name]]] for own in further for name in own.columns]
        return {name: part.fingerprint for name, part in self.parts.items()} | {"columns": fingerprint(cells)}

    def with_train(self, train: Labelled) -> Splits:
        """The same splits with another training set."""
        return replace(self, train=train)
