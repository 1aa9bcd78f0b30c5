from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.data.ledger import ACTS, Decision, Kind, Ledger, replay
from tracemend.errors import RunError


def relabel(uid: str = "a", new: str = "unsafe", *, round: int = 1, actor: str = "gbair") -> Decision:
    return Decision(uid=uid, kind="label", old="safe", new=new, round=round, actor=actor)


def remove(uid: str = "a", *, round: int = 1, actor: str = "gbair") -> Decision:
    return Decision(uid=uid, kind="remove", old="safe", round=round, actor=actor)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


def test_everything_comes_back_as_it_was_written(path: Path) -> None:
    decision = Decision(
        uid="a", kind="label", old="safe", new="ünsafe", scope="group", round=3, score=np.float32(0.5),
        evidence={"reason": "pushed 3 errors", "influence": np.array([-0.5, 0.25])}, actor="Ada",
    )  # fmt: skip
    with Ledger(path) as ledger:
        assert ledger.version == 0 and ledger.state() == {} and ledger.rows().empty
        assert ledger.add([decision]) == [1]
    with Ledger(path) as ledger:
        (found,) = ledger.decisions()
        assert ledger.version == 1
    assert (found.uid, found.kind, found.old, found.new) == ("a", "label", "safe", "ünsafe")
    assert (found.scope, found.round, found.score, found.actor) == ("group", 3, 0.5, "Ada")
    assert found.evidence == {"reason": "pushed 3 errors", "influence": [-0.5, 0.25]}
    assert found.version == 1 and found.undoes is None
    assert found.time.endswith("+00:00")


def test_rows_is_a_table_any_format_can_hold(path: Path, tmp_path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.add([relabel("a"), remove("b"), Decision(uid="b", kind="comment", new="sarcasm")])
        ledger.add([remove("a", round=2)])
        ledger.undo("b")
        rows = ledger.rows()
    assert list(rows.version) == [1, 2, 3, 4, 5]
    # Superseded by round 2, undone, a comment, in force, an undo.
    assert list(rows.in_force) == [False, False, True, True, False]
    assert list(rows.undoes.dropna()) == [2]
    assert json.loads(rows.evidence[0]) == {}
    rows.to_parquet(tmp_path / "rows.parquet")


def test_undo_by_uid_gives_the_example_back_and_undo_by_row_only_that_row(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.add([relabel("a", round=1), remove("a", round=2), remove("b")])
        ledger.undo(2)
        assert ledger.state()["a"].kind == "label"
        ledger.undo("a", actor="Ada")
        assert set(ledger.state()) == {"b"}
        undo = ledger.decisions()[-1]
        assert (undo.old, undo.new, undo.undoes, undo.actor) == ("unsafe", "safe", 1, "Ada")
        ledger.undo(undo.version)
        assert ledger.state()["a"].version == 1


def test_several_rows_are_undone_all_or_none(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.add([remove(uid) for uid in "abc"])
        for which, message in (([1, 2, 9], "no row 9"), ([1, 3, 3], "already undone")):
            if message == "already undone":
                ledger.undo(3)
            before = ledger.version
            with pytest.raises(RunError, match=message):
                ledger.undo(which)
            assert ledger.version == before
        assert ledger.undo([2, 1, 1], actor="Ada") == [5, 6] and ledger.state() == {}
        assert ledger.undo([]) == []


def test_what_is_written_at_once_is_there_as_a_whole_or_not_at_all(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.add([remove("a")])
        odd = Decision(uid="a", kind="remove", evidence={"file": {1}})
        with pytest.raises(RunError, match="evidence holds a set"), ledger.at_once():
            ledger.add([odd], expected_version=ledger.undo(1)[0])
        assert ledger.version == 1
        with pytest.raises(RunError, match="is at version 1, expected 0"), ledger.at_once(expected_version=0):
            ledger.undo(1)
        with ledger.at_once(expected_version=1):
            ledger.undo(1)
            ledger.add([remove("b")])
        assert set(ledger.state()) == {"b"}


def test_what_cannot_be_undone_says_so(path: Path) -> None:
    with Ledger(path) as ledger:
        with pytest.raises(RunError, match="none in force"):
            ledger.undo("a")
        ledger.add([remove("abc")])
        with pytest.raises(RunError, match="did you mean 'abc'"):
            ledger.undo("abd")
        with pytest.raises(RunError, match="no row 7; its rows are 1 to 1"):
            ledger.undo(7)
        ledger.undo(1)
        with pytest.raises(RunError, match="already undone, by row 2"):
            ledger.undo(1)
        with pytest.raises(RunError, match="call undo"):
            ledger.add([Decision(uid="abc", kind="remove", undoes=1)])
        assert ledger.version == 2


def test_a_resumed_run_doubles_nothing(path: Path) -> None:
    batch = [relabel("a", round=1), remove("b", round=1)]
    later = [relabel("a", "safe", round=2), Decision(uid="a", kind="comment", new="hm", round=2)]
    with Ledger(path) as ledger:
        assert ledger.add(batch) == [1, 2]
        assert ledger.add(later) == [3, 4]
        assert ledger.add(batch) == [1, 2]
        assert ledger.add(later + later) == [3, 4, 3, 4]
        assert ledger.version == 4
        assert ledger.state()["a"].new == "safe"


def test_a_resumed_run_does_not_overrule_a_person_but_the_person_may_think_again(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.add([remove("a")])
        ledger.undo("a", actor="Ada")
        assert ledger.add([remove("a")]) == [1]
        assert ledger.state() == {}
        assert ledger.add([remove("a", actor="Ada")]) == [3]
        assert ledger.state()["a"].actor == "Ada"


def test_changing_ones_mind_to_and_fro_is_not_a_repetition(path: Path) -> None:
    with Ledger(path) as ledger:
        for new in ("unsafe", "safe", "unsafe"):
            ledger.add([relabel("a", new, round=0)])
        assert ledger.version == 3 and ledger.state()["a"].new == "unsafe"


def test_a_bad_decision_writes_nothing_of_its_batch(path: Path) -> None:
    with Ledger(path) as ledger:
        with pytest.raises(RunError, match="evidence holds a set"):
            ledger.add([remove("a"), Decision(uid="b", kind="remove", evidence={"file": {1}})])
        assert ledger.version == 0
        ledger.add([remove("c")])
    with pytest.raises(RunError, match="did you mean 'label'"):
        Decision(uid="a", kind="labl", new="safe")
    with pytest.raises(RunError, match="no new value"):
        Decision(uid="a", kind="label")


def test_expected_version(path: Path) -> None:
    with Ledger(path) as mine, Ledger(path) as theirs:
        seen = mine.version
        theirs.add([remove("a")])
        with pytest.raises(RunError, match="is at version 1, expected 0"):
            mine.add([remove("b")], expected_version=seen)
        with pytest.raises(RunError, match="is at version 1, expected 0"):
            mine.undo("a", expected_version=seen)
        assert mine.add([remove("b")], expected_version=mine.version) == [2]


def test_the_file_refuses_changes_and_deletions(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.add([remove("a")])
    with sqlite3.connect(path) as raw:
        for statement in ("UPDATE decisions SET uid = 'b'", "DELETE FROM decisions"):
            with pytest.raises(sqlite3.DatabaseError, match="append-only"):
                raw.execute(statement)


def test_files_that_are_no_ledger(tmp_path: Path) -> None:
    text = tmp_path / "text.sqlite"
    text.write_text("this is not a database, but long enough to look at" * 50)
    with pytest.raises(RunError, match="damaged or not a ledger"):
        Ledger(text)
    assert text.read_text().startswith("this is not")
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as raw:
        raw.execute("CREATE TABLE mine (a)")
    raw.close()
    with pytest.raises(RunError, match="not a ledger of tracemend"):
        Ledger(other)
    newer = tmp_path / "newer.sqlite"
    Ledger(newer).close()
    with sqlite3.connect(newer) as raw:
        raw.execute("PRAGMA user_version = 9")
    raw.close()
    with pytest.raises(RunError, match="format 9"):
        Ledger(newer)
    with pytest.raises(RunError, match="cannot be opened"):
        Ledger(tmp_path)
    with pytest.raises(RunError, match="cannot be opened"):
        Ledger(text / "ledger.sqlite")


def test_a_damaged_ledger(path: Path) -> None:
    with Ledger(path) as ledger:
        ledger.add([remove(f"uid-{i}") for i in range(500)])
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 6] = os.urandom(4096 * 3)
    path.write_bytes(content)
    with pytest.raises(RunError, match="is damaged"), Ledger(path) as ledger:
        ledger.decisions()


def test_an_empty_file_left_by_a_kill_becomes_a_ledger(path: Path) -> None:
    path.touch()
    with Ledger(path) as ledger:
        assert ledger.add([remove()]) == [1]


def test_closed(path: Path) -> None:
    with Ledger(path) as ledger:
        pass
    with pytest.raises(RunError, match="was closed"):
        ledger.state()


# Forked, not started anew: a new interpreter would spend its time on importing the room.
PROCESSES = multiprocessing.get_context("fork")


def write_batches(path: Path, name: str) -> None:
    with Ledger(path) as ledger:
        for i in range(15):
            ledger.add([remove(f"{name}-{i}-{j}", actor=name) for j in range(3)])


def test_two_processes_at_once_lose_nothing(path: Path) -> None:
    # The file does not exist yet: both also race to make it.
    writers = [PROCESSES.Process(target=write_batches, args=(path, name)) for name in ("x", "y")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    with Ledger(path) as ledger:
        assert len(ledger.state()) == ledger.version == 2 * 15 * 3
        order = [d.actor for d in ledger.decisions()]
    assert all(len(set(order[i : i + 3])) == 1 for i in range(0, len(order), 3)), "a batch was torn apart"


def test_optimistic_writers_lose_nothing(path: Path) -> None:
    Ledger(path).close()

    def count(name: str) -> None:
        done = 0
        with Ledger(path) as ledger:
            while done < 10:
                try:
                    ledger.add([remove(f"{name}-{done}")], expected_version=ledger.version)
                    done += 1
                except RunError:
                    continue

    threads = [threading.Thread(target=count, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with Ledger(path) as ledger:
        assert ledger.version == len(ledger.state()) == 30


def write_without_end(path: Path) -> None:
    with Ledger(path) as ledger:
        i = ledger.version
        while True:
            i += 1
            evidence = {"reason": "x" * 2000}
            ledger.add([Decision(uid=f"{i}-{j}", kind="remove", evidence=evidence) for j in range(5)])


@pytest.mark.slow
def test_a_kill_in_mid_write_leaves_whole_batches(path: Path) -> None:
    seen = 0
    for wait in (0.0, 0.013, 0.031, 0.1):
        writer = PROCESSES.Process(target=write_without_end, args=(path,))
        writer.start()
        try:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                if path.exists():
                    with Ledger(path) as ledger:
                        if ledger.version > seen:
                            break
                time.sleep(0.005)
            time.sleep(wait)
        finally:
            writer.kill()
            writer.join(10)
        assert writer.exitcode == -signal.SIGKILL
        with Ledger(path) as ledger:
            version = ledger.version
            assert version > seen and version % 5 == 0
            assert [d.version for d in ledger.decisions()] == list(range(1, version + 1))
            ledger.add([remove(f"after-{version}-{j}") for j in range(5)])
            seen = version + 5
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    raw.close()


KINDS = st.sampled_from(["label", "remove", "keep", "ask", "comment"])


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abc"), KINDS, st.integers(0, 2)),
            st.integers(1, 12),
            st.sampled_from("abc"),
        ),
        max_size=14,
    )
)
def test_any_history_replays_to_the_same_state(steps: list[tuple[str, Kind, int] | int | str]) -> None:
    """Against a model that carries a list of standing rows instead of replaying."""
    standing: dict[int, Decision] = {}  # acts only, by version
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
        for step in steps:
            before = ledger.version
            if isinstance(step, tuple):
                uid, kind, round = step
                new = "x" if kind in ("label", "comment") else None
                ledger.add([Decision(uid=uid, kind=kind, new=new, round=round)])
                row = ledger.decisions()[-1]
                if ledger.version > before and kind in ACTS:
                    standing[row.version] = row
                continue
            try:
                written = ledger.undo(step)
            except RunError:
                assert ledger.version == before
                continue
            rows = {d.version: d for d in ledger.decisions()}
            for undo in (rows[version] for version in written):
                # Follow the chain of undos to the row it is about; an odd number of them takes it away.
                target, odd = rows[undo.undoes or 0], True
                while target.undoes is not None:
                    target, odd = rows[target.undoes], not odd
                if odd:
                    standing.pop(target.version, None)
                elif target.kind in ACTS:
                    standing[target.version] = target
        expected = {standing[version].uid: standing[version] for version in sorted(standing)}
        decisions = ledger.decisions()
        assert ledger.state() == expected
        assert replay(reversed(decisions)) == expected
        for uid in list(expected):
            ledger.undo(uid)
        assert ledger.state() == {}
        assert ledger.decisions()[: len(decisions)] == decisions, "append-only"
