"""Whether there is room for gradients, asked before they are taken: a system without memory kills without a word."""

from __future__ import annotations

import os
from pathlib import Path

from tracemend.errors import TraceError

_BYTES = 4


def free_memory() -> int | None:
    """Bytes of main memory that can be had, or None where the system does not say.

    Where it tells no more than how much there is in all, that.
    """
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def check_room(examples: int, width: int, *, times: int = 1, remedy: str) -> None:
    """Refuse gradients that main memory cannot hold.

    Args:
        examples: rows that are held.
        width: numbers a row, float32.
        times: how often they are there at once.
        remedy: what to do instead.

    Raises:
        TraceError: they take more than is free; the message names both.

    Example:
        >>> check_room(500, 22_700_000, remedy="trace fewer examples")  # doctest: +SKIP
        Traceback (most recent call last):
        tracemend.errors.TraceError: the gradients of 500 examples, 22,700,000 numbers each, take 45.4 GB ...
    """
    needed, free = examples * width * times * _BYTES, free_memory()
    if free is not None and needed > free:
        raise TraceError(
            f"the gradients of {examples} examples, {width:,} numbers each, take {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB of memory are free; {remedy}."
        )
