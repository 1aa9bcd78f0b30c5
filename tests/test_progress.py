"""Progress passes items through and events reach the log."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend.progress import EventLog, Progress

T = TypeVar("T")


class Remembering(Progress):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.tasks: list[tuple[str, int | None]] = []

    def track(self, items: Iterable[T], *, task: str, total: int | None = None) -> Iterator[T]:
        self.tasks.append((task, total))
        yield from items

    def note(self, event: str, **facts: Any) -> None:
        self.notes.append((event, facts))


@given(st.lists(st.integers()))
def test_track_yields_every_item_in_order(items: list[int]) -> None:
    assert list(Progress().track(iter(items), task="count", total=len(items))) == items


def test_track_is_lazy() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise RuntimeError("asked for one item too many")

    assert next(iter(Progress().track(items(), task="count"))) == 1


def test_silent_progress_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    list(progress.track([1, 2], task="count"))
    progress.note("done", items=2)
    assert capsys.readouterr() == ("", "")


def test_event_log_appends_one_json_line_an_event_and_hands_on(tmp_path: Path) -> None:
    shown = Remembering()
    log = EventLog(tmp_path / "events.jsonl", shown)
    log.note("tuned", ap=0.9, path=tmp_path)
    EventLog(tmp_path / "events.jsonl").note("traced")  # a resumed run goes on in the same file
    assert list(log.track([3], task="round", total=1)) == [3]

    first, second = (json.loads(line) for line in (tmp_path / "events.jsonl").read_text("utf-8").splitlines())
    assert first["event"] == "tuned" and first["ap"] == 0.9 and first["path"] == str(tmp_path)
    assert second["event"] == "traced" and second["time"] >= first["time"] > 0
    assert shown.notes == [("tuned", {"ap": 0.9, "path": tmp_path})]
    assert shown.tasks == [("round", 1)]
