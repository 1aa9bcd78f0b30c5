"""What a file of text can hold, so that what was read can be written, and what was written be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tracemend.errors import DataError


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


def check_names(names: Sequence[str], source: object) -> None:
    """Refuse columns that cannot be written or told apart.

    Raises:
        DataError: a name cannot be written, or two columns have one name.
    """
    for name in names:
        if what := unwritable(name):
            raise DataError(f"the column name {name!a} of {source} holds {what}; give it another name.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(
            f"{source} has more than one column named {', '.join(map(repr, twice))}; give each column its own name."
        )
