"""Progress that rooms report and the command line, a notebook or a log shows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class Progress:
    """Silent progress, and the interface of every other kind.

    A room calls :meth:`track` around a loop and :meth:`note` for a fact worth keeping.
    """

    def track(self, items: Iterable[T], *, task: str, total: int | None = None) -> Iterator[T]:
        """Yield ``items`` unchanged while showing how far the loop has come.

        Args:
            items: what the loop runs over.
            task: a few words for the bar, such as ``"tune epoch 3"``.
            total: the number of items where ``len`` cannot tell.
        """
        yield from items

    def note(self, event: str, **facts: Any) -> None:
        """Record one event with its facts (JSON values)."""


class EventLog(Progress):
    """Appends every note to ``events.jsonl`` and hands everything on to another progress."""

    def __init__(self, path: Path, shown: Progress | None = None) -> None:
        self.path = path
        self.shown = shown or Progress()

    def track(self, items: Iterable[T], *, task: str, total: int | None = None) -> Iterator[T]:
        yield from self.shown.track(items, task=task, total=total)

    def note(self, event: str, **facts: Any) -> None:
        line = json.dumps({"time": round(time.time(), 3), "event": event, **facts}, default=str)
        with self.path.open("a", encoding="utf-8") as log:
            log.write(line + "\n")
        self.shown.note(event, **facts)
