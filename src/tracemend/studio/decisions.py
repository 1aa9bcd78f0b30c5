"""What people decide: written to the run's ledger, checked against what they had seen, and always to be undone."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tracemend.data.decision import ACTS, MACHINE, Decision, person, replay, undone
from tracemend.data.ledger import Ledger
from tracemend.data.words import words_of
from tracemend.errors import RunError

Basis = Literal["people", "all"]
Scope = Literal["example", "all"]
# A kind and a new value.
Act = tuple[Literal["label", "remove", "keep", "comment"], str | None]
# Characters of a name, a word, a comment.
NAME, WORD, COMMENT = 80, 200, 4_000
# What is said where a retraining would change nothing.
NOTHING = (
    "no label was changed, nothing removed and no word of a training text marked, so a new model would be the old "
    "one; decide first."
)
# Others may write between a check and a write; then both are done again.
_TRIES = 20


class Conflict(RunError):
    """Somebody else decided on the example after it was last looked at; nothing was written."""


@dataclass(frozen=True)
class Rows:
    """The ledger as it was at one version, with what follows from it.

    Attributes:
        version: of the ledger.
        all: every row, oldest first.
        gone: rows that do not stand: version -> the row that undoes it.
        people: uid -> the label, remove or keep of a person that is in force.
        machine: the same of an unattended repair: a proposal, until a person agrees.
        touched: uid -> last row about it.
    """

    version: int
    all: tuple[Decision, ...]
    gone: Mapping[int, Decision] = field(default_factory=dict)
    people: Mapping[str, Decision] = field(default_factory=dict)
    machine: Mapping[str, Decision] = field(default_factory=dict)
    touched: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Sequence[Decision]) -> Rows:
        """Work out what stands."""
        gone = undone(rows)
        people = replay(d for d in rows if d.actor != MACHINE or d.undoes)
        # An undo by a person takes a proposal away as well.
        machine = replay(d for d in rows if d.actor == MACHINE or d.undoes)
        touched = {d.uid: d.version for d in rows}
        return cls(rows[-1].version if rows else 0, tuple(rows), gone, people, machine, touched)

    def in_force(self, basis: Basis) -> dict[str, Decision]:
        """uid -> what is carried out: by people alone, or also the repair's where no person decided."""
        return dict(self.people) if basis == "people" else {**self.machine, **self.people}

    def notes(self, uid: str) -> list[Decision]:
        """Words and comments about an example that stand; also words marked for all examples."""
        return [
            d
            for d in self.all
            if d.kind not in ACTS and d.undoes is None and d.version not in self.gone and uid in (d.uid, "")
        ]

    def words(self) -> list[Decision]:
        """All marks on words that stand."""
        return [d for d in self.all if d.kind == "word" and d.undoes is None and d.version not in self.gone]


class Review:
    """Reads and writes the ledger of a run for any number of people at once.

    Args:
        run: the run directory.

    Example:
        >>> review = Review("runs/demo")
        >>> review.decide("Ada", {"4f0c9a7be1d2-0": ("label", "safe")}, seen={"4f0c9a7be1d2-0": 0})
        [1]
    """

    def __init__(self, run: Path | str) -> None:
        self.path = Path(run) / "ledger.sqlite"
        self._lock = threading.Lock()
        self._rows = Rows(0, ())

    def rows(self) -> Rows:
        """The ledger as it is now; what was read before is not read again."""
        with self._lock:
            with Ledger(self.path) as ledger:
                new = ledger.decisions(after=self._rows.version)
            if new:
                self._rows = Rows.of([*self._rows.all, *new])
            return self._rows

    def decide(
        self,
        actor: str,
        acts: Mapping[str, Act],
        *,
        seen: Mapping[str, int],
        old: Mapping[str, str] | None = None,
        evidence: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> list[int]:
        """Decide on one or more examples, on all or none of them.

        Args:
            actor: who decides.
            acts: uid -> kind and new value, see :class:`Decision`.
            seen: uid -> the last row about it that the person had seen (``Rows.touched``, 0 for none).
            old: uid -> label as it was.
            evidence: uid -> what the decision rests on.

        Returns:
            Rows of the ledger, on disk when this returns.

        Raises:
            Conflict: somebody decided on one of them since.
            RunError: the actor has no name, or the ledger cannot be written.
        """
        name = checked_name(actor)
        batch = uuid.uuid4().hex[:8]
        made = [
            Decision(
                uid=uid,
                kind=kind,
                old=(old or {}).get(uid),
                new=new,
                actor=name,
                evidence={**(evidence or {}).get(uid, {}), "batch": batch},
            )
            for uid, (kind, new) in acts.items()
        ]
        looked = {uid: seen.get(uid, 0) for uid in acts}
        return self._write(looked, name, lambda ledger, at: ledger.add(made, expected_version=at, resumed=False))

    def mark_word(
        self,
        actor: str,
        uid: str,
        word: str,
        *,
        matters: bool | None,
        scope: Scope,
        seen: int,
        had: int | None = None,
    ) -> list[int]:
        """Say that a word should or should not matter, in one example or in all; None takes the mark back.

        Args:
            seen: the last row about the example that the person had seen.
            had: row of the mark on this word and scope that the person had seen, 0 for none; None is not asked.

        Raises:
            Conflict: see :meth:`decide`; or the word carries another mark than was seen.
            RunError: it is not one word, or too long, or there is no mark to take back.
        """
        name, word = checked_name(actor), word.strip()
        if not 0 < len(word) <= WORD:
            raise RunError(f"the word has {len(word)} characters; 1 to {WORD} are expected.")
        if len(words_of(word)) != 1:
            raise RunError(f"{word!r} is {len(words_of(word))} words; mark each of them by itself.")
        rows = self.rows()
        there = [
            d
            for d in rows.words()
            if str(d.new).casefold() == word.casefold() and d.scope == scope and (scope == "all" or d.uid == uid)
        ]
        if had is not None and [d.version for d in there if d.actor != name and d.version != had]:
            raise Conflict(f"{there[-1].actor} marked {word!r} after you looked; look at the text again, then mark it.")
        if matters is None and not there:
            raise RunError(f"{word!r} carries no mark that could be taken back; look again.")

        def write(ledger: Ledger, at: int) -> list[int]:
            if rows.version != at:
                raise Conflict("somebody else decided in the same moment; look again, and mark it again.")
            with ledger.at_once(expected_version=at):
                done = ledger.undo([d.version for d in there], actor=name)
                if matters is None:
                    return done
                # Who takes it back wants the mark that was there before.
                evidence = {"matters": matters, **({"replaces": done} if done else {})}
                mark = Decision(uid=uid, kind="word", new=word, scope=scope, actor=name, evidence=evidence)
                return ledger.add([mark], resumed=False)

        return self._write({uid: seen}, name, write)

    def undo(self, actor: str, which: int, *, seen: Mapping[str, int] | None = None) -> list[Decision]:
        """Take one decision back, with those made by the same key press.

        Returns:
            The decisions that were taken back.

        Raises:
            Conflict: somebody decided on the example since.
            RunError: there is no such row, or it is undone already.
        """
        name = checked_name(actor)
        rows = self.rows()
        chosen = next((d for d in rows.all if d.version == which), None)
        if chosen is None or chosen.undoes is not None:
            raise RunError(f"row {which} of the ledger is no decision that can be undone; look at the history again.")
        batch = chosen.evidence.get("batch")
        together = [d for d in rows.all if batch and d.evidence.get("batch") == batch and d.undoes is None] or [chosen]
        standing = [d for d in together if d.version not in rows.gone]
        if not standing:
            by = rows.gone[which]
            raise RunError(f"row {which} is undone already, by {by.actor} in row {by.version}.")
        taken = [row for d in standing for row in (d.version, *d.evidence.get("replaces", ())) if row not in rows.gone]
        self._write(
            seen or {d.uid: rows.touched[d.uid] for d in standing},
            name,
            lambda ledger, at: ledger.undo(taken, actor=name, expected_version=at),
        )
        return standing

    def last(self, actor: str) -> Decision | None:
        """The actor's last decision that stands; it is in the ledger, so it outlives any restart."""
        rows = self.rows()
        mine = (d for d in reversed(rows.all) if d.actor == actor and d.undoes is None and d.version not in rows.gone)
        return next(mine, None)

    def _write(self, seen: Mapping[str, int], actor: str, write: Any) -> list[int]:
        for _ in range(_TRIES):
            rows = self.rows()
            _check_seen(rows, seen, actor)
            with Ledger(self.path) as ledger:
                try:
                    done: list[int] = write(ledger, rows.version)
                except RunError:
                    if ledger.version != rows.version:  # another example was decided on meanwhile: look again
                        continue
                    raise
            return done
        raise RunError(f"{self.path} is written to all the time by others; try again in a moment.")


def checked_name(actor: str) -> str:
    """A person's name as the ledger keeps it.

    Raises:
        RunError: it is empty, too long, not printable, or the repair's.
    """
    name = " ".join(actor.split())
    if not name or len(name) > NAME or not name.isprintable():
        raise RunError(f"a name of 1 to {NAME} printable characters is expected, to stand beside the decisions.")
    return person(name)


def _check_seen(rows: Rows, seen: Mapping[str, int], actor: str) -> None:
    # Marks on words, and one's own comments, change nothing that one decides on.
    late = [
        d
        for d in rows.all
        if d.uid in seen and d.version > seen[d.uid] and (d.kind in ACTS or (d.kind == "comment" and d.actor != actor))
    ]
    if late:
        last = late[-1]
        who = "You decided on it elsewhere" if last.actor == actor else f"{last.actor} decided on it"
        what = "took a decision back" if last.undoes is not None else f"{last.kind} {last.new or ''}".strip()
        more = len({d.uid for d in late}) - 1
        others = f" (and on {more} more)" if more else ""
        raise Conflict(
            f"{who}{others} after you looked ({what}, {last.time}). Nothing was written: look again, then decide."
        )
