"""Who works on what: claim files, by which processes on any number of machines share a list of work.

Nothing depends on a claim being right. Whoever computes a piece of work gets the same bytes and puts them in place by
an atomic rename, so that a race costs a piece computed twice, never a wrong or a missing one.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tracemend.runs import explained

# A claim that nobody refreshed for so long is void. Its holder refreshes it several times in this time.
PATIENCE = 120.0
# One that its maker had not written after so long is void as well: writing it takes a moment, and whoever died within
# that moment cannot be told by its number.
_MOMENT = 2.0
_BEATS = 6


class Claims:
    """Exclusive claims on named pieces of work, each a file with host, process and time.

    Args:
        folder: where the claim files lie; seen by all processes.
        patience: seconds without a refresh after which a claim is void. A claim of a process that is dead, on this
            machine, is void at once.

    Example:
        >>> with Claims(path / ".claims") as claims, claims.held("shard-00017") as mine:
        ...     if mine:
        ...         print("at work on shard 17")
    """

    def __init__(self, folder: Path, *, patience: float = PATIENCE) -> None:
        self.folder = folder
        self.patience = patience
        self._held: set[Path] = set()
        # Files that may be this process's: also one whose making was interrupted before its maker knew.
        self._tried: set[Path] = set()
        self._lock = threading.Lock()
        self._me = ""
        self._stop = threading.Event()
        self._beating: threading.Thread | None = None

    def __enter__(self) -> Self:
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._me = json.dumps({**_machine(), "pid": os.getpid(), "started": _started(os.getpid()), "time": time.time()})
        self._tried.clear()
        self._stop.clear()
        self._beating = threading.Thread(target=self._beat, name="tracemend-claims", daemon=True)
        self._beating.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._beating is not None:
            self._beating.join()
        # Ctrl-C may strike between any two steps of taking a claim; what that leaves would hold others up.
        for path in self._tried:
            with contextlib.suppress(OSError):
                if path.read_text("utf-8") in ("", self._me):
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[bool]:
        """Whether the claim is this process's inside the block; it is given back after it.

        Raises:
            RunError: the disk is full or not writable.
        """
        path = self.folder / name
        mine = self._create(path) or (self.void(name) and self._take_over(path))
        if not mine:
            yield False
            return
        with self._lock:
            self._held.add(path)
        try:
            yield True
        finally:
            with self._lock:
                self._held.discard(path)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            self._tried.discard(path)

    def void(self, name: str) -> bool:
        """Whether nobody alive holds the claim."""
        path, holder = self.folder / name, dict[str, Any]()
        try:
            refreshed = path.stat().st_mtime
            written = path.read_text("utf-8")
        except FileNotFoundError:
            return True
        patience = self.patience
        try:
            holder = dict(json.loads(written))
        except (ValueError, TypeError):
            patience = min(patience, _MOMENT)
        here = holder.items() >= _machine().items()
        if here and not _alive(holder.get("pid"), holder.get("started")):
            return True
        return self._now() - refreshed > patience

    def tidy(self) -> None:
        """Remove what the dead have left, for work that nobody will claim again: it was in place when they died."""
        for path in self.folder.glob("*"):
            if self.void(path.name):
                path.unlink(missing_ok=True)

    def _create(self, path: Path) -> bool:
        self._tried.add(path)
        with explained(path):
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                self._tried.discard(path)
                return False
            try:
                os.write(descriptor, self._me.encode())
            except OSError:
                path.unlink(missing_ok=True)
                raise
            finally:
                os.close(descriptor)
        return True

    def _take_over(self, path: Path) -> bool:
        # Two may do this at once; see the module's docstring.
        path.unlink(missing_ok=True)
        return self._create(path)

    def _now(self) -> float:
        # By the clock that stamps the claims: on a shared disk that is not this machine's.
        probe = self.folder / f".clock-{uuid.uuid4().hex[:12]}"
        with explained(probe):
            try:
                probe.touch()
                return probe.stat().st_mtime
            finally:
                probe.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(self.patience / _BEATS):
            with self._lock:
                held = list(self._held)
            for path in held:
                # Gone or not writable: another will take the work over, which costs no more than time.
                with contextlib.suppress(OSError):
                    os.utime(path)


def _machine() -> dict[str, Any]:
    """Where process numbers mean the same: the host since it was started, and in it the container."""
    found: dict[str, Any] = {"host": platform.node()}
    with contextlib.suppress(OSError):
        found["boot"] = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
        found["space"] = Path("/proc/self/ns/pid").stat().st_ino
    return found


def _started(pid: int) -> int | None:
    """When a live process was started, in ticks since the machine was; None where it is dead or that is not told."""
    try:
        # The name in parentheses may itself hold anything.
        state, *fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else int(fields[18])


def _alive(pid: Any, started: Any) -> bool:
    if not isinstance(pid, int):
        return True
    if isinstance(started, int):
        return _started(pid) == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
