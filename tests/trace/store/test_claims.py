"""Claims: one process works, the others wait for it, and nobody waits for the dead."""

from __future__ import annotations

import json
import os
import platform
import time
from pathlib import Path

import pytest

from tests.trace.store.job import warm
from tracemend.errors import TraceError
from tracemend.trace.store.claims import Claims
from tracemend.trace.store.ranks import Rank, rank


def test_one_holds_it_and_gives_it_back(tmp_path: Path) -> None:
    with Claims(tmp_path) as first, Claims(tmp_path) as second:
        with first.held("a") as mine, second.held("a") as other, second.held("b") as free:
            assert (mine, other, free) == (True, False, True)
        with second.held("a") as mine:
            assert mine
    assert not list(tmp_path.iterdir())


def test_an_error_gives_it_back(tmp_path: Path) -> None:
    with Claims(tmp_path) as claims:
        with pytest.raises(KeyboardInterrupt), claims.held("a"):
            raise KeyboardInterrupt
        assert claims.void("a")


@pytest.mark.parametrize("step", ["open", "write", "close"])
def test_ctrl_c_while_a_claim_is_taken(tmp_path: Path, monkeypatch, step: str) -> None:
    real = getattr(os, step)

    def interrupted(*args):
        # As a signal does it: the call is done, and its caller never hears of it.
        done = real(*args)
        if step != "open" or str(args[0]).endswith("a"):
            raise KeyboardInterrupt
        return done

    def work() -> None:
        with Claims(tmp_path) as claims, monkeypatch.context() as patch:
            patch.setattr(os, step, interrupted)
            with claims.held("a"):
                pytest.fail("it was interrupted before")

    with Claims(tmp_path) as other, other.held("b"):
        with pytest.raises(KeyboardInterrupt):
            work()
        assert [path.name for path in tmp_path.iterdir()] == ["b"], "what others hold is theirs"


def _hold(folder: Path) -> None:
    with Claims(folder) as claims, claims.held("a"):
        time.sleep(60)


@pytest.mark.slow
def test_a_dead_process_holds_nothing(tmp_path: Path) -> None:
    process = warm.Process(target=_hold, args=(tmp_path,))
    process.start()
    while not ((tmp_path / "a").exists() and (tmp_path / "a").read_text("utf-8")):
        time.sleep(0.01)
    with Claims(tmp_path) as claims:
        with claims.held("a") as mine:
            assert not mine
        process.kill()
        process.join()
        with claims.held("a") as mine:
            assert mine


def claim(folder: Path, *, age: float, **holder: object) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "a").write_text(json.dumps(holder) if holder else "")
    os.utime(folder / "a", (time.time() - age, time.time() - age))


def test_only_what_the_dead_left_is_tidied(tmp_path: Path) -> None:
    with Claims(tmp_path, patience=60) as claims, claims.held("b"):
        claim(tmp_path, age=61, host="elsewhere", pid=1)
        claims.tidy()
        assert [file.name for file in tmp_path.iterdir()] == ["b"]
        claims.tidy()  # nothing to do


@pytest.mark.parametrize(
    ("holder", "time_given"),
    [({"host": "elsewhere", "pid": 1, "boot": "x", "space": 1, "started": 1}, 60), ({}, 2)],
    ids=["elsewhere", "killed before it wrote"],
)
def test_what_cannot_be_looked_at_is_given_time(tmp_path: Path, holder, time_given: float) -> None:
    with Claims(tmp_path, patience=60) as claims:
        claim(tmp_path, age=time_given - 1, **holder)
        assert not claims.void("a")
        claim(tmp_path, age=time_given + 2, **holder)
        assert claims.void("a")
        with claims.held("a") as mine:
            assert mine
            assert json.loads((tmp_path / "a").read_text("utf-8"))["host"] == platform.node()


def test_a_number_given_to_another_process_is_not_the_holder(tmp_path: Path) -> None:
    with Claims(tmp_path) as claims, claims.held("a"):
        assert not claims.void("a")
        mine = json.loads((tmp_path / "a").read_text("utf-8"))
        claim(tmp_path, age=0, **{**mine, "started": 1})
        assert claims.void("a")


def test_a_held_claim_is_refreshed(tmp_path: Path) -> None:
    with Claims(tmp_path, patience=1.2) as claims, claims.held("a"):
        first = (tmp_path / "a").stat().st_mtime_ns
        time.sleep(0.7)
        assert (tmp_path / "a").stat().st_mtime_ns > first


@pytest.mark.parametrize("names", [("RANK", "WORLD_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE")])
def test_ranks(monkeypatch, names) -> None:
    assert rank() == Rank(0, 1)
    monkeypatch.setenv(names[0], "1")
    with pytest.raises(TraceError, match="set both to numbers, or neither"):
        rank()
    monkeypatch.setenv(names[1], "3")
    assert rank() == Rank(1, 3)
    assert [i for i in range(7) if rank().owns(i)] == [1, 4]
    monkeypatch.setenv(names[0], "3")
    with pytest.raises(TraceError, match="counted from 0"):
        rank()
