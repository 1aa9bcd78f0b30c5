"""What the page has confirmed is in the ledger, whenever the server dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.browser import Server
from benchmarks.studio_kill import decide_and_kill
from tests.studio.conftest import worker_of
from tracemend.studio import Session
from tracemend.studio.versions import version


@pytest.mark.slow
def test_ten_kills_lose_no_confirmed_decision(run: Path) -> None:
    found = decide_and_kill(run, kills=10, seed=0)
    assert found["confirmed"] > 20
    assert found["lost"] == 0


@pytest.mark.slow
def test_a_killed_server_leaves_its_work_and_the_next_one_finds_it(run: Path) -> None:
    (version(run, "original").folder / "prepared.json").unlink()
    first = Server(run)
    worker = worker_of(run)
    first.kill()
    assert worker.is_running()
    second = Server(run)
    try:
        job = second.get("pulse")["job"]
        assert job["number"] == "0001" and job["state"] in ("running", "done")
    finally:
        second.stop()
    # Only what a server started itself ends with it.
    assert Session(run).jobs.job("0001").state in ("running", "done")
    worker.wait(60)
    assert version(run, "original").prepared


@pytest.mark.slow
def test_a_server_that_is_told_to_end_ends_its_work(run: Path) -> None:
    (version(run, "original").folder / "prepared.json").unlink()
    server = Server(run)
    worker = worker_of(run)
    server.stop()
    worker.wait(20)
    assert Session(run).jobs.job("0001").state == "cancelled"
