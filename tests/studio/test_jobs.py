"""Work in a process of its own: trained, cancelled, crashed, found again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from tracemend.errors import RunError
from tracemend.progress import Progress
from tracemend.runs import read_json, write_json
from tracemend.studio import Session, lists
from tracemend.studio.jobs import Job, Jobs
from tracemend.studio.prepare import Loaded
from tracemend.studio.retrain import retrain
from tracemend.studio.takeaway import take
from tracemend.studio.versions import training_set, version, versions
from tracemend.studio.worker import JobProgress
from tracemend.tuning.predictor import Predictor


def accept(session: Session, n: int) -> list[str]:
    rows = lists.suspects(session, "original", limit=n)["rows"]
    for row in rows:
        session.review.decide("Ada", {row["uid"]: ("label", row["suggestion"])}, seen={row["uid"]: row["seen"]})
    return [row["uid"] for row in rows]


def wait(jobs: Jobs, number: str, seconds: float = 60) -> Job:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        job = jobs.job(number)
        if job.state != "running":
            return job
        time.sleep(0.05)
    raise AssertionError(f"the job is still running after {seconds} s")


@pytest.mark.slow
def test_retrained_on_what_was_decided(session: Session, run: Path, tmp_path: Path) -> None:
    uids = accept(session, 5)
    session.review.decide("Ada", {uids[0]: ("remove", None)}, seen=session.review.rows().touched)
    asked = {"basis": "people", "actor": "Ada", "note": "first", "parent": "original"}
    made = retrain(Loaded.of(run), tmp_path / "job", asked)
    assert [v.name for v in versions(run)][-1] == made.name == "0001"
    found = version(run, "0001")
    assert found.prepared and found.actor == "Ada" and found.parent == "original" and len(found.decisions) == 5
    train = training_set(found, session.splits.train, session.review.rows().all)
    assert uids[0] not in train.uid and len(train) == len(session.splits.train) - 1 == found.n_train
    changed = {u for u, a, b in zip(train.uid, train.y, _given(session, train.uid), strict=True) if a != b}
    assert changed == set(uids[1:])
    assert session.current == "0001"
    # What is undone later was tuned on all the same.
    session.review.undo("Ada", session.review.last("Ada").version)  # type: ignore[union-attr]
    assert training_set(found, session.splits.train, session.review.rows().all).fingerprint == train.fingerprint
    errors = lists.errors(session, "0001", show="all", limit=200)["rows"]
    assert all(row["change"] is not None for row in errors)
    assert len(take(session, "0001")["repaired.csv"].read_text().splitlines()) > 1
    assert Predictor.load(found.folder).adapter == "adapter"
    removed = session.splits.train.uid.index(uids[0])
    influence = session.evidence("0001").influence
    assert influence is not None and np.isnan(influence[:, removed]).all()


def _given(session: Session, uids: list[str]) -> list[int]:
    return [int(session.splits.train.y[session.splits.train.uid.index(uid)]) for uid in uids]


def test_nothing_decided_is_nothing_to_tune_on(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="decide first"):
        retrain(Loaded.of(run), tmp_path, {"basis": "people", "actor": "Ada", "parent": "original"})


@pytest.mark.slow
def test_the_unattended_repair_counts_where_it_is_asked_for(session: Session, run: Path, tmp_path: Path) -> None:
    proposed = session.review.rows().machine
    assert proposed
    made = retrain(Loaded.of(run), tmp_path, {"basis": "all", "actor": "Ada", "parent": "original"})
    assert len(made.decisions) == len(proposed)


@pytest.mark.slow
def test_a_worker_prepares_and_is_found_again(session: Session, run: Path) -> None:
    folder = version(run, "original").folder
    before = (folder / "influence.npy").read_bytes()
    for file in folder.iterdir():
        file.unlink()
    job = session.jobs.start("prepare", {"version": "original"})
    with pytest.raises(RunError, match="is still running"):
        Jobs(run).start("prepare", {"version": "original"})  # another server on the same run
    assert Jobs(run).job(job.number).state == "running"
    done = wait(Jobs(run), job.number)
    assert done.state == "done", done.facts
    assert (folder / "influence.npy").read_bytes() == before


def test_of_two_servers_that_start_a_job_at_once_one_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Jobs.latest
    both = threading.Barrier(2)

    def looked(jobs: Jobs) -> Job | None:
        found = whole(jobs)
        both.wait(10)  # neither has made its folder yet
        return found

    real = subprocess.Popen
    monkeypatch.setattr(Jobs, "latest", looked)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: real([sys.executable, "-c", "input()"], stdin=-1))
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(Jobs(run).start, "prepare", {"version": "original"}) for _ in range(2)]
    faults = [str(one.exception()) for one in asked if one.exception()]
    assert len(faults) == 1 and "in the same moment" in faults[0]
    assert [p.name for p in (run / "studio" / "jobs").iterdir()] == ["0001"]
    assert not list((run / "studio").glob(".job-*"))
    psutil.Process(read_json(run / "studio" / "jobs" / "0001" / "worker.json")["pid"]).kill()


@pytest.mark.slow
def test_a_worker_that_is_killed_is_a_failed_job_and_can_be_tried_again(session: Session, run: Path) -> None:
    (version(run, "original").folder / "prepared.json").unlink()
    job = session.jobs.start("prepare", {"version": "original"})
    about = read_json(run / "studio" / "jobs" / job.number / "worker.json")
    os.kill(about["pid"], signal.SIGKILL)
    failed = wait(session.jobs, job.number, 10)
    assert failed.state == "failed" and "without a result" in failed.facts["message"]
    again = session.jobs.start("prepare", {"version": "original"})
    assert again.number == "0002" and session.jobs.cancel(again.number).state == "cancelled"
    assert not version(run, "original").prepared


@pytest.mark.slow
def test_a_fault_in_the_worker_is_told(session: Session, run: Path) -> None:
    (version(run, "original").folder / "prepared.json").unlink()
    write_json(run / "classifier.json", {**read_json(run / "classifier.json"), "fingerprint": "other"})
    failed = wait(session.jobs, session.jobs.start("prepare", {"version": "original"}).number)
    assert failed.state == "failed" and "bring back the model" in failed.facts["message"]


def test_time_left_is_that_of_the_whole_tuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tracemend.studio.worker._EVERY", 0.0)
    progress: Progress = JobProgress(tmp_path)
    shares = []
    for epoch in (1, 2):
        for _ in progress.track(range(2), task=f"tune epoch {epoch}/2"):
            time.sleep(0.01)
            shares.append(read_json(tmp_path / "status.json").get("share", 0.0))
    assert shares == [0.0, 0.25, 0.5, 0.75]
    assert 0 < read_json(tmp_path / "status.json")["left"] < 0.1 or shares[-1] == 0.75
