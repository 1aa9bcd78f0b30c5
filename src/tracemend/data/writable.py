"""What a file of text can hold, so that what was read can be written, and what was written be read."""

from __future__ import annotations

from typing import Any


def unwritable(cell: Any) -> str | None:
    """What there is in a text that no file of text can hold, in words; None where it can be written.

    Example:
        >>> unwritable("fine"), unwritable("a\\0b"), unwritable(7)
        (None, 'a NUL character', None)
    """
    if not isinstance(cell, str):
        return None
    if "\0" in cell:
        return "a NUL character"
    try:
        cell.encode()
    except UnicodeEncodeError:
        return "half a character (a lone surrogate)"
    return None
