from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from tracemend.data.decision import Decision
from tracemend.data.ledger import Ledger
from tracemend.errors import RunError
from tracemend.studio.decisions import Conflict, Review

A, B, C = "aaaaaaaaaaaa-0", "bbbbbbbbbbbb-0", "cccccccccccc-0"


@pytest.fixture
def review(tmp_path: Path) -> Review:
    return Review(tmp_path)


def seen(review: Review, *uids: str) -> dict[str, int]:
    return {uid: review.rows().touched.get(uid, 0) for uid in uids}


def test_a_decision_is_in_the_ledger_with_who_and_when(review: Review, tmp_path: Path) -> None:
    review.decide("Ada", {A: ("label", "safe")}, seen={A: 0}, old={A: "unsafe"})
    [row] = Review(tmp_path).rows().all
    assert (row.actor, row.kind, row.old, row.new, row.version) == ("Ada", "label", "unsafe", "safe", 1)
    assert row.time.endswith("+00:00")


def test_several_are_decided_at_once_and_undone_at_once(review: Review) -> None:
    review.decide("Ada", {A: ("label", "safe"), B: ("keep", None), C: ("remove", None)}, seen=seen(review, A, B, C))
    assert {d.kind for d in review.rows().people.values()} == {"label", "keep", "remove"}
    back = review.undo("Ada", 2)
    assert [d.uid for d in back] == [A, B, C]
    assert review.rows().people == {}


def test_a_write_between_two_rows_of_an_undo_tears_nothing_apart(
    review: Review, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bo decides on another example each time that the ledger was written to for Ada."""
    review.decide("Ada", {A: ("remove", None), B: ("remove", None)}, seen=seen(review, A, B))
    undo, count = Ledger.undo, 0

    def busy(self: Ledger, *args: Any, **options: Any) -> list[int]:
        nonlocal count
        done: list[int] = undo(self, *args, **options)
        count += 1
        if not self._connection.in_transaction:
            Review(tmp_path).decide("Bo", {f"{count:012x}-0": ("keep", None)}, seen={f"{count:012x}-0": 0})
        return done

    monkeypatch.setattr(Ledger, "undo", busy)
    assert len(review.undo("Ada", 2)) == 2
    assert {A, B}.isdisjoint(review.rows().people)


def test_a_mark_that_cannot_be_turned_stays(review: Review, monkeypatch: pytest.MonkeyPatch) -> None:
    review.mark_word("Ada", A, "bunny", matters=False, scope="all", seen=0)

    def full(*args: object, **options: object) -> list[int]:
        raise RunError("the disk is full")

    monkeypatch.setattr(Ledger, "add", full)
    with pytest.raises(RunError, match="disk is full"):
        review.mark_word("Ada", A, "bunny", matters=True, scope="all", seen=1)
    assert [mark.evidence["matters"] for mark in review.rows().words()] == [False]


def test_the_second_of_two_people_is_told_and_nothing_is_lost(review: Review) -> None:
    looked = seen(review, A)
    review.decide("Ada", {A: ("label", "safe")}, seen=looked)
    with pytest.raises(Conflict, match="Ada decided on it after you looked"):
        review.decide("Bo", {A: ("remove", None)}, seen=looked)
    assert review.rows().people[A].actor == "Ada"
    review.decide("Bo", {A: ("remove", None)}, seen=seen(review, A))
    assert review.rows().people[A].kind == "remove"


def test_a_conflict_on_one_of_several_writes_none(review: Review) -> None:
    looked = seen(review, A, B)
    review.decide("Ada", {B: ("keep", None)}, seen=looked)
    with pytest.raises(Conflict, match=r"label|keep"):
        review.decide("Bo", {A: ("remove", None), B: ("remove", None)}, seen=looked)
    assert A not in review.rows().people


def test_decisions_on_other_examples_are_no_conflict(review: Review, tmp_path: Path) -> None:
    looked = seen(review, A, B)
    Review(tmp_path).decide("Ada", {A: ("keep", None)}, seen=looked)
    review.decide("Bo", {B: ("keep", None)}, seen=looked)
    assert {d.actor for d in review.rows().people.values()} == {"Ada", "Bo"}


def test_many_people_at_once_lose_nothing(tmp_path: Path) -> None:
    uids = [f"{i:012x}-0" for i in range(40)]
    faults: list[Exception] = []

    def decide(who: int) -> None:
        mine = Review(tmp_path)
        for uid in uids[who::4]:
            try:
                mine.decide(f"person {who}", {uid: ("label", "safe")}, seen={uid: 0})
            except RunError as error:
                faults.append(error)

    threads = [threading.Thread(target=decide, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert set(Review(tmp_path).rows().people) == set(uids)


def test_the_last_decision_is_undone_also_after_a_restart(review: Review, tmp_path: Path) -> None:
    for uid in (A, B):
        review.decide("Ada", {uid: ("label", "safe")}, seen={uid: 0})
    review.decide("Bo", {C: ("remove", None)}, seen={C: 0})
    again = Review(tmp_path)
    last = again.last("Ada")
    assert last is not None and last.uid == B
    again.undo("Ada", last.version)
    assert set(again.rows().people) == {A, C}
    last = again.last("Ada")
    assert last is not None and last.uid == A


def test_what_another_took_back_can_be_decided_again(review: Review) -> None:
    review.decide("Ada", {A: ("label", "safe")}, seen={A: 0})
    review.undo("Bo", 1)
    review.decide("Ada", {A: ("label", "safe")}, seen=seen(review, A))
    assert review.rows().people[A].new == "safe"


def test_the_repair_s_decisions_are_proposals(review: Review, tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        rows = [Decision(uid=u, kind="label", old="safe", new="unsafe", round=1, actor="repair") for u in (A, B)]
        ledger.add(rows)
    assert review.rows().people == {} and set(review.rows().machine) == {A, B}
    review.decide("Ada", {A: ("keep", None)}, seen=seen(review, A))
    assert set(review.rows().in_force("people")) == {A}
    both = review.rows().in_force("all")
    assert both[A].kind == "keep" and both[B].new == "unsafe"
    review.undo("Ada", 2)
    assert set(review.rows().in_force("all")) == {A}


def test_words_are_marked_turned_and_taken_back(review: Review) -> None:
    for matters in (False, True):
        review.mark_word("Ada", A, "bunny", matters=matters, scope="all", seen=review.rows().touched.get(A, 0))
        [mark] = review.rows().words()
        assert mark.evidence["matters"] is matters and mark.scope == "all"
    review.mark_word("Bo", A, "bunny", matters=None, scope="all", seen=review.rows().touched[A])
    assert review.rows().words() == []
    with pytest.raises(RunError, match="carries no mark"):
        review.mark_word("Bo", A, "bunny", matters=None, scope="all", seen=review.rows().touched[A])
    assert review.rows().in_force("all") == {}


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "a\u202eb", "repair", "Repair"])
def test_a_name_must_be_one(review: Review, name: str) -> None:
    with pytest.raises(RunError, match="name"):
        review.decide(name, {A: ("keep", None)}, seen={A: 0})


@pytest.mark.parametrize("which", [0, 2, 99])
def test_what_cannot_be_undone_is_said(review: Review, which: int) -> None:
    review.decide("Ada", {A: ("keep", None)}, seen={A: 0})
    review.undo("Ada", 1)
    with pytest.raises(RunError, match="no decision that can be undone"):
        review.undo("Ada", which)
    with pytest.raises(RunError, match="undone already, by Ada"):
        review.undo("Ada", 1)
