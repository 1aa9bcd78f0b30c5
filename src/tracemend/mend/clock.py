"""How long a run took, over all processes that worked on it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from tracemend.errors import RunError
from tracemend.progress import Progress
from tracemend.runs import read_json, write_json

T = TypeVar("T")


class Clock(Progress):
    """Adds up the seconds of finished pieces of work, and hands every note on to another progress.

    A piece ends with a note, or where :meth:`keep` is called: with what is on disk by then. A process that dies has
    worked for nothing since its last piece, and the one that goes on does that again, so that it counts once.

    Args:
        path: file of the seconds so far.
        shown: hears of everything.
        begun: whether work was done before; then a missing file means that its time is not known.

    Example:
        >>> clock = Clock(out / "seconds.json", progress, begun=False)
        >>> clock.note("epoch", epoch=1)
        >>> clock.seconds
        2.7
    """

    def __init__(self, path: Path, shown: Progress, *, begun: bool) -> None:
        self.path, self.shown = path, shown
        self._before = _read(path) if path.exists() else math.nan if begun else 0.0
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Of all finished pieces and of this process's present one; NaN where they are not known."""
        return self._before + time.monotonic() - self._began

    def keep(self) -> None:
        """A piece of work is on disk: so is its time from here on."""
        write_json(self.path, {"seconds": round(self.seconds, 3)})

    def track(self, items: Iterable[T], *, task: str, total: int | None = None) -> Iterator[T]:
        yield from self.shown.track(items, task=task, total=total)

    def note(self, event: str, **facts: Any) -> None:
        self.keep()
        self.shown.note(event, **facts)


def _read(path: Path) -> float:
    found = read_json(path)
    if not isinstance(found, dict) or not isinstance(found.get("seconds", ""), float | int | None):
        raise RunError(f"{path} is damaged (it holds no seconds); delete it and give the same command again.")
    return math.nan if found["seconds"] is None else float(found["seconds"])
