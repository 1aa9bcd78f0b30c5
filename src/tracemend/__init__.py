"""Tracemend: trace why a language model errs, mend it, and show with honest figures that it got better."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("tracemend")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

# Public names and the room each lives in: resolved on first use, so that `import tracemend` stays under a second.
_ROOMS = {
    "read": "data",
    "demo": "data",
    "corrupt": "data",
    "Labelled": "data",
    "Splits": "data",
    "load": "models",
    "tune": "tuning",
    "TraceCallback": "trace",
    "repair": "mend",
    "TracemendError": "errors",
}

__all__ = ["__version__", *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return getattr(import_module(f"tracemend.{_ROOMS[name]}"), name)
    raise AttributeError(f"module 'tracemend' has no attribute {name!r}; public names: {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
