"""The run directory: nothing half-written, resumed by configuration, damage named."""

from __future__ import annotations

import csv
import errno
import gc
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.errors import RunError
from tracemend.runs import RunDirectory, atomic, fingerprint, read_json, versions, write_csv, write_json, write_parquet

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def leftovers(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.rglob("*.tmp"))


def fail_with(code: int) -> Any:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    return fail


# Atomic files


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "result.json"
    with atomic(path) as file:
        file.write("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_fault_in_mid_write_keeps_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "result.json"
    path.write_text("before")
    with pytest.raises(error), atomic(path) as file:  # noqa: PT012
        file.write("half")
        raise error
    assert path.read_text() == "before"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_keeps_what_was_there_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"ap": 0.9})
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail_with(code))
        with pytest.raises(RunError, match=r"disk is full.*unchanged.*resumes"):
            write_json(path, {"ap": 0.1})
    assert read_json(path) == {"ap": 0.9}
    assert leftovers(tmp_path) == []


def test_a_read_only_directory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "replace", fail_with(errno.EROFS))
    with pytest.raises(RunError, match="choose another --out"):
        write_json(tmp_path / "result.json", {})


def test_other_faults_of_the_system_stay_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", fail_with(errno.EIO))
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        write_json(tmp_path / "result.json", {})


# JSON and Parquet


@settings(max_examples=50)
@given(value=JSON)
def test_json_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.mktemp("json") / "value.json"
    write_json(path, value)
    assert read_json(path) == value


def test_json_takes_numpy_and_paths_and_writes_null_for_what_is_not_finite(tmp_path: Path) -> None:
    value = {"n": np.int64(3), "a": np.arange(2), "p": Path("x"), "nan": math.nan, "inf": [np.float32("inf")]}
    write_json(tmp_path / "v.json", value)
    assert read_json(tmp_path / "v.json") == {"n": 3, "a": [0, 1], "p": "x", "nan": None, "inf": [None]}


def test_json_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="set cannot be written as JSON"):
        write_json(tmp_path / "v.json", {"s": {1}})
    assert list(tmp_path.iterdir()) == []


def test_only_what_hinders_writing_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for path in (tmp_path / "file" / "v.json", tmp_path / ("v" * 300)):
        with pytest.raises(RunError, match="cannot be written to"):
            write_json(path, {})
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "v.json"):
        (tmp_path / "missing").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from('\r\n",')),
        min_size=1,
    )
)
def test_texts_come_back_from_a_csv_as_they_were(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    write_csv(path, pd.DataFrame({"text": texts, "score": [0.5] * len(texts)}))
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert rows == [[text, "0.5"] for text in texts]
    again = pd.read_csv(path, keep_default_na=False, dtype={"text": str})
    assert list(again["text"]) == texts and set(again["score"]) == {0.5}


def test_missing_and_damaged_files_are_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"does not exist; is .* a run directory"):
        read_json(tmp_path / "result.json")
    (tmp_path / "result.json").write_text('{"half": ')
    with pytest.raises(RunError, match=r"is damaged .*delete it"):
        read_json(tmp_path / "result.json")


def test_tables_come_back_as_they_were(tmp_path: Path) -> None:
    table = pd.DataFrame({"uid": ["a-0", "b-0"], "score": [0.5, -1.0], "reply": [None, "é"]})
    write_parquet(tmp_path / "t.parquet", table)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), table)


# Fingerprints


def test_a_fingerprint_never_changes() -> None:
    """A pinned value: a change would make every run on users' disks look like another run."""
    assert fingerprint({"b": 1, "a": ["é", None]}, 0.5) == "fa8901ef63ac76c4"


@given(st.dictionaries(st.text(), st.integers(), min_size=1))
def test_a_fingerprint_ignores_key_order_and_sees_every_value(parts: dict[str, int]) -> None:
    assert fingerprint(parts) == fingerprint(dict(reversed(parts.items())))
    key = next(iter(parts))
    assert fingerprint(parts) != fingerprint({**parts, key: parts[key] + 1})


def test_versions_name_what_figures_depend_on() -> None:
    assert {"python", "torch", "transformers", "peft", "numpy", "pandas", "scikit-learn"} <= set(versions())


# The directory


def make(path: Path, **changes: Any) -> RunDirectory:
    settings = {"command": "repair", "config": {"seed": 0, "rounds": 5}, "fingerprints": {"train": "abc"}}
    return RunDirectory(path, **{**settings, **changes})


def test_a_step_is_done_once_and_read_back_on_resume(tmp_path: Path) -> None:
    done: list[int] = []

    def work() -> dict[str, Any]:
        done.append(1)
        return {"ap": 0.9}

    assert make(tmp_path / "run").step("tune", work) == {"ap": 0.9}
    assert make(tmp_path / "run").step("tune", work) == {"ap": 0.9}
    assert done == [1]


def test_a_step_that_failed_is_done_again(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run.step("tune", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run.step("tune", lambda: 1) == 1


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"command": "tune"}, "command: there 'repair', now 'tune'"),
        ({"config": {"seed": 1, "rounds": 5}}, "seed: there 0, now 1"),
        ({"config": {"seed": 0}}, "rounds: there 5, now None"),
        ({"fingerprints": {"train": "xyz"}}, "(other data)"),
        ({"fingerprints": {"train": "xyz", "model": "m"}}, "(other data and model)"),
        ({"config": {"seed": 1, "rounds": 5}, "fingerprints": {"train": "xyz"}}, "now 1; and other data)"),
        ({"config": dict.fromkeys("abcd", 1)}, "c: there None, now 1; and 3 more)"),
    ],
)
def test_another_run_in_the_directory_is_an_error_that_names_the_difference(
    tmp_path: Path, changes: dict[str, Any], difference: str
) -> None:
    make(tmp_path / "run").step("tune", lambda: 1)
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(RunError) as caught:
        make(tmp_path / "run", **changes)
    assert difference in str(caught.value) and "Choose another --out" in str(caught.value)
    assert "xyz" not in str(caught.value)
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_a_directory_without_work_goes_to_the_next_configuration(tmp_path: Path) -> None:
    refused = make(tmp_path / "run")
    (tmp_path / "run" / "tuning").mkdir()
    (tmp_path / "run" / "events.jsonl").write_text("old")
    (tmp_path / "run" / "fault-20260102-030405.log").write_text("Traceback")
    write_parquet(tmp_path / "run" / "examples.parquet", pd.DataFrame({"a": [1]}))
    run = make(tmp_path / "run", config={"seed": 1})
    assert json.loads((tmp_path / "run" / "config.json").read_text())["config"] == {"seed": 1}
    assert {p.name for p in run.path.iterdir()} == {"config.json", "tuning", "fault-20260102-030405.log"}
    run.step("tune", lambda: 1)
    with pytest.raises(RunError, match="belongs to another run"):
        make(tmp_path / "run", config=refused.config)


def test_what_is_not_utf_8_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_bytes(b'{"\xff"')
    with pytest.raises(RunError, match=r"is damaged .*delete it"):
        read_json(tmp_path / "v.json")


@pytest.mark.parametrize("name", ["result.json", "mine.txt", "tuning/adapter.bin"])
def test_a_directory_with_anything_else_does_not(tmp_path: Path, name: str) -> None:
    path = make(tmp_path / "run").path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    with pytest.raises(RunError, match="belongs to another run"):
        make(tmp_path / "run", config={})
    assert path.exists()


def test_a_directory_that_another_process_works_in_is_not_taken(tmp_path: Path) -> None:
    code = (
        "import sys; from tracemend.runs import RunDirectory; held = RunDirectory(sys.argv[1], command='a', config={})"
    )
    given = [sys.executable, "-c", f"{code}; print('here', flush=True); sys.stdin.read()", str(tmp_path / "run")]
    with subprocess.Popen(given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "here\n"
        before = (tmp_path / "run" / "config.json").read_bytes()
        with pytest.raises(RunError, match="belongs to another run"):
            make(tmp_path / "run")
        RunDirectory(tmp_path / "run", command="a", config={})  # the same run: ranks share a directory
        assert (tmp_path / "run" / "config.json").read_bytes() == before
        other.communicate("")
    make(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not list open files")
def test_no_file_stays_open(tmp_path: Path) -> None:
    folder = Path("/proc/self/fd")
    before = len(list(folder.iterdir()))
    for i in range(20):
        make(tmp_path / str(i))
    gc.collect()
    assert len(list(folder.iterdir())) <= before + 1


@pytest.mark.parametrize("content", [b"{}", b"[]", b"{", b'{"\xff"'], ids=str)
def test_a_damaged_configuration_has_a_remedy_that_helps(tmp_path: Path, content: bytes) -> None:
    run = make(tmp_path / "run")
    run.step("tune", lambda: 1)
    (run.path / "config.json").write_bytes(content)
    with pytest.raises(RunError, match=r"config\.json is damaged.*choose another --out, or delete \S+/run and give"):
        make(tmp_path / "run")


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="not a run of tracemend"):
        make(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(RunError, match="is a file, not a directory"):
        make(tmp_path / "run")


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be made"):
        make(tmp_path / "file" / "run")


def test_only_a_complete_result_counts(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    assert run.result is None
    run.finish(metrics={"ap": 0.5}, controls={"ap": 0.4}, seconds=1.0, status="interrupted")
    assert run.result is None
    returned = run.finish(metrics={"ap": np.float64(0.9)}, controls={"ap": math.nan}, seconds=1.23456, note="x")
    assert run.result == returned == json.loads((tmp_path / "run" / "result.json").read_text("utf-8"))
    assert returned["metrics"] == {"ap": 0.9} and returned["controls"] == {"ap": None}
    assert returned["status"] == "complete" and returned["seconds"] == 1.235 and returned["note"] == "x"
    assert set(returned) >= {"schema", "command", "config", "versions", "fingerprints"}
