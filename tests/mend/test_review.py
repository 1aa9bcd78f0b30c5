from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from tracemend.data import Labelled, Ledger, Splits
from tracemend.data.decision import Decision
from tracemend.data.examples import write_examples
from tracemend.data.exchange import REMOVE
from tracemend.errors import DataError, RunError
from tracemend.mend import export, export_suspects, review, undo
from tracemend.mend.reviewed import suspects_of
from tracemend.runs import write_json, write_parquet

LABELS = ("safe", "unsafe")


@pytest.fixture
def data() -> Labelled:
    return Labelled.make([f"text {i}" for i in range(6)], ["safe", "unsafe"] * 3, label_names=LABELS, groups=["g"] * 6)


@pytest.fixture
def run(tmp_path: Path, data: Labelled) -> Path:
    """What a finished ``detect`` leaves."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_examples(Splits(train=data, validation=data, verdict=data), folder)
    write_json(folder / "result.json", {"command": "detect", "config": {"method": "trace.loss"}, "status": "complete"})
    flipped = ["unsafe" if label == "safe" else "safe" for label in data.frame["label"]]
    table = data.frame[["uid", "text", "label"]].assign(
        rank=range(1, 7), suggested=flipped, score=[6.0, 5, 4, 3, 2, 1], evidence="why"
    )
    write_parquet(folder / "suspects.parquet", table)
    return folder


def filled(run: Path, path: Path, **answers: str) -> Path:
    """The table given out and filled in: row -> answer."""
    export_suspects(run, path, "csv")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    for row, answer in answers.items():
        table.loc[int(row[1:]), ["answer", "reviewer"]] = [answer, "Ada"]
    table.to_csv(path, index=False)
    return path


def test_answers_become_decisions_of_the_reviewer(run, data, tmp_path):
    found = review(run, filled(run, tmp_path / "r.csv", r0="unsafe", r1="unsafe", r2=REMOVE))
    assert (found.relabelled, found.kept, found.removed, found.undecided) == (1, 1, 1, ())
    assert found.reviewers == ("Ada",)
    with Ledger(run / "ledger.sqlite") as ledger:
        rows = ledger.rows()
    assert rows["kind"].tolist() == ["label", "keep", "remove"]
    assert set(rows["actor"]) == {"Ada"} and set(rows["round"]) == {0}
    assert rows["old"].tolist() == ["safe", "unsafe", "safe"]
    repaired = pd.read_csv(run / "repaired.csv")
    assert len(repaired) == 5 and repaired.loc[repaired["uid"] == data.uid[0], "label"].item() == "unsafe"
    assert "reviewed (r.csv)" in (run / "changes.md").read_text("utf-8")


def test_the_same_file_twice_is_once_and_undo_takes_it_back(run, data, tmp_path):
    path = filled(run, tmp_path / "r.csv", r0="unsafe")
    review(run, path)
    review(run, path)
    with Ledger(run / "ledger.sqlite") as ledger:
        assert len(ledger.rows()) == 1
    undo(run, data.uid[0], data)
    assert pd.read_csv(run / "repaired.csv")["label"].tolist() == data.frame["label"].tolist()


def test_who_comes_second_to_the_same_answer_is_heard(run, data, tmp_path):
    path = filled(run, tmp_path / "r.csv", r0="unsafe", r1="unsafe")
    assert review(run, path).already == 0
    assert review(run, path).already == 2
    assert review(run, path, actor="Max").already == 0
    with Ledger(run / "ledger.sqlite") as ledger:
        assert ledger.rows()["actor"].tolist() == ["Ada", "Ada", "Max", "Max"]
        assert {decision.actor for decision in ledger.state().values()} == {"Max"}


def test_a_reviewer_gets_the_row_and_the_other_columns_of_the_file(run, data, tmp_path):
    frame = data.frame.assign(ticket=[f"T-{i}" for i in range(6)], source_row=range(10, 16), score="high")
    ours = replace(data, frame=frame)
    write_examples(Splits(train=ours, validation=ours, verdict=ours), run)
    table = pd.read_csv(export_suspects(run, tmp_path / "s.csv", "csv")["suspects"])
    assert table["ticket"].tolist()[:2] == ["T-0", "T-1"] and table["source_row"].tolist()[:2] == [10, 11]
    assert table["score"].tolist()[0] == 6.0 and set(table["original_score"]) == {"high"}
    records = json.loads(export_suspects(run, tmp_path / "a.json", "argilla")["records"].read_text("utf-8"))
    assert records[1]["metadata"] == {
        "ticket": "T-1", "source_row": "11", "original_score": "high", "given": "unsafe", "rank": 2, "suspicion": 5.0,
    }  # fmt: skip
    tasks = json.loads(export_suspects(run, tmp_path / "l.json", "label-studio")["tasks"].read_text("utf-8"))
    assert tasks[1]["data"]["ticket"] == "T-1" and tasks[1]["data"]["source_row"] == 11
    # What comes back with these columns is read all the same, and the changes have them.
    table = table.assign(answer=["unsafe", *[""] * 5])
    table.to_csv(tmp_path / "back.csv", index=False)
    assert review(run, tmp_path / "back.csv").relabelled == 1
    changes = pd.read_csv(run / "changes.csv")
    assert (changes["ticket"].item(), changes["source_row"].item()) == ("T-0", 10)
    assert "source_row" not in pd.read_csv(run / "repaired.csv")


def test_a_file_given_again_after_an_undo_decides_again(run, data, tmp_path):
    path = filled(run, tmp_path / "r.csv", r0="unsafe")
    review(run, path)
    undo(run, data.uid[0], data)
    assert review(run, path).relabelled == 1
    assert pd.read_csv(run / "repaired.csv")["label"].iloc[0] == "unsafe"


def test_a_number_is_the_label_however_a_spreadsheet_writes_it(run, tmp_path):
    data = Labelled.make([f"text {i}" for i in range(6)], [0, 1] * 3)
    write_examples(Splits(train=data, validation=data, verdict=data), run)
    table = data.frame[["uid", "text", "label"]].assign(rank=range(1, 7), suggested="1", score=1.0, evidence="why")
    write_parquet(run / "suspects.parquet", table)
    found = review(run, filled(run, tmp_path / "r.csv", r0="1.0", r1="1.0", r2="0.0"))
    assert (found.relabelled, found.kept) == (1, 2)
    assert pd.read_csv(run / "repaired.csv", dtype=str)["label"].tolist() == ["1", "1", "0", "1", "0", "1"]


def test_a_review_overrules_the_run_and_the_actor_can_be_named(run, data, tmp_path):
    with Ledger(run / "ledger.sqlite") as ledger:
        ledger.add([Decision(uid=data.uid[0], kind="remove", old="safe", round=3, actor="repair")])
        export(data, ledger, run, formats=["jsonl"], names={"text": "comment"})
    found = review(run, filled(run, tmp_path / "r.csv", r0="safe"), actor="panel")
    assert found.reviewers == ("panel",)
    assert sorted(found.paths) == ["changes.csv", "changes.md", "repaired.jsonl"]  # as they were written before
    rows = [json.loads(line) for line in (run / "repaired.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 6 and rows[0]["comment"] == "text 0"


@pytest.mark.parametrize("name", ["repair", " Repair"])
def test_a_reviewer_is_not_taken_for_the_repair(run, tmp_path, name):
    path = filled(run, tmp_path / "r.csv", r0="unsafe")
    with pytest.raises(RunError, match=r"of the unattended repair.*--actor"):
        review(run, path, actor=name)
    path.write_text(path.read_text("utf-8").replace("Ada", name), "utf-8")
    with pytest.raises(RunError, match="of the unattended repair"):
        review(run, path)
    assert not (run / "ledger.sqlite").exists()
    assert review(run, path, actor="Ada").reviewers == ("Ada",)


def test_split_reviewers_leave_it_undecided(run, tmp_path):
    path = tmp_path / "r.json"
    export_suspects(run, path, "argilla")
    records = json.loads(path.read_text("utf-8"))
    records[0]["responses"] = {"label": [{"value": "safe", "user_id": "1"}, {"value": "unsafe", "user_id": "2"}]}
    records[1]["responses"] = {"label": [{"value": "safe", "user_id": "1"}, {"value": "safe", "user_id": "2"}]}
    path.write_text(json.dumps(records), "utf-8")
    with pytest.raises(DataError, match="disagree on 1 of 2"):
        review(run, path)
    assert not (run / "ledger.sqlite").exists()
    path.write_text(json.dumps(records), "utf-8-sig")  # as an editor may save it
    found = review(run, path, rule="majority")
    assert (found.relabelled, len(found.undecided), found.reviewers) == (1, 1, ("1 + 2",))


def test_nothing_is_written_where_anything_is_wrong(run, tmp_path):
    path = filled(run, tmp_path / "r.csv", r0="unsafe", r1="maybe")
    with pytest.raises(DataError, match="'maybe' on"):
        review(run, path)
    with pytest.raises(RunError, match="no answer"):
        review(run, filled(run, tmp_path / "r.csv"))
    with pytest.raises(RunError, match="no example alone would be left"):
        review(run, filled(run, tmp_path / "r.csv", **{f"r{i}": REMOVE for i in range(6)}))
    with pytest.raises(RunError, match="'unsafe' alone would be left"):
        review(run, filled(run, tmp_path / "r.csv", **{f"r{i}": "unsafe" for i in range(6)}))
    assert not (run / "ledger.sqlite").exists()


def test_what_was_decided_before_counts_when_one_label_is_left(run, tmp_path, data):
    review(run, filled(run, tmp_path / "r.csv", **{f"r{i}": "unsafe" for i in range(3)}))
    with pytest.raises(RunError, match="tracemend undo"):
        review(run, filled(run, tmp_path / "s.csv", **{f"r{i}": "unsafe" for i in range(3, 6)}))


def test_a_file_of_another_run(run, tmp_path):
    path = filled(run, tmp_path / "r.csv", r0="unsafe")
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[0, "uid"] = "ffffffffffff-0"
    table.to_csv(path, index=False)
    with pytest.raises(DataError, match="none of this run's training examples"):
        review(run, path)


def test_the_suspects_of_a_repair_are_what_it_acted_on(run, data):
    write_json(run / "result.json", {"command": "repair", "config": {"method": "mend.repair"}, "status": "complete"})
    decisions = pd.DataFrame(
        {
            "uid": data.uid[:2], "text": ["text 0", "text 1"], "reply": None, "kind": ["remove", "label"],
            "old": ["safe", "unsafe"], "new": [None, "safe"], "round": 1, "score": [1.0, 2.0],
            "reason": ["because", "why"], "truth": None, "evidence": ['{"errors": []}', '{"p_wrong": 0.8}'],
        }
    )  # fmt: skip
    write_parquet(run / "decisions.parquet", decisions)
    found = suspects_of(run)
    assert found.agent == "mend.repair"
    assert found.frame[["label", "suggested", "evidence"]].values.tolist() == [
        ["unsafe", "safe", "why"],
        ["safe", REMOVE, "because"],
    ]


@pytest.mark.parametrize("target", ["argilla", "label-studio"])
def test_the_score_given_out_is_the_probability_of_a_wrong_label_whatever_the_run(run, data, tmp_path, target):
    def scores() -> dict[str, float | None]:
        path = tmp_path / "out.json"
        export_suspects(run, path, target)
        rows = json.loads(path.read_text("utf-8"))
        if target == "argilla":
            return {row["id"]: row["suggestions"]["label"]["score"] for row in rows}
        return {row["data"]["uid"]: row["predictions"][0].get("score") for row in rows}

    suspects = pd.read_parquet(run / "suspects.parquet")
    write_parquet(run / "suspects.parquet", suspects.assign(probability=[0.9, 0.8, 0.7, 0.6, 0.5, float("nan")]))
    assert list(scores().values()) == [0.9, 0.8, 0.7, 0.6, 0.5, None]
    write_json(run / "result.json", {"command": "repair", "config": {"method": "mend.repair"}, "status": "complete"})
    acted = data.frame[["uid", "text", "reply"]].assign(
        kind="label", old=data.frame["label"], new="safe", score=7.5, reason="why", evidence='{"p_wrong": 0.8}'
    )
    acted.loc[0, "evidence"] = '{"errors": []}'  # ranked by gradients alone
    write_parquet(run / "decisions.parquet", acted)
    assert list(scores().values()) == [None, 0.8, 0.8, 0.8, 0.8, 0.8]
    # Where no label was trusted, no probability is: as of a detect.
    noisy = {"command": "repair", "config": {"method": "mend.repair", "validation": "noisy"}, "status": "complete"}
    write_json(run / "result.json", noisy)
    assert set(scores().values()) == {None}


def test_top_and_other_runs(run):
    assert len(suspects_of(run, top=2)) == 2
    write_json(run / "result.json", {"command": "tune", "config": {}, "status": "complete"})
    with pytest.raises(RunError, match="a run of 'tune'; suspects come from a run of: detect"):
        suspects_of(run)
    with pytest.raises(RunError, match="a review belongs to a run of"):
        review(run, "x.json")
    write_json(run / "result.json", {"command": "repair", "config": {}, "status": "interrupted"})
    with pytest.raises(RunError, match=r"decisions\.parquet does not exist"):
        suspects_of(run)
