"""Figures as people read them; what is not known is said in words."""

from __future__ import annotations

import math
from typing import Any

UNKNOWN = "not known"


def is_known(value: Any) -> bool:
    """Whether there is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def decimal(value: Any, digits: int = 3) -> str:
    """``0.931``; never ``-0.000``."""
    if not is_known(value):
        return UNKNOWN
    return f"{round(float(value), digits) + 0.0:.{digits}f}"


def signed(value: Any, digits: int = 3) -> str:
    """``+0.147`` or ``−0.020`` with a true minus sign."""
    if not is_known(value):
        return UNKNOWN
    text = f"{round(float(value), digits) + 0.0:+.{digits}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def percent(value: Any) -> str:
    """``85 %``."""
    if not is_known(value):
        return UNKNOWN
    return f"{round(100 * float(value)) + 0}\N{NO-BREAK SPACE}%".replace("-", "\N{MINUS SIGN}")


def count(value: Any) -> str:
    """``12 345``, thousands set apart by a narrow space."""
    if not is_known(value):
        return UNKNOWN
    return f"{round(float(value)):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def duration(seconds: Any) -> str:
    """``48 s``, ``3 min 12 s`` or ``1 h 05 min``."""
    if not is_known(seconds):
        return UNKNOWN
    whole = round(float(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def significant(value: Any, digits: int = 4) -> str:
    """``0.5259``, ``12 345`` or ``1.2e-07``: the digits that mean something; "" where it is not known."""
    if not is_known(value):
        return ""
    number = float(value)
    if abs(number) >= 10**digits and abs(number) < 1e12:
        text = f"{round(number):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    else:
        text = f"{number + 0.0:.{digits}g}"
    return text.replace("-", "\N{MINUS SIGN}")
