"""A retraining with marks on words: what is tuned on, what is measured, what an undo gives back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.studio.conftest import HOSTILE
from tracemend.errors import RunError
from tracemend.runs import read_json
from tracemend.studio import Session
from tracemend.studio.compare import compare
from tracemend.studio.decisions import Conflict
from tracemend.studio.prepare import Loaded
from tracemend.studio.retrain import retrain
from tracemend.studio.takeaway import take
from tracemend.studio.versions import WORDS, Version, training_set, version


def mark(session: Session, word: str, *, matters: bool | None = False, uid: str = "", scope: str = "all") -> None:
    uid = uid or session.splits.train.uid[0]
    seen = session.review.rows().touched.get(uid, 0)
    session.review.mark_word("Ada", uid, word, matters=matters, scope=scope, seen=seen)


def tuned(run: Path, folder: Path) -> Version:
    return retrain(Loaded.of(run), folder, {"basis": "people", "actor": "Ada", "parent": "original"})


@pytest.mark.slow
def test_marked_words_alone_are_enough_to_tune_on(session: Session, run: Path, tmp_path: Path) -> None:
    mark(session, "Toxic")
    made = tuned(run, tmp_path / "job")
    found = version(run, made.name)
    [decided] = session.review.rows().words()
    assert found.words == (decided.version,) and found.decisions == () and found.n_train == len(session.splits.train)
    [row] = compare(session, "original", made.name)["words"]
    assert row["word"] == "Toxic" and row["matters"] is False
    assert row["train"] == session.held("toxic") > 0 and row["texts"] > 0
    # Of what no penalty touched, about as much is left.
    assert row["share_after"] < row["share_before"] and row["control"]["word"].casefold() != "toxic"
    assert compare(session, made.name, "original")["words"] == []


@pytest.mark.slow
def test_what_is_undone_leaves_nothing(session: Session, run: Path, tmp_path: Path) -> None:
    uid = session.splits.train.uid[3]
    session.review.decide("Ada", {uid: ("remove", None)}, seen=session.review.rows().touched)
    plain = tuned(run, tmp_path / "a")
    mark(session, "toxic")
    marked = tuned(run, tmp_path / "b")
    mark(session, "toxic", matters=None)
    again = tuned(run, tmp_path / "c")

    def bytes_of(v: Version) -> bytes:
        return (v.adapter / "parameters.safetensors").read_bytes()

    assert bytes_of(plain) == bytes_of(again) != bytes_of(marked)
    assert again.words == () and not (again.folder / WORDS).exists()


def test_a_mark_on_a_word_that_no_text_holds_changes_no_model(session: Session, run: Path, tmp_path: Path) -> None:
    mark(session, "xylophone")
    assert session.held("xylophone") == 0 == session.marks(session.review.rows())
    with pytest.raises(RunError, match="no word of a training text marked"):
        tuned(run, tmp_path / "job")


@pytest.mark.slow
def test_a_mark_and_a_label_on_one_example_are_both_carried_out(session: Session, run: Path, tmp_path: Path) -> None:
    train = session.splits.train
    i = next(i for i, text in enumerate(train.frame["text"]) if "toxic" in text)
    uid, other = train.uid[i], next(name for name in train.labels if name != train.frame["label"].iloc[i])
    session.review.decide("Ada", {uid: ("label", other)}, seen=session.review.rows().touched)
    mark(session, "toxic", uid=uid, scope="example")
    made = tuned(run, tmp_path / "job")
    assert len(made.decisions) == len(made.words) == 1
    on = training_set(made, train, session.review.rows().all)
    assert on.frame["label"].iloc[i] == other


def test_a_mark_on_one_validation_text_changes_no_model(session: Session, run: Path, tmp_path: Path) -> None:
    mark(session, "toxic", uid=session.splits.validation.uid[0], scope="example")
    assert session.marks(session.review.rows()) == 0
    with pytest.raises(RunError, match="no word of a training text marked"):
        tuned(run, tmp_path / "job")


@pytest.mark.parametrize("word", ["two words", "well, no", "  ", "!?a"])
def test_what_is_not_one_word_is_refused(session: Session, word: str) -> None:
    with pytest.raises(RunError, match=r"words; mark each|characters"):
        mark(session, word)
    assert session.review.rows().words() == []


def test_pieces_hold_the_words_that_a_training_looks_for(session: Session) -> None:
    for uid in session.splits.train.uid[:20]:
        found = session.example("original", uid)
        assert "".join(found["pieces"]["text"]) == found["text"] and found["pieces"]["reply"] is None
        if not found["text"].startswith(tuple(HOSTILE)):
            assert found["pieces"]["text"][1::2] == found["text"].split()


@pytest.mark.slow
def test_a_version_of_before_words_were_tuned_on_opens(session: Session, run: Path, tmp_path: Path) -> None:
    from tracemend.runs import write_json

    uid = session.splits.train.uid[0]
    session.review.decide("Ada", {uid: ("remove", None)}, seen=session.review.rows().touched)
    made = tuned(run, tmp_path / "job")
    facts = read_json(made.folder / "version.json")
    del facts["words"]
    write_json(made.folder / "version.json", facts)
    assert version(run, made.name).words == ()


def test_anothers_mark_is_not_taken_back_unseen(session: Session) -> None:
    uids = session.splits.train.uid
    mark(session, "toxic", uid=uids[0])
    seen = session.review.rows().touched.get(uids[1], 0)
    with pytest.raises(Conflict, match="Ada marked 'Toxic' after you looked"):
        session.review.mark_word("Bo", uids[1], "Toxic", matters=True, scope="all", seen=seen, had=0)
    [there] = session.review.rows().words()
    session.review.mark_word("Bo", uids[1], "Toxic", matters=True, scope="all", seen=seen, had=there.version)
    assert session.review.last("Bo") is not None


def test_marks_do_not_stand_in_the_way_of_a_label(session: Session) -> None:
    uid = session.splits.train.uid[0]
    seen = dict(session.review.rows().touched)
    mark(session, "toxic", uid=uid)
    mark(session, "toxic", uid=uid, matters=None)
    session.review.decide("Bo", {uid: ("remove", None)}, seen={uid: seen.get(uid, 0)})
    assert session.review.rows().people[uid].kind == "remove"


def test_a_changed_mark_is_taken_back_to_the_one_before(session: Session) -> None:
    mark(session, "toxic", matters=False)
    mark(session, "toxic", matters=True)
    last = session.review.last("Ada")
    assert last is not None and last.evidence["matters"] is True
    session.review.undo("Ada", last.version)
    [there] = session.review.rows().words()
    assert there.evidence["matters"] is False


@pytest.mark.slow
def test_a_version_takes_its_own_marks_along(session: Session, run: Path, tmp_path: Path) -> None:
    mark(session, "toxic")
    made = tuned(run, tmp_path / "job")
    mark(session, "please")
    changes = take(session, made.name)["changes.csv"].read_text()
    assert "toxic" in changes and ",please," not in changes
