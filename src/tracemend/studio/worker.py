"""The worker's process: ``python -m tracemend.studio.worker RUN NUMBER`` does one job and says how far it is."""

from __future__ import annotations

import contextlib
import re
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any, TypeVar

from tracemend.errors import TracemendError
from tracemend.progress import EventLog
from tracemend.runs import read_json, write_json
from tracemend.studio.versions import FOLDER, version

T = TypeVar("T")
# Seconds between two writes of status.json.
_EVERY = 0.3
_EPOCH = re.compile(r"tune epoch (\d+)/(\d+)")


class JobProgress(EventLog):
    """Keeps ``status.json`` and ``events.jsonl`` of a job.

    Args:
        folder: of the job.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "events.jsonl")
        self.folder = folder
        self.facts: dict[str, Any] = {"state": "running", "stage": "load"}
        self._written, self._tuning = 0.0, 0.0
        self.say()

    def track(self, items: Iterable[T], *, task: str, total: int | None = None) -> Iterator[T]:
        total = len(items) if total is None and isinstance(items, Sized) else total
        began = time.monotonic()
        for done, item in enumerate(items):
            self._advance(task, done, total, began)
            yield item
        self._advance(task, total or 0, total, began)

    def note(self, event: str, **facts: Any) -> None:
        super().note(event, **facts)
        if event == "stage":
            self.say(stage=facts["stage"], task="", share=0.0, left=None)

    def say(self, **facts: Any) -> None:
        """Change what is known of the job, at once."""
        self.facts |= facts
        self._written = time.monotonic()
        write_json(self.folder / "status.json", self.facts)

    def _advance(self, task: str, done: int, total: int | None, began: float) -> None:
        if time.monotonic() - self._written < _EVERY or not total:
            return
        share = done / total
        tuning = _EPOCH.match(task)
        if tuning:  # the bar runs over all epochs, so that "time left" is that of the tuning
            epoch, epochs = int(tuning[1]), int(tuning[2])
            if self._tuning == 0.0:
                self._tuning = began
            began, share = self._tuning, (epoch - 1 + share) / epochs
        elif task.startswith("validate") and self.facts.get("stage") == "tune":
            return
        left = (time.monotonic() - began) * (1 - share) / share if share > 0 else None
        self.say(task=task, share=round(share, 4), left=left)


def work(run: Path, number: str) -> None:
    """Do the job; what goes wrong is in its status."""
    folder = run / FOLDER / "jobs" / number
    job = read_json(folder / "job.json")
    progress = JobProgress(folder)
    try:
        from tracemend.studio.prepare import Loaded, prepare
        from tracemend.studio.retrain import retrain

        loaded = Loaded.of(run)
        if job["kind"] == "retrain":
            name = retrain(loaded, folder, job["asked"], progress=progress).name
        else:
            name = job["asked"]["version"]
            for one in (name, *job["asked"].get("then", ())):
                prepare(loaded, version(run, one), progress=progress)
        progress.say(state="done", version=name, share=1.0, left=0.0)
    except TracemendError as error:
        progress.say(state="failed", message=str(error))
    except Exception as error:
        traceback.print_exc()
        said = f"{type(error).__name__}: {error}"
        progress.say(state="failed", message=f"An unexpected fault: {said}. The details are in {folder}/worker.log.")


def main() -> None:
    """The process."""
    with contextlib.suppress(KeyboardInterrupt):
        work(Path(sys.argv[1]), sys.argv[2])


if __name__ == "__main__":
    main()
