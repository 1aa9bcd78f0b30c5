from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.studio.conftest import HOSTILE
from tracemend.errors import DataError, RunError
from tracemend.studio import Session, lists
from tracemend.studio.compare import compare
from tracemend.studio.prepare import Loaded, opposite, twins
from tracemend.studio.retrain import retrain
from tracemend.studio.session import SHOWN
from tracemend.studio.takeaway import path_of, take


def test_the_original_is_at_hand_until_people_made_a_version(session: Session, run: Path) -> None:
    assert session.current == "original"
    session.use("original")
    assert Session(run).current == "original"
    with pytest.raises(RunError, match="not one of: original"):
        session.use("../../etc")


def test_errors_are_what_the_model_gets_wrong(session: Session) -> None:
    found = lists.errors(session, "original", show="all", limit=200)
    data, p = session.splits.validation, session.evidence("original").p["validation"]
    wrong = {data.uid[i] for i in np.flatnonzero(p.argmax(axis=1) != data.y)}
    assert {row["uid"] for row in found["rows"] if row["wrong"]} == wrong
    assert found["counts"]["wrong"] == len(wrong) and found["total"] == len(data)


def test_lists_are_sorted_and_cut_into_windows(session: Session) -> None:
    whole = lists.errors(session, "original", show="all", limit=200)["rows"]
    confidence = [row["confidence"] for row in whole]
    assert confidence == sorted(confidence, reverse=True)
    window = lists.errors(session, "original", show="all", offset=3, limit=2)["rows"]
    assert [row["uid"] for row in window] == [row["uid"] for row in whole[3:5]]
    rising = lists.errors(session, "original", show="all", descending=False, limit=200)["rows"]
    assert [row["confidence"] for row in rising] == sorted(confidence)


def test_a_list_says_where_an_example_stands(session: Session) -> None:
    for listed in (lists.errors, lists.suspects):
        rows = listed(session, "original", show="all", limit=200)["rows"]
        for at in (0, 3, len(rows) - 1):
            # Whatever window is asked for: a link leads to a row far down.
            assert listed(session, "original", show="all", keep=rows[at]["uid"], limit=1)["at"] == at
        label = rows[3]["label"]
        assert listed(session, "original", show="all", keep=rows[3]["uid"], query=f"-label:{label}")["at"] is None
        assert listed(session, "original", show="all", keep="nobody")["at"] is None


def test_columns_of_ones_own_are_searched(session: Session) -> None:
    frame = session.splits.train.frame
    frame["Desk"] = ["north" if i % 3 else "south" for i in range(len(frame))]
    frame["Age"] = np.arange(len(frame), dtype=float)
    assert lists.suspects(session, "original", show="all", query="desk:South")["total"] == -(-len(frame) // 3)
    assert lists.suspects(session, "original", show="all", query="age<10 desk:north")["total"] == 6
    # The truth is no field: who reviews must not be led by it.
    assert lists.suspects(session, "original", show="all", query="truth:safe")["total"] == 0


def test_a_query_narrows_and_a_bad_one_is_said(session: Session) -> None:
    found = lists.errors(session, "original", show="all", query="label:safe", limit=200)
    assert {row["label"] for row in found["rows"]} == {"safe"}
    with pytest.raises(DataError, match="did you mean 'label'"):
        lists.errors(session, "original", query="labels:safe")
    with pytest.raises(RunError, match="column 'colour' is not one of"):
        lists.errors(session, "original", sort="colour")
    with pytest.raises(RunError, match="list 'right' is not one of"):
        lists.errors(session, "original", show="right")


def test_evidence_is_the_influence_that_was_computed(session: Session) -> None:
    found = lists.errors(session, "original", show="all", limit=1)["rows"][0]
    evidence = session.error("original", found["uid"])
    matrix = session.evidence("original").influence
    assert matrix is not None
    row = matrix[session.splits.validation.uid.index(found["uid"])]
    away, towards = evidence["away"], evidence["towards"]
    assert away[0]["influence"] == pytest.approx(float(row.min())) and away[0]["influence"] < 0
    assert towards[0]["influence"] == pytest.approx(float(row.max())) and towards[0]["influence"] > 0
    assert evidence["random"] == pytest.approx(float(np.abs(row).mean()))
    assert abs(away[0]["influence"]) > evidence["random"]
    assert np.abs(matrix).max() <= 1.001  # cosines


def test_the_control_of_the_evidence_is_not_flattering(session: Session) -> None:
    """Of shuffled influence the strongest are as strong: the bars mean nothing without who they belong to."""
    found = session.evidence("original")
    matrix = found.influence
    assert matrix is not None
    y, labels = session.splits.train.y, session.splits.validation.y
    agree = [float(matrix[q][y == labels[q]].mean() - matrix[q][y != labels[q]].mean()) for q in range(len(labels))]
    shuffled = np.random.default_rng(0).permutation(y)
    chance = [float(matrix[q][shuffled == labels[q]].mean()) for q in range(len(labels))]
    assert np.mean(agree) > 5 * abs(np.mean(chance))


def test_an_example_shows_every_error_it_causes_and_no_other(session: Session) -> None:
    found = session.evidence("original")
    matrix = found.influence
    assert matrix is not None
    hardest = {int(q): set(np.argsort(matrix[q], kind="stable")[:20].tolist()) for q in found.wrong}
    assert found.votes.max() > 1 and found.votes.min() == 0
    for i in (int(found.votes.argmax()), int(found.votes.argmin())):
        example = session.example("original", session.splits.train.uid[i])
        causes = {session.splits.validation.uid[q] for q in hardest if i in hardest[q] and matrix[q, i] < 0}
        assert {row["uid"] for row in example["caused"]} == causes
        assert example["errors"] == len(causes) == found.votes[i]
        value = [row["influence"] for row in example["caused"]]
        assert value == sorted(value) and max(value, default=-1) < 0


def test_a_row_names_its_nearest_of_another_label_and_its_copies(session: Session) -> None:
    rows = lists.suspects(session, "original", show="all", limit=200)["rows"]
    for row in rows[:20]:
        whole = session.example("original", row["uid"])
        assert row["copies"] == len(whole["twins"])
        nearest = whole["near"][0]
        assert row["nearest"] == {"label": nearest["given"], "similarity": round(nearest["similarity"], 3)}
        assert nearest["given"] != row["given"]


def test_suspects_are_ranked_and_reasons_name_the_labels(session: Session) -> None:
    found = lists.suspects(session, "original", limit=200)
    ranks = [row["rank"] for row in found["rows"]]
    assert ranks == sorted(ranks) and found["total"] == found["counts"]["open"]
    first = found["rows"][0]
    assert first["reason"].startswith(f"Labelled {first['given']}; {first['suggestion']} is likelier")
    assert first["suggestion"] != first["given"]


def test_a_decision_moves_a_suspect_from_one_list_to_the_other(session: Session) -> None:
    row = lists.suspects(session, "original")["rows"][0]
    session.review.decide("Ada", {row["uid"]: ("label", row["suggestion"])}, seen={row["uid"]: row["seen"]})
    after = lists.suspects(session, "original")
    assert row["uid"] not in {r["uid"] for r in after["rows"]} and after["counts"]["decided"] == 1
    [decided] = lists.suspects(session, "original", show="decided")["rows"]
    assert decided["label"] == row["suggestion"] and decided["decision"]["actor"] == "Ada"
    assert lists.history(session)["rows"][0]["in_force"]


def test_texts_in_lists_are_cut_and_whole_in_full(session: Session) -> None:
    frame = session.splits.train.frame
    long = frame[frame["text"].str.startswith(HOSTILE[2][:20])]
    if len(long):
        uid = str(long["uid"].iloc[0])
        assert len(session.train_rows("original", [uid])[0]["text"]) == SHOWN
        assert len(session.example("original", uid)["text"]) > 100_000
    rows = lists.suspects(session, "original", show="all", limit=200)["rows"]
    assert max(len(row["text"]) for row in rows) <= SHOWN


@pytest.mark.parametrize("uid", ["", "nothing", "../../etc/passwd"])
def test_an_unknown_example_is_said(session: Session, uid: str) -> None:
    with pytest.raises(RunError, match="has the uid"):
        session.example("original", uid)
    with pytest.raises(RunError, match="has the uid"):
        session.error("original", uid)


def test_a_version_that_is_not_prepared_says_so(session: Session) -> None:
    for file in session.evidence("original").version.folder.iterdir():
        file.unlink()
    assert lists.errors(session, "original") == {
        "prepared": False,
        "total": 0,
        "rows": [],
        "counts": {},
        "against": None,
    }
    assert not lists.suspects(session, "original")["prepared"]
    with pytest.raises(RunError, match="prepare it first"):
        _ = session.evidence("original").p


def test_predictions_of_other_data_are_refused(session: Session) -> None:
    path = session.evidence("original").version.folder / "predictions.parquet"
    pd.read_parquet(path).iloc[::-1].to_parquet(path)
    with pytest.raises(RunError, match="of other data"):
        _ = session.evidence("original").p


@pytest.mark.parametrize("what", ["nothing", "file", "unfinished"])
def test_what_is_no_run_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "file":
        path.write_text("x")
    elif what == "unfinished":
        path.mkdir()
        (path / "result.json").write_text('{"command": "repair"}')
    with pytest.raises((RunError, OSError), match=r"run directory|finished|Not a directory"):
        Session(path)


@pytest.mark.slow
def test_compare_counts_what_changed(session: Session, run: Path, tmp_path: Path) -> None:
    retrain(Loaded.of(run), tmp_path / "job", {"basis": "all", "actor": "Ada", "parent": "original"})
    found = compare(session, "original", "0001")
    assert sum(map(sum, found["confusion"][0])) == found["n"] == len(session.splits.verdict)
    wrong = [sum(m[i][j] for i in range(2) for j in range(2) if i != j) for m in found["confusion"]]
    assert wrong[1] - wrong[0] == found["new"]["total"] - found["gone"]["total"]
    assert [c["metric"] for c in found["comparisons"]] == ["ap", "accuracy", "macro_f1"]


def test_a_version_is_not_compared_with_itself(session: Session) -> None:
    with pytest.raises(RunError, match="choose two"):
        compare(session, "original", "original")


def test_what_is_taken_along(session: Session) -> None:
    paths = take(session, "original")
    assert sorted(paths) == [
        "adapter.zip",
        "changes.csv",
        "changes.md",
        "repaired.csv",
        "repaired.jsonl",
        "repaired.parquet",
    ]
    assert list(pd.read_parquet(paths["repaired.parquet"])["label"]) == list(session.splits.train.frame["label"])
    assert path_of(session, "original", "changes.md").read_text().startswith("# Changes")


@pytest.mark.parametrize("file", ["../../result.json", "ledger.sqlite", "", "adapter.zip/.."])
def test_no_path_comes_from_outside(session: Session, file: str) -> None:
    with pytest.raises(RunError, match="not one of"):
        path_of(session, "original", file)
    with pytest.raises(RunError, match="not one of"):
        path_of(session, f"../{file}", "changes.md")


def test_nearest_with_another_label() -> None:
    embedded = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], dtype=np.float32)
    near, cosine = opposite(embedded, np.array([0, 0, 1, 1]), k=2)
    assert near.tolist() == [[3, 2], [3, 2], [1, 0], [1, 0]]
    assert (np.diff(cosine, axis=1) <= 0).all()
    alone, none = opposite(embedded, np.zeros(4, dtype=np.int64), k=1)
    assert (alone == -1).all() and np.isnan(none).all()


def test_twins_are_the_same_and_nearly_the_same() -> None:
    assert twins(["one two three four", "other", "one two three four", "one two three four!"]) == [
        [2, 3],
        [],
        [0, 3],
        [0, 2],
    ]
