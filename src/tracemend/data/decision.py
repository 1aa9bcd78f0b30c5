"""A decision on the data, and what a series of them comes to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from tracemend.errors import RunError, did_you_mean

Kind = Literal["label", "remove", "keep", "ask", "word", "comment"]
# These say what becomes of an example, and the latest holds. Questions, words and comments stand beside them.
ACTS: frozenset[Kind] = frozenset({"label", "remove", "keep"})
# Who wrote the decisions of an unattended repair; no person has this name.
MACHINE = "repair"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One row of the ledger.

    Attributes:
        uid: the example it is about.
        kind: ``label`` (give it the label ``new``), ``remove``, ``keep`` (looked at and left), ``ask`` (a person
            is asked; nothing becomes of it until an answer), ``word`` or ``comment``.
        old: what was there before, such as the old label.
        new: the new label, the word or the comment; None for ``remove``, ``keep`` and ``ask``.
        scope: what it holds for; ``example`` is this example alone.
        round: the round of the loop in which it fell, from 1; 0 outside any loop.
        score: how suspicious the example was, in the units of the detector; None where nothing was scored.
        evidence: JSON values; ``reason`` is the sentence that the diff shows.
        actor: who decided: a method's name or a person's.
        time: UTC, ISO 8601; the ledger fills it in.
        version: number of the row, from 1 without gaps; the ledger fills it in.
        undoes: version of the row that this one takes back.

    Raises:
        RunError: the kind is unknown, or a label, word or comment has no ``new``.

    Example:
        >>> Decision(uid="4f0c-0", kind="label", old="safe", new="unsafe", round=1, actor="gbair").new
        'unsafe'
    """

    uid: str
    kind: Kind
    old: str | None = None
    new: str | None = None
    scope: str = "example"
    round: int = 0
    score: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    actor: str = "user"
    time: str = ""
    version: int = 0
    undoes: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise RunError(f"decision kind {self.kind!r} is {did_you_mean(self.kind, get_args(Kind))}")
        if self.undoes is None and self.new is None and self.kind in ("label", "word", "comment"):
            raise RunError(f"a decision of kind {self.kind!r} on {self.uid} has no new value; give it as new=...")


def person(name: str) -> str:
    """The name, where it is not that of the unattended repair, whose decisions are told from those of people by it.

    Raises:
        RunError: it is, in whatever letters.

    Example:
        >>> person("Ada")
        'Ada'
    """
    if " ".join(name.split()).lower() == MACHINE:
        raise RunError(f"the name {MACHINE!r} is that of the unattended repair; choose another.")
    return name


def undone(decisions: Iterable[Decision]) -> dict[int, Decision]:
    """Which rows do not stand: version -> the row that undoes it.

    An undo can itself be undone; then what it took back stands again.
    """
    found: dict[int, Decision] = {}
    # A row only undoes earlier ones, so from the end each is judged after all that could undo it.
    for row in sorted(decisions, key=lambda d: d.version, reverse=True):
        if row.undoes is not None and row.version not in found:
            found[row.undoes] = row
    return found


def replay(decisions: Iterable[Decision]) -> dict[str, Decision]:
    """What is in force: uid -> its latest label, remove or keep that is not undone.

    A pure function of the rows, in the order of their versions: the same rows give the same state anywhere.
    """
    rows = sorted(decisions, key=lambda d: d.version)
    gone = undone(rows)
    return {d.uid: d for d in rows if d.kind in ACTS and d.undoes is None and d.version not in gone}
