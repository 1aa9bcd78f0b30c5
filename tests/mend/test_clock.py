"""The time of a run, over all processes that worked on it."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from tracemend.errors import RunError
from tracemend.mend import clock as clocks
from tracemend.mend.clock import Clock
from tracemend.progress import EventLog, Progress
from tracemend.runs import read_json


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of a clock that only the test moves."""
    at = [100.0]
    monkeypatch.setattr(clocks, "time", SimpleNamespace(monotonic=lambda: at[0]))
    return at


def test_finished_pieces_add_up_and_lost_work_counts_once(now: list[float], tmp_path: Path) -> None:
    path = tmp_path / "seconds.json"
    first = Clock(path, Progress(), begun=False)
    now[0] += 3
    first.note("epoch")
    now[0] += 5  # lost: the process dies within the next piece
    second = Clock(path, Progress(), begun=True)
    now[0] += 5  # the same piece again
    second.keep()
    third = Clock(path, Progress(), begun=True)
    now[0] += 1
    assert third.seconds == 3 + 5 + 1 and read_json(path) == {"seconds": 8.0}


def test_work_before_times_were_kept_has_no_time(now: list[float], tmp_path: Path) -> None:
    path = tmp_path / "seconds.json"
    first = Clock(path, Progress(), begun=True)
    first.keep()
    assert math.isnan(first.seconds) and read_json(path) == {"seconds": None}
    assert math.isnan(Clock(path, Progress(), begun=True).seconds)


@pytest.mark.parametrize("found", ['{"seconds": "long"}', "[]", "{}", "{"])
def test_a_damaged_file_says_so(found: str, tmp_path: Path) -> None:
    (tmp_path / "seconds.json").write_text(found)
    with pytest.raises(RunError, match=r"damaged.*delete it"):
        Clock(tmp_path / "seconds.json", Progress(), begun=False)


def test_everything_is_handed_on_after_the_time_is_kept(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "seconds.json", EventLog(tmp_path / "events.jsonl"), begun=False)
    clock.note("epoch", epoch=1)
    assert list(clock.track([1, 2], task="x")) == [1, 2]
    assert '"epoch": 1' in (tmp_path / "events.jsonl").read_text() and (tmp_path / "seconds.json").exists()
