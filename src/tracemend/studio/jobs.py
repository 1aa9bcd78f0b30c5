"""Work that takes long, each in a process of its own: started, watched, cancelled; found again after a restart.

A job is a folder ``RUN/studio/jobs/NUMBER``: ``job.json`` says what to do, ``status.json`` how far it is (written by
the worker, a few times a second), ``events.jsonl`` what happened, ``worker.log`` what went wrong. The server holds
nothing that is not there, so a page can be reloaded and a server started anew at any moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from tracemend.errors import RunError
from tracemend.runs import read_json, write_json
from tracemend.studio.versions import FOLDER

Kind = Literal["prepare", "retrain"]
# Seconds that a worker has to say something after its start, and to end after it was told to.
_START, _END = 60.0, 5.0
_EPOCHS = 200


@dataclass(frozen=True)
class Job:
    """One job as it stands.

    Attributes:
        number: its name.
        kind: what it does.
        state: ``running``, ``done``, ``failed`` or ``cancelled``.
        asked: what was asked for.
        facts: stage, task, share (0 to 1), left (seconds), message, version.
        epochs: loss and validation AP of each epoch of a tuning.
    """

    number: str
    kind: Kind
    state: str
    asked: dict[str, Any]
    facts: dict[str, Any]
    epochs: list[dict[str, Any]]


class Jobs:
    """The jobs of a run, one at a time.

    Args:
        run: the run directory.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.folder = run / FOLDER / "jobs"
        self._lock = threading.Lock()
        self._mine: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, kind: Kind, asked: Mapping[str, Any]) -> Job:
        """Start a worker.

        Raises:
            RunError: another job is running.
        """
        with self._lock:
            now = self.latest()
            if now is not None and now.state == "running":
                raise RunError(f"the job {now.number} ({now.kind}) is still running; wait for it, or cancel it.")
            number = f"{int(now.number) + 1 if now else 1:04d}"
            # What a tuning that was cancelled or failed has left.
            for tuning in self.folder.glob("*/tuning"):
                shutil.rmtree(tuning, ignore_errors=True)
            folder = self._claim(number, {"kind": kind, "asked": dict(asked), "started": time.time()})
            with (folder / "worker.log").open("wb") as log:
                # A session of its own: Ctrl-C reaches the server alone, which then says whether the work goes on.
                worker = subprocess.Popen(
                    [sys.executable, "-m", "tracemend.studio.worker", str(self.run), number],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    env=_environment(),
                )
            self._mine[number] = worker
            _write_worker(folder, worker.pid)
        return self.job(number)

    def _claim(self, number: str, job: Mapping[str, Any]) -> Path:
        """Make the folder of a job, which another server on the same run may be about to make as well."""
        made = self.run / FOLDER / f".job-{uuid.uuid4().hex}"
        write_json(made / "job.json", job)
        self.folder.mkdir(exist_ok=True)
        try:
            # To a name that has a folder with files nothing can be renamed: one of the two fails.
            return made.rename(self.folder / number)
        except OSError as error:
            shutil.rmtree(made, ignore_errors=True)
            raise RunError(f"another server started the job {number} in the same moment; wait for it.") from error

    def latest(self) -> Job | None:
        """The last job, running or not; None before the first."""
        numbers = sorted(p.parent.name for p in self.folder.glob("*/job.json"))
        return self.job(numbers[-1]) if numbers else None

    def job(self, number: str) -> Job:
        """One job."""
        folder = self.folder / number
        about = read_json(folder / "job.json")
        facts: dict[str, Any] = {}
        if (folder / "status.json").exists():
            facts = read_json(folder / "status.json")
        state = facts.get("state", "running")
        if state == "running" and not self._alive(number, about["started"]):
            # It may have written its last word just before it ended.
            facts = read_json(folder / "status.json") if (folder / "status.json").exists() else {}
            state = facts.get("state", "running")
            if state == "running":
                state = "cancelled" if (folder / "cancelled").exists() else "failed"
                facts = {**facts, "message": _last_words(folder) if state == "failed" else ""}
        return Job(number, about["kind"], state, about["asked"], facts, _epochs(folder / "events.jsonl"))

    def cancel(self, number: str) -> Job:
        """End a running job; checkpoints of the tuning stay until the next one begins."""
        folder = self.folder / number
        if self.job(number).state == "running":
            (folder / "cancelled").touch()
            process = self._process(number)
            if process is not None:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGTERM)
                    with contextlib.suppress(psutil.TimeoutExpired):
                        process.wait(_END)
                    if process.is_running():
                        process.kill()
        return self.job(number)

    def close(self) -> None:
        """End what this server started."""
        for number, worker in self._mine.items():
            if worker.poll() is None:
                self.cancel(number)

    def _alive(self, number: str, started: float) -> bool:
        worker = self._mine.get(number)
        if worker is not None:
            return worker.poll() is None
        if not (self.folder / number / "worker.json").exists():
            return time.time() - started < _START
        return self._process(number) is not None

    def _process(self, number: str) -> psutil.Process | None:
        path = self.folder / number / "worker.json"
        if not path.exists():
            return None
        about = read_json(path)
        try:
            process = psutil.Process(about["pid"])
            # A number is given out again; the time of the start tells the two apart.
            same = abs(process.create_time() - about["born"]) < 1.0 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return None
        return process if same else None


def _write_worker(folder: Path, pid: int) -> None:
    try:
        born = psutil.Process(pid).create_time()
    except psutil.Error:  # it ended at once; worker.log says why
        born = 0.0
    write_json(folder / "worker.json", {"pid": pid, "born": born})


def _environment() -> dict[str, str]:
    # Half of the processor at most: the page must stay fluid.
    half = str(max(1, (os.cpu_count() or 2) // 2))
    return {"OMP_NUM_THREADS": half, **os.environ, "TOKENIZERS_PARALLELISM": "false"}


def _epochs(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # the line that is being written
            event = json.loads(line)
            if event.get("event") == "epoch":
                found.append({"epoch": event["epoch"], "loss": event["loss"], "ap": event.get("validation_ap")})
    return found[-_EPOCHS:]


def _last_words(folder: Path) -> str:
    lines = (folder / "worker.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = lines[-1] if lines else "it said nothing"
    return f"The worker ended without a result ({said[:300]}). The details are in {folder / 'worker.log'}."
