"""One spelling for label values, whatever type the file gave them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any
from unicodedata import category, normalize

import numpy as np
import pandas as pd

# What a missing label looks like once a table, or a spreadsheet, was written as text. "none" and "NA" are real labels.
_MISSING = frozenset({"", "nan", "NaN", "<NA>", "#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NULL!", "#NUM!"})
_WHOLE = re.compile(r"([+-]?[0-9]{1,18})\.0+")  # a whole number as a float
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, NaN, NA, or text without a visible character.

    Example:
        >>> is_missing(float("nan")), is_missing("  "), is_missing("none")
        (True, True, False)
    """
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    if isinstance(value, str):
        return not value.strip()
    return isinstance(value, float | np.floating) and math.isnan(value)


def label_name(value: Any) -> str | None:
    """A label as a string: 1, 1.0 and "1.0" are "1", True is "True", surrounding space goes; None where it is missing.

    A table written as text holds 1.0 for 1 where a number in the column was once missing.

    Raises:
        TypeError: the value is no label (a list, or a number with a fraction); it has no message of its own, since
            only the caller knows the row.

    Example:
        >>> label_name(1.0), label_name("1.0"), label_name(True), label_name(" toxic "), label_name(None)
        ('1', '1', 'True', 'toxic', None)
    """
    if is_missing(value) or (isinstance(value, str) and value.strip() in _MISSING):
        return None
    if (number := whole(value)) is not None:
        return number
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    raise TypeError(value)


def whole(value: Any) -> str | None:
    """A whole number in its one spelling, also where a missing cell of its column made it a float; None for all else.

    Example:
        >>> whole(7), whole(7.0), whole(" 7.0 "), whole(Decimal("7.00")), whole("007"), whole(True)
        ('7', '7', '7', '7', None, None)
    """
    if isinstance(value, str):
        found = _WHOLE.fullmatch(value.strip())
        return str(int(found[1])) if found else None
    if isinstance(value, bool | np.bool_):
        return None
    if isinstance(value, int | np.integer) or (isinstance(value, float | np.floating) and float(value).is_integer()):
        return str(int(value))
    # A database's whole numbers.
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return str(int(value))
    return None


def alike(names: Iterable[str]) -> list[dict[str, str]]:
    """Labels that a person takes for one: equal but for case, white space and characters without a sign.

    Returns:
        For every two or more of them each name with a spelling that tells it from the others.

    Example:
        >>> alike(["bad", "good", "Bad"])
        [{'bad': "'bad'", 'Bad': "'Bad'"}]
    """
    same: dict[str, list[str]] = {}
    for name in names:
        visible = "".join(character for character in normalize("NFC", name) if category(character) != "Cf")
        same.setdefault(normalize("NFC", " ".join(visible.split()).casefold()), []).append(name)
    found = []
    for group in (group for group in same.values() if len(group) > 1):
        # repr escapes what has no sign; an accent that is a character of its own needs its code point.
        told_apart = len({normalize("NFC", repr(name)) for name in group}) == len(group)
        found.append({name: repr(name) if told_apart else ascii(name) for name in group})
    return found


def flag(value: Any) -> bool | None:
    """True or False, whatever type the file gave it (also yes and no, 1 and 0); None where it is missing.

    Raises:
        TypeError: the value is neither; the caller knows the row and says so.

    Example:
        >>> flag("Yes"), flag(0), flag(None)
        (True, False, None)
    """
    name = label_name(value)
    if name is None:
        return None
    if name.lower() not in _FLAGS:
        raise TypeError(value)
    return _FLAGS[name.lower()]
