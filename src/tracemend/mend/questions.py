"""What a person is asked, as a table to fill in, and the answers read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.data import Labelled
from tracemend.data.exchange import REMOVE
from tracemend.data.labels import label_name
from tracemend.data.tables import table_from_file
from tracemend.errors import DataError, did_you_mean
from tracemend.runs import write_csv

QUESTIONS = "questions.csv"
COLUMNS = ("uid", "text", "reply", "label", "suggested", "p_wrong", "round", "answer")


def write_questions(path: Path, asked: Sequence[Mapping[str, Any]], said: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write ``questions.csv``: one row a question, in the order of their value, the column ``answer`` empty.

    Below them stand the answers that the run was given, so that the file, filled in, is all that the next one needs.

    Args:
        path: where to.
        asked: rows with ``uid``, ``text``, ``reply``, ``old``, ``suggested``, ``p_wrong`` and ``round``.
        said: what :func:`answered` made of the answers.

    Raises:
        RunError: the disk is full or not writable.
    """
    rows = [{**one, "label": one["old"], "answer": ""} for one in asked]
    rows += [{**one, "label": one["old"], "answer": _answer(one)} for one in said]
    write_csv(path, pd.DataFrame(rows, columns=list(COLUMNS)))


def _answer(said: Mapping[str, Any]) -> str:
    return str({"keep": said["old"], "label": said["new"], "remove": REMOVE}[said["kind"]])


def read_answers(*paths: Path | str, labels: Sequence[str] | None = None) -> dict[str, str]:
    """The labels a person gave: uid -> label, or ``(remove)``. Rows without an answer are still open and left out.

    Args:
        paths: ``questions.csv`` with answers, or any CSV with the columns ``uid`` and ``answer``, separated by commas
            or semicolons; of several rounds of questions several.
        labels: the names an answer may have; None checks nothing.

    Raises:
        DataError: no such file, it is no table, a column is missing, nothing is answered, an answer has no uid, one
            question has two answers (in one file or in two), or an answer is no label.

    Example:
        >>> read_answers("runs/mine/questions.csv")  # doctest: +SKIP
        {'4f0c9a7be1d2-0': 'unsafe'}
    """
    found: dict[str, str] = {}
    for path in paths:
        for uid, said in _read(path, labels).items():
            if found.setdefault(uid, said) != said:
                raise DataError(
                    f"{path} answers {uid} with {said!r}, a file before it {found[uid]!r}; keep one of them."
                )
    return found


def _read(path: Path | str, labels: Sequence[str] | None) -> dict[str, str]:
    if not Path(path).is_file():
        raise DataError(f"{path} does not exist; --answers takes the questions.csv of a run, filled in.")
    there = table_from_file(Path(path))
    table = there.frame.fillna("").astype(str)
    for column in ("uid", "answer"):
        if column not in table:
            raise DataError(
                f"{path} has no column {column!r}, only {', '.join(map(str, table.columns))}; keep the columns of "
                "questions.csv and fill in answer."
            )
    found: dict[str, str] = {}
    for row, (uid, cell) in enumerate(zip(table["uid"].str.strip(), table["answer"], strict=True)):
        said = label_name(cell)  # as the labels themselves are read
        if said is None:
            continue
        if not uid:
            raise DataError(
                f"{path}: {there.at([row])} answers {said!r} and has no uid; fill in the file that the run wrote, and "
                "leave its column uid as it is."
            )
        if labels is not None and said not in (*labels, REMOVE):
            raise DataError(
                f"answer {said!r} in row {row} of {path} ({uid}) is {did_you_mean(said, (*labels, REMOVE))}"
            )
        if found.setdefault(uid, said) != said:
            raise DataError(f"{path} answers {uid} with {found[uid]!r} and with {said!r}; keep one of the rows.")
    if not found:
        raise DataError(
            f"none of the {len(table)} questions of {path} is answered; write a label into the column answer."
        )
    return found


def answered(train: Labelled, answers: Mapping[str, str]) -> list[dict[str, Any]]:
    """The decisions that the answers come to: another label, the label looked at and kept, or the example left out.

    Args:
        train: the training set the questions were about.
        answers: uid -> label, or ``(remove)``.

    Raises:
        DataError: an answer is about an example that is not in the training set, or is no label.
    """
    rows = {uid: row for row, uid in enumerate(train.uid)}
    missing = [uid for uid in answers if uid not in rows]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(answers)} answers are about examples that are not in the training part (the "
            f"first: {missing[0]}); give the same file and --seed as the run that asked."
        )
    made = []
    for uid, said in answers.items():
        example = train.frame.iloc[rows[uid]]
        if said in train.labels:
            kind = "keep" if said == example["label"] else "label"
        elif said == REMOVE:
            kind = "remove"
        else:
            raise DataError(f"the answer {said!r} to {uid} is {did_you_mean(said, (*train.labels, REMOVE))}")
        made.append(
            {
                **{column: example[column] for column in ("uid", "text", "reply", "truth")},
                "kind": kind,
                "old": example["label"],
                "new": said if kind == "label" else None,
                "round": 0,  # before the loop, so that no round that did not help takes it back
                "score": None,
                "reason": f"A person was asked and said {said}.",
                "actor": "person",
                "evidence": {"errors": []},
            }
        )
    return made
