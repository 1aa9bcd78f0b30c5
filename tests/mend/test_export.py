from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.data import make_splits, read
from tracemend.data.examples import write_examples
from tracemend.data.ledger import Decision, Ledger
from tracemend.data.schema import ROW, Labelled
from tracemend.errors import DataError, RunError
from tracemend.mend.repaired import apply, export, remember_names, undo
from tracemend.mend.whole import export_file
from tracemend.runs import write_json


def dialogue() -> Labelled:
    return Labelled.make(
        ["hello | there", "=1+1 <b>\nno", "x" * 300, "ok"],
        ["safe", "safe", "unsafe", "unsafe"],
        replies=["hi", "-no", "why", None],
        groups=["g1", "g1", "g2", "g2"],
        extra=pd.DataFrame({"votes": [1, 2, 3, 4]}),
    )


def ledger_of(data: Labelled, path: Path) -> Ledger:
    a, b, c, _ = data.uid
    ledger = Ledger(path)
    ledger.add(
        [
            Decision(
                uid=b, kind="label", old="safe", new="unsafe", round=1, score=0.5, actor="gbair",
                evidence={"reason": "pushed 3 errors"},
            ),
            Decision(uid=c, kind="remove", old="unsafe", round=2, score=0.25, actor="gbair"),
            Decision(uid=a, kind="keep", old="safe", round=2, actor="Ada"),
            Decision(uid=a, kind="comment", new="odd", actor="Ada"),
        ]
    )  # fmt: skip
    return ledger


def test_apply_removes_and_relabels_and_nothing_else(tmp_path: Path) -> None:
    data = dialogue()
    before = data.frame.copy()
    with ledger_of(data, tmp_path / "ledger.sqlite") as ledger:
        repaired = apply(data, ledger.state())
    assert repaired.uid == [data.uid[i] for i in (0, 1, 3)]
    assert list(repaired.frame["label"]) == ["safe", "unsafe", "unsafe"]
    assert list(repaired.frame["votes"]) == [1, 2, 4]
    pd.testing.assert_frame_equal(data.frame, before)


def test_decisions_about_other_data_are_an_error(tmp_path: Path) -> None:
    data = dialogue()
    with ledger_of(data, tmp_path / "ledger.sqlite") as ledger, pytest.raises(DataError, match="1 of 3 decisions"):
        apply(data.take([0, 1]), ledger.state())
    with pytest.raises(DataError, match="not one of: safe, unsafe"):
        apply(data, {data.uid[0]: Decision(uid=data.uid[0], kind="label", new="rude")})


def test_every_format_holds_the_repaired_set_under_the_users_names(tmp_path: Path) -> None:
    data = dialogue()
    with ledger_of(data, tmp_path / "ledger.sqlite") as ledger:
        paths = export(data, ledger, tmp_path / "out", names={"text": "comment", "label": "toxicity"})
    assert sorted(paths) == ["changes.csv", "changes.md", "repaired.csv", "repaired.jsonl", "repaired.parquet"]
    readers: dict[str, Any] = {
        "repaired.csv": pd.read_csv,
        "repaired.jsonl": lambda path: pd.read_json(path, lines=True),
        "repaired.parquet": pd.read_parquet,
    }
    for name, reader in readers.items():
        frame = reader(paths[name])
        assert list(frame["comment"]) == [data.frame["text"][i] for i in (0, 1, 3)], name
        assert list(frame["toxicity"]) == ["safe", "unsafe", "unsafe"]
        assert list(frame["group"]) == ["g1", "g1", "g2"] and list(frame["votes"]) == [1, 2, 4]
        assert list(frame["reply"].fillna("")) == ["hi", "-no", ""]
        assert "truth" not in frame


def test_the_diff_is_readable_and_complete(tmp_path: Path) -> None:
    data = dialogue()
    with ledger_of(data, tmp_path / "ledger.sqlite") as ledger:
        paths = export(data, ledger, tmp_path, formats=["csv"])
    diff = paths["changes.md"].read_text(encoding="utf-8")
    assert "4 examples before, 3 after: 1 relabelled, 1 removed, 1 looked at and kept." in diff
    rows = [line for line in diff.splitlines() if line.startswith("| 1 |")]
    assert rows == [f"| 1 | label | safe → unsafe | pushed 3 errors | =1+1 \\<b\\> no ⟶ -no | gbair | {data.uid[1]} |"]
    assert "2 texts begin with = + - or @" in diff
    assert "…" in diff and "x" * 130 not in diff
    assert "hello \\| there" in diff and "score 0.25" in diff and "## Words and comments" in diff
    table = pd.read_csv(paths["changes.csv"])
    assert list(table.version) == [1, 2, 3, 4] and list(table.in_force) == [True] * 4
    assert list(table.text) == [data.frame["text"][i] for i in (1, 2, 0, 0)]


def test_undo_gives_one_example_back_and_writes_the_same_files_again(tmp_path: Path) -> None:
    data = dialogue()
    run = tmp_path / "run"
    with ledger_of(data, run / "ledger.sqlite") as ledger:
        export(data, ledger, run, formats=["csv"], names={"text": "comment"})
    paths = undo(run, data.uid[2], data, actor="Ada")
    assert sorted(paths) == ["changes.csv", "changes.md", "repaired.csv"]
    frame = pd.read_csv(paths["repaired.csv"])
    assert list(frame["comment"]) == list(data.frame["text"])
    assert list(frame["label"]) == ["safe", "unsafe", "unsafe", "unsafe"]
    diff = paths["changes.md"].read_text(encoding="utf-8")
    assert "## Taken back" in diff and "0 removed" in diff
    with Ledger(run / "ledger.sqlite") as ledger:
        assert ledger.decisions()[-1].actor == "Ada"
        version = ledger.version
    # A second time (after a kill between the row and the files, say) only writes the files.
    paths["repaired.csv"].unlink()
    assert undo(run, data.uid[2], data)["repaired.csv"].exists()
    with Ledger(run / "ledger.sqlite") as ledger:
        assert ledger.version == version


def test_what_people_decided_alone_is_a_set_of_its_own(tmp_path: Path) -> None:
    """Where a repair is not recommended, the answers of people stand all the same."""
    data = dialogue()
    first, second, *_ = data.uid
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.add([Decision(uid=first, kind="label", old="safe", new="unsafe", round=1, actor="repair")])
        assert "answered.csv" not in export(data, ledger, tmp_path)
        ledger.add([Decision(uid=second, kind="label", old="safe", new="unsafe", actor="person")])
        paths = export(data, ledger, tmp_path)
    labels = {name: list(pd.read_csv(paths[f"{name}.csv"])["label"]) for name in ("repaired", "answered")}
    assert labels == {"repaired": ["unsafe"] * 4, "answered": ["safe", "unsafe", "unsafe", "unsafe"]}
    assert "answered.csv" not in undo(tmp_path, second, data) and not list(tmp_path.glob("answered.*"))


def test_of_two_who_decide_at_once_neither_leaves_the_files_behind_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bo decides, and has the files written, in the midst of Ada's being written."""
    data = dialogue()
    module = importlib.import_module("tracemend.mend.repaired")
    path, write = tmp_path / "ledger.sqlite", module.write
    a, b, *_ = (Decision(uid=uid, kind="remove", old="safe", actor="Ada") for uid in data.uid)

    def overtaken(*args: Any, **options: Any) -> Path:
        monkeypatch.setattr(module, "write", write)
        with Ledger(path) as ledger:
            ledger.add([b])
            export(data, ledger, tmp_path)
        return write(*args, **options)

    monkeypatch.setattr(module, "write", overtaken)
    with Ledger(path) as ledger:
        ledger.add([a])
        paths = export(data, ledger, tmp_path)
    assert list(pd.read_csv(paths["repaired.csv"])["uid"]) == data.uid[2:]
    assert len(pd.read_csv(paths["changes.csv"])) == 2


def test_undo_of_nothing(tmp_path: Path) -> None:
    data = dialogue()
    with pytest.raises(RunError, match="does not exist"):
        undo(tmp_path, data.uid[0], data)
    assert list(tmp_path.iterdir()) == []
    ledger_of(data, tmp_path / "ledger.sqlite").close()
    with pytest.raises(RunError, match="no decision on"):
        undo(tmp_path, data.uid[3], data)
    with pytest.raises(DataError, match="the data lacks"):
        undo(tmp_path, data.uid[2], data.take([0, 1]))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.version == 4


def test_the_same_ledger_gives_the_same_bytes(tmp_path: Path) -> None:
    data = dialogue()
    with ledger_of(data, tmp_path / "ledger.sqlite") as ledger:
        first = {name: path.read_bytes() for name, path in export(data, ledger, tmp_path / "a").items()}
        second = {name: path.read_bytes() for name, path in export(data, ledger, tmp_path / "b").items()}
    assert first == second


def test_unknown_format_writes_nothing(tmp_path: Path) -> None:
    data = dialogue()
    with ledger_of(data, tmp_path / "ledger.sqlite") as ledger, pytest.raises(DataError, match="did you mean 'jsonl'"):
        export(data, ledger, tmp_path / "out", formats=["json"])
    assert not (tmp_path / "out").exists()


def test_no_decision_at_all(tmp_path: Path) -> None:
    data = dialogue()
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        paths = export(data, ledger, tmp_path, formats=["jsonl"])
    assert len(pd.read_json(paths["repaired.jsonl"], lines=True)) == 4
    assert "None." in paths["changes.md"].read_text(encoding="utf-8")


KINDS = st.sampled_from(["label", "remove", "keep"])


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), KINDS, st.sampled_from("xyz"), st.integers(1, 3)), max_size=12))
def test_undoing_everything_applied_is_the_identity(steps: list[tuple[int, Any, str, int]]) -> None:
    data = Labelled.make([f"text {i // 2}" for i in range(6)], list("xyzxyz"))
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
        ledger.add(
            Decision(uid=data.uid[row], kind=kind, new=new if kind == "label" else None, round=round)
            for row, kind, new, round in steps
        )
        state = ledger.state()
        repaired = apply(data, state)
        removed = {uid for uid, d in state.items() if d.kind == "remove"}
        assert repaired.uid == [uid for uid in data.uid if uid not in removed]
        for uid in state:
            ledger.undo(uid)
        assert apply(data, ledger.state()).fingerprint == data.fingerprint


def test_a_reason_is_told_whole(tmp_path: Path) -> None:
    data = dialogue()
    reason = "Labelled safe; unsafe is likelier; it pushes 5 or more validation errors; " * 2 + "0.86 similar."
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.add([Decision(uid=data.uid[0], kind="remove", old="safe", evidence={"reason": reason})])
        paths = export(data, ledger, tmp_path, formats=["csv"])
    assert reason in paths["changes.md"].read_text(encoding="utf-8")


@pytest.mark.parametrize("given", ["one file", "validation", "test"])
def test_the_whole_file_comes_back_in_its_order(tmp_path: Path, given: str) -> None:
    def table(n: int, of: str) -> pd.DataFrame:
        words = [f"{of} {i} {hash((of, i))}" for i in range(n)]
        return pd.DataFrame({"note": words, "comment": words, "toxic": ["yes", "no"] * (n // 2)})

    def labelled(frame: pd.DataFrame) -> Labelled:
        return read(frame, text="comment", label="toxic")

    frame = table(60, "file")
    beside = {given: labelled(table(20, given))} if given != "one file" else {}
    splits = make_splits(labelled(frame), **beside)
    write_examples(splits, tmp_path)
    write_json(tmp_path / "result.json", {"schema": 1, "command": "repair", "status": "complete"})
    remember_names(tmp_path, {"text": "comment", "label": "toxic"})
    gone, turned = splits.train.uid[0], splits.train.uid[1]
    rows = dict(zip(splits.train.uid, splits.train.frame[ROW], strict=True))
    old = splits.train.labels[splits.train.y[1]]
    new = {"yes": "no", "no": "yes"}[old]
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.add(
            [
                Decision(uid=gone, kind="remove", old=splits.train.labels[splits.train.y[0]]),
                Decision(uid=turned, kind="label", old=old, new=new),
            ]
        )
    made = pd.read_csv(export_file(tmp_path, tmp_path / "whole.csv"))
    parts = {uid: name for name, part in splits.parts.items() for uid in part.uid}
    assert list(made["split"]) == [parts[uid] for uid in made["uid"]]
    if given != "one file":  # what came in another file follows
        behind = made.iloc[59:]
        assert set(behind["note"]) == set(beside[given].frame["note"])
        assert set(behind["split"]) == ({"test"} if given == "test" else {"validation", "verdict"})
        made = made.iloc[:59]
    expected = frame.copy()
    expected.loc[rows[turned], "toxic"] = new
    expected = expected.drop(index=rows[gone])
    assert list(made["note"]) == list(expected["note"])
    assert list(made["toxic"]) == list(expected["toxic"])
    assert set(made.columns) == {"uid", "comment", "toxic", "note", "split"}


def test_the_file_of_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        export_file(tmp_path, tmp_path / "whole.csv")
