"""Questions out, answers in: a round trip, and what a filled-in table can have wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tracemend.data import Labelled
from tracemend.errors import DataError
from tracemend.mend.questions import COLUMNS, answered, read_answers, write_questions


@pytest.fixture
def train() -> Labelled:
    return Labelled.make(['a, "quoted"\nline', "=1+1", "plain"], ["safe", "unsafe", "safe"])


def questions(train: Labelled) -> list[dict[str, Any]]:
    return [
        {
            "uid": row["uid"], "text": row["text"], "reply": row["reply"], "old": row["label"], "suggested": "unsafe",
            "p_wrong": 0.5, "round": 1,
        }
        for row in train.frame.to_dict("records")
    ]  # fmt: skip


def test_what_was_asked_is_read_back_once_it_is_answered(train: Labelled, tmp_path: Path) -> None:
    path = tmp_path / "questions.csv"
    write_questions(path, questions(train))
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    assert tuple(table) == COLUMNS and list(table["text"]) == list(train.frame["text"])
    with pytest.raises(DataError, match="none of the 3 questions"):
        read_answers(path)
    table["answer"] = ["unsafe", " unsafe ", ""]
    table.to_csv(path, index=False, encoding="utf-8-sig")
    found = read_answers(path, labels=train.labels)
    assert found == {train.uid[0]: "unsafe", train.uid[1]: "unsafe"}
    table["answer"] = ["unsafe", " unsafe ", "(remove)"]
    table.to_csv(path, index=False, encoding="utf-8-sig")
    found = read_answers(path, labels=train.labels)
    made = answered(train, found)
    assert [(d["kind"], d["old"], d["new"]) for d in made] == [
        ("label", "safe", "unsafe"), ("keep", "unsafe", None), ("remove", "safe", None),
    ]  # fmt: skip
    assert {d["actor"] for d in made} == {"person"} and {d["round"] for d in made} == {0}
    write_questions(path, [], made)
    assert read_answers(path, labels=train.labels) == found


def test_answers_that_a_spreadsheet_saved_with_semicolons_are_read(tmp_path: Path) -> None:
    path = tmp_path / "questions.csv"
    path.write_bytes('uid;text;answer\r\na-0;"no; go, away";safe\r\nb-0;x, y;\r\n'.encode("utf-8-sig"))
    assert read_answers(path, labels=("safe", "unsafe")) == {"a-0": "safe"}


def test_an_answer_without_an_id_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "questions.csv"
    path.write_text("uid,text,answer\na-0,hi,\n,ho,safe\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 3 answers 'safe' and has no uid"):
        read_answers(path)


def test_answers_of_several_rounds_are_one_and_may_not_differ(tmp_path: Path) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("uid,answer\na-0,safe\nb-0,\n", "utf-8")
    second.write_text("uid,answer\nb-0,unsafe\na-0,safe\n", "utf-8")
    assert read_answers(first, second) == {"a-0": "safe", "b-0": "unsafe"}
    second.write_text("uid,answer\na-0,unsafe\n", "utf-8")
    with pytest.raises(DataError, match=r"second.csv answers a-0 with 'unsafe', a file before it 'safe'"):
        read_answers(first, second)


def test_an_answer_is_read_as_the_labels_are(tmp_path: Path) -> None:
    path = tmp_path / "questions.csv"  # a table that was half filled in holds 1.0 for 1
    path.write_text("uid,answer\na-0,1.0\nb-0,\nc-0,nan\n", "utf-8")
    assert read_answers(path, labels=("0", "1")) == {"a-0": "1"}


def test_bad_answers(train: Labelled, tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    with pytest.raises(DataError, match="does not exist"):
        read_answers(path)
    path.write_text("uid/answer\nx/safe\n", "utf-8")
    with pytest.raises(DataError, match=r"has no column 'uid', only uid/answer"):
        read_answers(path)
    path.write_text("uid,answer\nx,saffe\n", "utf-8")
    with pytest.raises(DataError, match="did you mean 'safe'"):
        read_answers(path, labels=train.labels)
    path.write_text("uid,answer\nx,safe\nx,unsafe\n", "utf-8")
    with pytest.raises(DataError, match="answers x with 'safe' and with 'unsafe'"):
        read_answers(path)
    path.write_bytes(b"uid,answer\nx,\xff\xfe\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_answers(path)
    path.write_text("", "utf-8")
    with pytest.raises(DataError, match="is empty"):
        read_answers(path)
    with pytest.raises(DataError, match=r"1 of 1 answers .*same file and --seed"):
        answered(train, {"nobody-0": "safe"})
    with pytest.raises(DataError, match="did you mean 'safe'"):
        answered(train, {train.uid[0]: "saffe"})
