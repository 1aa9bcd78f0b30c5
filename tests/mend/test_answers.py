"""What people are asked, and what their answers come to in the loop and in the verdict."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import tracemend
from tests.mend.conftest import planted
from tests.mend.test_limits import Nothing
from tests.mend.test_repair_by_posterior import FDR, by_posterior
from tracemend.data import Ledger
from tracemend.data.examples import read_examples
from tracemend.data.exchange import REMOVE
from tracemend.data.splits import LEAST
from tracemend.errors import DataError, TraceError
from tracemend.mend.questions import read_answers
from tracemend.models import tiny

pytestmark = pytest.mark.slow


def test_questions_wait_for_a_person_and_answers_stand(tmp_path: Path) -> None:
    data = planted(400).train
    mine = data.frame[["text", "label", "truth"]].rename(columns={"text": "comment"})
    options: dict[str, Any] = {
        "text": "comment", "truth": "truth", "model": tiny("bert"), "adapter": "head", "epochs": 2, "rounds": 1,
        "max_length": 20, "precision": "fp32", "controls": (), "stop": "fixed", "fdr": FDR, "ask": 4,
    }  # fmt: skip
    first = tracemend.repair(mine, out=tmp_path / "first", **options)
    table = pd.read_csv(tmp_path / "first" / "questions.csv", dtype=str, keep_default_na=False)
    assert len(table) == 4 and not set(table["uid"]) & set(first.rows["uid"])
    with Ledger(tmp_path / "first" / "ledger.sqlite") as ledger:
        asked = [d for d in ledger.decisions() if d.kind == "ask"]
        assert [d.uid for d in asked] == list(table["uid"]) and not set(table["uid"]) & set(ledger.state())
    assert "## Waiting for a person" in (tmp_path / "first" / "changes.md").read_text("utf-8")
    assert any("questions for a person" in n for n in json.loads((tmp_path / "first/result.json").read_text())["notes"])

    train = read_examples(tmp_path / "first").train
    truth = dict(zip(train.uid, train.frame["truth"], strict=True))
    table["answer"] = [REMOVE, *(truth[uid] for uid in table["uid"][1:])]
    table.to_csv(tmp_path / "answers.csv", index=False)
    again = tracemend.repair(mine, out=tmp_path / "second", answers=tmp_path / "answers.csv", **options)
    labels = dict(zip(again.repaired.uid, again.repaired.frame["label"], strict=True))
    assert [labels.get(uid, REMOVE) for uid in table["uid"]] == list(table["answer"])
    with Ledger(tmp_path / "second" / "ledger.sqlite") as ledger:
        told = {d.uid: d for d in ledger.decisions() if d.actor == "person"}
        assert set(told) == set(table["uid"]) and {d.kind for d in told.values()} <= {"label", "keep", "remove"}
    fresh = pd.read_csv(tmp_path / "second" / "questions.csv", dtype=str, keep_default_na=False)
    still_open = fresh[fresh["answer"] == ""]
    assert len(still_open) and not set(still_open["uid"]) & set(table["uid"])  # nobody is asked twice
    assert list(fresh["answer"])[: len(still_open)] == [""] * len(still_open)
    assert again.metrics["relabelled_by_answers"] == sum(d.kind == "label" for d in told.values())
    assert again.metrics["removed_by_answers"] == 1
    # The newest file holds the first round's answers too, so that the next run is told of both.
    fresh["answer"] = [said or truth[uid] for uid, said in zip(fresh["uid"], fresh["answer"], strict=True)]
    both = read_answers_of(fresh, tmp_path / "both.csv")
    assert both == {uid: truth[uid] for uid in [*table["uid"], *still_open["uid"]]} | {table["uid"][0]: REMOVE}
    assert again.metrics["relabelled"] + again.metrics["removed"] == (again.rows["score"].notna()).sum()


def read_answers_of(table: pd.DataFrame, path: Path) -> dict[str, str]:
    table.to_csv(path, index=False)
    return read_answers(path)


def test_where_a_person_alone_acts_the_controls_are_tuned_on_as_well() -> None:
    splits = planted(200)
    truth = dict(zip(splits.train.uid, splits.train.frame["truth"], strict=True))
    told = {uid: truth[uid] for uid in list(splits.train.uid)[:6]}
    found = by_posterior(fdr=0.0, answers=told, controls=("unchanged", "random"), rounds=2).run(tiny("bert"), splits)
    last = found.curve.groupby("arm")["round"].max()
    assert found.rows["score"].isna().all() and last["repair"] > 0
    assert last["unchanged"] == last["random"] == 1


def test_answers_change_neither_the_detection_nor_the_last_of_a_label() -> None:
    splits = planted(200)
    wrong = [uid for uid, is_wrong in zip(splits.train.uid, splits.train.wrong, strict=True) if is_wrong]
    truth = dict(zip(splits.train.uid, splits.train.frame["truth"], strict=True))
    same: dict[str, Any] = {"rounds": 1, "controls": ("random",)}
    plain = by_posterior(**same).run(tiny("bert"), splits)
    told = by_posterior(answers={uid: truth[uid] for uid in wrong[:15]}, **same).run(tiny("bert"), splits)
    share = (len(wrong) - 15) / (len(splits.train) - 15)
    assert told.controls["random"]["detection_ap"] == pytest.approx(share)
    # Fifteen easy finds fewer, and no more credit for labels that a person corrected.
    assert told.metrics["detection_ap"] <= plain.metrics["detection_ap"] + 0.05

    train = splits.train.take([*np.flatnonzero(splits.train.y == 0)[:40], *np.flatnonzero(splits.train.y == 1)[:10]])
    few = replace(splits, train=train)
    gone = dict.fromkeys([uid for uid, y in zip(train.uid, train.y, strict=True) if y == 1][:8], REMOVE)
    found = by_posterior(answers=gone, fdr=None, candidates=40, rounds=1).run(tiny("bert"), few)
    assert found.repaired.frame["label"].value_counts().min() >= LEAST


def test_answers_that_no_round_bears_out_stand_with_the_original(tmp_path: Path) -> None:
    """The best round is the start, which nobody's answers reached: that is said, and no comparison claimed."""
    splits = planted(400)
    answers = {uid: splits.labels[1 - y] for uid, y in zip(splits.train.uid, splits.train.y, strict=True)}
    against = dict(list(answers.items())[: len(answers) // 2])
    method = by_posterior(answers=against, rounds=1, stop="best", controls=("unchanged",), fdr=0.0)
    found = method.run(tiny("bert"), splits, out=tmp_path / "run")
    assert found.metrics["rounds"] == 0 and found.verdict.against == "the start"
    assert f"beside {len(against)} that people decided" in found.verdict.sentence
    labels = dict(zip(found.recommended.uid, found.recommended.frame["label"], strict=True))
    assert all(labels[uid] == said for uid, said in against.items())


def test_answers_that_leave_one_label_are_refused() -> None:
    splits = planted(120, wrong=0.1)
    only = dict.fromkeys(splits.train.uid, splits.labels[0])
    with pytest.raises(TraceError, match=r"the answers would leave '.*' alone of 2 labels"):
        by_posterior(answers=only).run(tiny("bert"), splits)
    with pytest.raises(DataError, match="not in the training part"):
        by_posterior(answers={"nobody-0": "good"}).run(tiny("bert"), splits, progress=Nothing())
