"""Whose a directory is while several processes want to work there."""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path
from types import ModuleType
from typing import ClassVar

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


class Hold:
    """This process's lock on a directory: shared by all who work there, exclusive while one decides whose it is.

    It is of the process, so that whoever was refused can ask again, and goes when the last run directory of it does.
    Where a file system or platform knows no such lock, nobody is ever alone, and nothing is taken over.
    """

    _known: ClassVar[weakref.WeakValueDictionary[Path, Hold]] = weakref.WeakValueDictionary()

    def __init__(self, path: Path) -> None:
        self._file: int | None = None
        with contextlib.suppress(OSError):
            self._file = os.open(path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)

    @classmethod
    def of(cls, path: Path) -> Hold:
        """The one hold that this process has of a directory.

        Example:
            >>> Hold.of(Path(".")) is Hold.of(Path.cwd())
            True
        """
        place = path.resolve()
        found = cls._known.get(place)
        if found is None:
            found = cls._known[place] = cls(place)
        return found

    def alone(self) -> bool:
        """Whether no other process works there; until :meth:`share` none begins to. Else waits until it is decided."""
        if fcntl is None or self._file is None:
            return False
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.share()
            return False
        return True

    def share(self) -> None:
        """Work there beside others."""
        if fcntl is not None and self._file is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(self._file, fcntl.LOCK_SH)
