"""The run directory: atomic files, resume by configuration, one result.json.

Everything a command makes lies in one directory that can be stopped, resumed, replayed or read on its own.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import json
import os
import platform
import uuid
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from tracemend.errors import RunError
from tracemend.holds import Hold

SCHEMA = 1
# Differences of configuration that a message names.
_SHOWN = 3
# What a run leaves before its work has begun, and writes anew.
_BEGUN = frozenset({"config.json", "events.jsonl", "examples.parquet", "seconds.json"})
_FAULT = "fault-*.log"  # of a command that failed; it stays, for whoever asks what happened
_RECORDED = ("tracemend", "torch", "transformers", "peft", "numpy", "pandas", "scikit-learn")


def versions() -> dict[str, str]:
    """Versions that a figure depends on: Python and the libraries named in ``_RECORDED``."""
    found = {"python": platform.python_version()}
    for name in _RECORDED:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def fingerprint(*parts: Any) -> str:
    """A sha256 (first 16 hex digits) over JSON-able parts, the same on every machine.

    Example:
        >>> fingerprint({"a": 1}) == fingerprint({"a": 1})
        True
    """
    text = json.dumps(parts, sort_keys=True, default=_plain, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def flush(folder: Path) -> None:
    """Have every file of a folder on disk before the folder is renamed into place."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say what to do where ``path`` cannot be written inside the block.

    Raises:
        RunError: the disk is full or not writable.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"the disk is full: {path} could not be written (what was there before is unchanged). "
                "Free some space and give the same command again; it resumes."
            ) from error
        # A file that is missing inside a folder that is there has nothing to do with writing.
        nowhere = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST) and not path.parent.is_dir()
        if nowhere or error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENAMETOOLONG):
            raise RunError(
                f"{path.parent} cannot be written to ({error.strerror}); make it writable and give the same command "
                "again, or choose another --out."
            ) from error
        raise


@contextlib.contextmanager
def atomic(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file that becomes ``path`` only when the block ends well (fsync, then rename).

    Raises:
        RunError: the disk is full or not writable; nothing of ``path`` was changed.
    """
    # Not the process's number: those of two containers on one disk may be the same.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open(mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def as_json(value: Any) -> Any:
    """A value as it would come back from :func:`write_json` and :func:`read_json`.

    Raises:
        TypeError: it holds something that cannot be written as JSON.

    Example:
        >>> as_json({1: (np.float32(0.5), float("nan"))})
        {'1': [0.5, None]}
    """
    return json.loads(json.dumps(_finite(value), default=_plain))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically; NaN and infinities become null."""
    with atomic(path) as file:
        json.dump(_finite(value), file, indent=2, default=_plain, ensure_ascii=False)
        file.write("\n")


def _flat(config: Mapping[str, Any], under: str = "") -> dict[str, Any]:
    """Nested configuration as one level: ``tuning.epochs``."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        found |= _flat(value, f"{under}{key}.") if isinstance(value, Mapping) else {f"{under}{key}": value}
    return found


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In what two works differ, in words: of each its ``config`` and the ``fingerprints`` of its model and data.

    Example:
        >>> differences({"config": {"seed": 0}, "fingerprints": {"train": "a"}}, {"config": {"seed": 1}})
        ['seed: there 0, now 1', 'and other data']
    """
    old, new = (_flat(one.get("config", {})) for one in (there, now))
    differing = [key for key in sorted(set(old) | set(new)) if old.get(key) != new.get(key)]
    found = [f"{key}: there {old.get(key)!r}, now {new.get(key)!r}" for key in differing[:_SHOWN]]
    if len(differing) > _SHOWN:
        found.append(f"and {len(differing) - _SHOWN} more")
    prints = [one.get("fingerprints", {}) for one in (there, now)]
    if prints[0] != prints[1]:
        # Two hashes side by side tell a person nothing.
        apart = {key for key in {*prints[0], *prints[1]} if prints[0].get(key) != prints[1].get(key)}
        named = {"model": "model", "loss": "loss", "columns": "columns beside text and label"}
        other = {named.get(key, "data") for key in apart}
        if "data" in other:  # which says it of all columns
            other.discard(named["columns"])
        found.append(f"{'and ' if found else ''}other {' and '.join(sorted(other))}")
    return found


def _finite(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a Parquet table atomically."""
    with atomic(path, "wb") as file:
        table.to_parquet(file, index=False)


def csv_text(table: pd.DataFrame) -> str:
    """A table as CSV, whose texts any reader gives back as they are.

    All text is quoted: a bare carriage return in a text would end the row for some readers.
    """
    return str(table.to_csv(index=False, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC))


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV atomically, see :func:`csv_text`."""
    with atomic(path, "wb") as file:
        file.write(csv_text(table).encode())


def read_json(path: Path) -> Any:
    """Read JSON that a run wrote.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} does not exist; is {path.parent} a run directory of tracemend?") from None
    except ValueError as error:  # no JSON, or no UTF-8
        raise RunError(f"{path} is damaged ({error}); delete it and give the same command again.") from None


class Lines:
    """Rows of JSON in a file, one a line, kept as they come: a stopped run goes on with those that are there.

    Args:
        path: of the file; None keeps nothing.

    Example:
        >>> import tempfile
        >>> lines = Lines(Path(tempfile.mkdtemp()) / "answers.jsonl")
        >>> lines.add({"unit": 3, "explanation": "colours"})
        >>> list(lines)
        [{'unit': 3, 'explanation': 'colours'}]
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The rows that are there; a line that is none, such as the last of a run that was killed, is left out."""
        if self.path is None or not self.path.exists():
            return
        for line in self.path.read_text(encoding="utf-8", errors="replace").split("\n"):
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict):
                    yield row

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep a row.

        Raises:
            RunError: the disk is full or not writable.
        """
        if self.path is None:
            return
        with explained(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                # A run that was killed may have left half a line, which must not take this one with it.
                if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                    file.write(b"\n")
                file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())


def read_result(run: Path) -> dict[str, Any]:
    """The ``result.json`` of a run.

    Raises:
        RunError: it is missing or damaged.
    """
    path = run / "result.json"
    if (run / "config.json").exists() and not path.exists():
        raise RunError(f"the run {run} is not finished ({path.name} is missing); give its command again, it goes on.")
    found = read_json(path)
    if not isinstance(found, dict) or "command" not in found:
        raise RunError(f"{path} is damaged (it names no command); delete it and give the command of the run again.")
    return found


def _bare(path: Path) -> bool:
    """Whether a run's directory holds nothing of its work."""
    files = [of for of in path.rglob("*") if not (of.is_dir() or of.match(".*.tmp") or of.match(_FAULT))]
    return all(str(of.relative_to(path)) in _BEGUN for of in files)


class RunDirectory:
    """One run on disk: ``config.json`` says what it is, ``result.json`` what came out.

    A directory in which no work was done, since its run was refused or stopped before, goes to whoever asks next; not
    while another process is about to work there.

    Args:
        path: the directory; made if it is not there.
        command: the command that owns it, such as ``"repair"``.
        config: what the run depends on (JSON-able); a difference to what is there is an error.
        fingerprints: of data and model; a difference is an error too.

    Raises:
        RunError: the directory holds another run, or files that are not a run's.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        command: str,
        config: Mapping[str, Any],
        fingerprints: Mapping[str, str] | None = None,
    ) -> None:
        self.path = Path(path)
        self.command = command
        self.config = json.loads(json.dumps(_finite(dict(config)), default=_plain))
        self.fingerprints = dict(fingerprints or {})
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"--out {self.path} is a file, not a directory; name a directory.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"--out {self.path} cannot be made ({error.strerror}); choose another directory.") from error
        identity = {"schema": SCHEMA, "command": command, "config": self.config, "fingerprints": self.fingerprints}
        there = self.path / "config.json"
        self._hold = Hold.of(self.path)
        alone = self._hold.alone()
        try:
            if there.exists():
                differences = self._differences(identity)
                if differences and not (alone and _bare(self.path)):
                    raise RunError(
                        f"--out {self.path} belongs to another run ({'; '.join(differences)}). "
                        "Choose another --out, or give the command that made it to resume it; nothing was changed."
                    )
                if differences:
                    for name in sorted(_BEGUN - {"config.json"}):
                        (self.path / name).unlink(missing_ok=True)
                    write_json(there, identity)
            elif any(p for p in self.path.iterdir() if not p.name.startswith(".")):
                raise RunError(
                    f"--out {self.path} holds files that are not a run of tracemend; "
                    "choose a new or empty directory (nothing was changed)."
                )
            else:
                write_json(there, identity)
        finally:
            self._hold.share()

    def _differences(self, identity: Mapping[str, Any]) -> list[str]:
        path = self.path / "config.json"
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(there, Mapping) or "command" not in there:
                raise ValueError("it names no command")
        except ValueError as error:
            # Without it nobody knows whose the other files are, so that to delete this one alone would not help.
            raise RunError(
                f"{path} is damaged ({error}); choose another --out, or delete {self.path} and give the same command "
                "again."
            ) from error
        if there["command"] != identity["command"]:
            # Then all else differs too, and says nothing.
            return differences(*({"config": {"command": one["command"]}} for one in (there, identity)))
        return differences(there, identity)

    @property
    def result(self) -> dict[str, Any] | None:
        """The finished result, or None while the run is not complete."""
        if not (self.path / "result.json").exists():
            return None
        found = read_result(self.path)
        return found if found.get("status") == "complete" else None

    def finish(
        self,
        *,
        metrics: Mapping[str, Any],
        controls: Mapping[str, Any],
        seconds: float,
        **more: Any,
    ) -> dict[str, Any]:
        """Write result.json (see docs/design.md) and return it."""
        result = {
            "schema": SCHEMA,
            "command": self.command,
            "config": self.config,
            "metrics": dict(metrics),
            "controls": dict(controls),
            "versions": versions(),
            "fingerprints": self.fingerprints,
            "seconds": round(seconds, 3),
            "status": "complete",
            **more,
        }
        write_json(self.path / "result.json", result)
        return dict(_finite(result))

    def step(self, name: str, work: Callable[[], Any]) -> Any:
        """Do ``work`` once: its JSON result is kept as ``steps/NAME.json`` and read back on resume."""
        path = self.path / "steps" / f"{name}.json"
        if not path.exists():
            write_json(path, work())
        return read_json(path)
