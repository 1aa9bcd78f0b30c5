"""The ledger: every decision on the data, append-only, in one SQLite file.

Nothing is ever changed or deleted in it: taking a decision back is a further row that names the row it undoes.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd

from tracemend.data.decision import ACTS, Decision, Kind, replay, undone
from tracemend.errors import RunError, did_you_mean

__all__ = ["ACTS", "Decision", "Kind", "Ledger", "replay", "undone"]

_FIELDS = tuple(f.name for f in fields(Decision))
_APPLICATION = 0x54524D44  # "TRMD" in the file's header: how a ledger is told from any other SQLite file.
_SCHEMA = 1
_PATIENCE = 30.0  # seconds to wait for another writer
_ASKED = 500  # examples that are asked for by name
_CREATE = (
    """CREATE TABLE decisions (
        version INTEGER PRIMARY KEY, uid TEXT NOT NULL, kind TEXT NOT NULL, old TEXT, new TEXT, scope TEXT NOT NULL,
        round INTEGER NOT NULL, score REAL, evidence TEXT NOT NULL, actor TEXT NOT NULL, time TEXT NOT NULL,
        undoes INTEGER REFERENCES decisions (version))""",
    "CREATE TRIGGER no_update BEFORE UPDATE ON decisions BEGIN SELECT RAISE(ABORT, 'append-only'); END",
    "CREATE TRIGGER no_delete BEFORE DELETE ON decisions BEGIN SELECT RAISE(ABORT, 'append-only'); END",
    f"PRAGMA application_id = {_APPLICATION}",
    f"PRAGMA user_version = {_SCHEMA}",
)


class Ledger:
    """The decisions of one run.

    Safe against a kill at any moment: a batch is in the file as a whole or not at all. Several processes may write;
    each waits for the other, up to 30 s. An object belongs to the thread that opened it.

    Args:
        path: ``ledger.sqlite`` of the run directory; made if it is not there.

    Raises:
        RunError: the file is not a ledger, damaged, of a newer version, or cannot be written.

    Example:
        >>> with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ...     made = ledger.add([Decision(uid="4f0c-0", kind="remove", old="safe", round=1, actor="gbair")])
        ...     undone = ledger.undo("4f0c-0", actor="Ada")
        ...     made, undone, ledger.state()
        ([1], [2], {})
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        with self._guard():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Autocommit: transactions begin and end where _write says. The rollback journal, unlike WAL, also works on
            # network drives and leaves one file.
            self._connection = sqlite3.connect(self.path, timeout=_PATIENCE, isolation_level=None)
        try:
            with self._guard():
                self._connection.execute("PRAGMA synchronous = FULL")
                self._check_or_create()
        except BaseException:
            self._connection.close()
            raise

    def _check_or_create(self) -> None:
        if self._pragma("application_id") != _APPLICATION:
            with self._write():
                # Looked at again under the lock: another process may just have made it.
                tables = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
                if not tables:
                    for statement in _CREATE:
                        self._connection.execute(statement)
        if self._pragma("application_id") != _APPLICATION:
            raise RunError(
                f"{self.path} is an SQLite file but not a ledger of tracemend; move it away or choose another --out "
                "(nothing was changed)."
            )
        if self._pragma("user_version") > _SCHEMA:
            raise RunError(
                f"{self.path} has ledger format {self._pragma('user_version')}, this tracemend reads up to {_SCHEMA}; "
                "update tracemend."
            )

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; further calls raise RunError."""
        self._connection.close()

    @property
    def version(self) -> int:
        """Number of the last row; 0 while the ledger is empty."""
        with self._guard():
            found = self._connection.execute("SELECT coalesce(max(version), 0) FROM decisions").fetchone()
        return int(found[0])

    def decisions(self, *, after: int = 0) -> list[Decision]:
        """All rows, oldest first, undone ones and undos included; or those alone that came ``after`` a version."""
        return self._read("version > ?", [after])

    def _read(self, where: str, values: Sequence[Any]) -> list[Decision]:
        chosen = f"SELECT {', '.join(_FIELDS)} FROM decisions WHERE {where} ORDER BY version"
        with self._guard():
            rows = self._connection.execute(chosen, values).fetchall()
            found = [dict(zip(_FIELDS, row, strict=True)) for row in rows]
            return [Decision(**{**row, "evidence": json.loads(row["evidence"])}) for row in found]

    def _about(self, uids: set[str]) -> list[Decision]:
        """All rows about these examples; an undo is about the example of what it takes back."""
        if len(uids) > _ASKED:
            return [d for d in self.decisions() if d.uid in uids]
        return self._read(f"uid IN ({', '.join('?' * len(uids))})", sorted(uids))

    def rows(self) -> pd.DataFrame:
        """All rows as a table, oldest first: the fields of :class:`Decision`, then ``in_force``.

        ``evidence`` is JSON text, so that the table can be written to any format. ``in_force`` is true for the row
        that decides what becomes of its example, and for words and comments that are not undone.
        """
        decisions = self.decisions()
        gone, deciding = undone(decisions), {d.version for d in replay(decisions).values()}
        table = pd.DataFrame(
            [{**{name: getattr(d, name) for name in _FIELDS}, "evidence": _json(d.evidence)} for d in decisions],
            columns=list(_FIELDS),
        ).astype({"round": "int64", "version": "int64", "score": "float64", "undoes": "Int64"})
        table["in_force"] = np.array(
            [
                d.version in deciding or (d.kind not in ACTS and d.undoes is None and d.version not in gone)
                for d in decisions
            ],
            dtype=bool,
        )
        return table

    def state(self) -> dict[str, Decision]:
        """What is in force: uid -> its latest label, remove or keep that is not undone (see :func:`replay`)."""
        return replay(self.decisions())

    def add(
        self, decisions: Iterable[Decision], *, expected_version: int | None = None, resumed: bool = True
    ) -> list[int]:
        """Write a batch, as a whole or not at all.

        What a resumed run writes again is not doubled: a decision is skipped where the last one of its round, uid and
        scope has the same kind and new value and stands; a person who decides anew is heard where actor or reason are
        others. If it was undone, only the one who undid it can decide it again; so a resumed run does not overrule a
        person's undo. Words and comments are skipped where the same one
        is there.

        Args:
            decisions: what to write; ``version`` and an empty ``time`` are filled in.
            expected_version: the :attr:`version` the decisions were taken at.
            resumed: whether it may be a run that writes again what it wrote before; a person who decides anew (False)
                means it, whoever took back the same decision before.

        Returns:
            The version of each decision, in order; of the row already there for one that was skipped.

        Raises:
            RunError: somebody else wrote since ``expected_version``, or a decision undoes another (use :meth:`undo`).
        """
        batch = list(decisions)
        if any(d.undoes is not None for d in batch):
            raise RunError("add() was given a row that undoes another; call undo() with its number or uid.")
        with self._guard(), self._write():
            self._expect(expected_version)
            # Of these examples alone: a person waits for it, whatever the length of the ledger.
            there = self._about({d.uid for d in batch})
            gone = undone(there)
            slots: dict[tuple[Any, ...], list[Decision]] = {}
            for row in there:
                if row.undoes is None:
                    slots.setdefault(_slot(row), []).append(row)
            versions = []
            for decision in batch:
                slot = slots.setdefault(_slot(decision), [])
                # What the same actor took back does not count; what somebody else took back blocks a resumed run.
                free = {d.version for d in slot if d.version in gone and _frees(gone[d.version], decision, resumed)}
                last = next((d for d in reversed(slot) if d.version not in free), None)
                if last is None or _said(last, resumed) != _said(decision, resumed):
                    last = self._insert(decision)
                    slot.append(last)
                versions.append(last.version)
        return versions

    def undo(
        self, which: int | str | Sequence[int], *, actor: str = "user", expected_version: int | None = None
    ) -> list[int]:
        """Take decisions back by rows that name them, all or none; nothing is deleted.

        Args:
            which: a version: that row, whatever its kind; an undo can be undone too. Several versions: these rows. A
                uid: every label, remove and keep of that example that stands, so that it is again as in the user's
                file.
            actor: who takes it back.
            expected_version: see :meth:`add`.

        Returns:
            The versions of the rows written.

        Raises:
            RunError: there is no such row, it is already undone, or nothing stands for that uid.
        """
        with self._guard(), self._write():
            self._expect(expected_version)
            there = self.decisions()
            if isinstance(which, str):
                targets = _acts_on(there, which)
            else:
                targets = _rows(there, [which] if isinstance(which, int) else which)
            versions = []
            for row in reversed(targets):
                back = replace(row, old=row.new, new=row.old, undoes=row.version, actor=actor, time="", evidence={})
                versions.append(self._insert(back).version)
        return versions

    def _expect(self, version: int | None) -> None:
        if version is not None and version != self.version:
            raise RunError(
                f"{self.path} is at version {self.version}, expected {version}: somebody else decided in between. "
                "Read it again and decide again; nothing was written."
            )

    def _insert(self, decision: Decision) -> Decision:
        time = decision.time or datetime.now(UTC).isoformat(timespec="seconds")
        row = replace(decision, version=self.version + 1, time=time)
        values = {name: getattr(row, name) for name in _FIELDS} | {"evidence": _json(row.evidence)}
        values["score"] = None if row.score is None else float(row.score)
        marks = ", ".join(f":{name}" for name in _FIELDS)
        self._connection.execute(f"INSERT INTO decisions ({', '.join(_FIELDS)}) VALUES ({marks})", values)
        return row

    @contextlib.contextmanager
    def at_once(self, *, expected_version: int | None = None) -> Iterator[None]:
        """Whatever the block writes is in the file as a whole or not at all.

        Args:
            expected_version: see :meth:`add`.

        Raises:
            RunError: somebody else wrote since ``expected_version``.

        Example:
            >>> with ledger.at_once():
            ...     ledger.undo(1, actor="Ada")
            ...     ledger.add([Decision(uid="4f0c-0", kind="keep", actor="Ada")])
        """
        with self._guard(), self._write():
            self._expect(expected_version)
            yield

    @contextlib.contextmanager
    def _write(self) -> Iterator[None]:
        """One transaction that holds the write lock from its first read, so that no update is lost."""
        if self._connection.in_transaction:  # that of at_once, which ends it
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):  # a full disk has rolled it back already
                self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Say what SQLite's or the system's errors mean here and what to do."""
        try:
            yield
        except sqlite3.ProgrammingError as error:
            raise RunError(f"{self.path} was closed, or belongs to another thread ({error}); open it anew.") from error
        except (sqlite3.Error, OSError) as error:
            raise RunError(f"{self.path} {_remedy(error)}") from error


def _remedy(error: Exception) -> str:
    said = str(error)
    if "locked" in said:
        return f"is held by another process for over {_PATIENCE:.0f} s; end that process and try again."
    if "full" in said:
        return "could not be written: the disk is full (nothing was changed). Free some space and try again."
    if isinstance(error, OSError) or any(word in said for word in ("unable to open", "readonly", "disk I/O")):
        return f"cannot be opened or written ({said}); check that its directory is there and can be written to."
    return (
        f"is damaged or not a ledger of tracemend ({said}); move it away and give the same command again, "
        "or restore a copy (nothing was changed)."
    )


def _said(decision: Decision, resumed: bool) -> tuple[Any, ...]:
    """What must be the same of two decisions that are one."""
    act = (decision.kind, decision.new)
    return act if resumed else (*act, decision.actor, decision.evidence.get("reason"))


def _frees(undo: Decision, decision: Decision, resumed: bool) -> bool:
    return not resumed or undo.actor == decision.actor


def _slot(decision: Decision) -> tuple[Any, ...]:
    """Where a decision replaces an earlier one: one act a round, example and scope, any number of words."""
    place = (decision.round, decision.uid, decision.scope)
    return place if decision.kind in ACTS else (*place, decision.kind, decision.new)


def _rows(there: Sequence[Decision], versions: Sequence[int]) -> list[Decision]:
    known, gone = {d.version: d for d in there}, undone(there)
    for version in versions:
        if version not in known:
            raise RunError(f"the ledger has no row {version}; its rows are 1 to {len(there)}.")
        by = gone.get(version)
        if by is not None:
            raise RunError(
                f"row {version} is already undone, by row {by.version}; undo row {by.version} to restore it."
            )
    return [known[version] for version in sorted(set(versions))]


def _acts_on(there: Sequence[Decision], uid: str) -> list[Decision]:
    gone = undone(there)
    found = [d for d in there if d.uid == uid and d.kind in ACTS and d.undoes is None and d.version not in gone]
    if not found:
        raise RunError(f"no decision on {uid!r} is in force, so none can be undone; it is {_others(there, uid)}")
    return found


def _others(there: Sequence[Decision], uid: str) -> str:
    decided = list(replay(there))
    if not decided:
        return "no uid of a decision: the ledger has none in force."
    shown = decided[:5] + ([f"... ({len(decided) - 5} more, in changes.csv)"] if len(decided) > 5 else [])
    return did_you_mean(uid, shown)


def _json(evidence: Mapping[str, Any]) -> str:
    return json.dumps(dict(evidence), default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise RunError(f"evidence holds a {type(value).__name__}; give JSON values: text, numbers, lists, mappings.")
