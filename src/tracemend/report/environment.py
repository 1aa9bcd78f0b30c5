"""How the pages are made: templates that escape everything, and the filters they use."""

from __future__ import annotations

import unicodedata

from jinja2 import Environment, PackageLoader, StrictUndefined

from tracemend.report import numbers

# Longer texts are folded after about this many characters.
CLAMP = 320


def environment() -> Environment:
    """The templates of this room, autoescaped; an unknown name in one is an error."""
    made = Environment(
        loader=PackageLoader("tracemend.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "decimal": numbers.decimal,
        "percent": numbers.percent,
        "count": numbers.count,
        "duration": numbers.duration,
        "signed": numbers.signed,
        "significant": numbers.significant,
        "is_known": numbers.is_known,
        "halves": halves,
    }
    return made


def halves(text: str, limit: int = CLAMP) -> tuple[str, str]:
    """A text as (what is shown, what is folded), cut between words where it can be.

    Example:
        >>> halves("one two three", limit=8)
        ('one two', ' three')
    """
    text = str(text)
    if len(text) <= limit * 1.25:
        return text, ""
    space = max(text.rfind(" ", limit // 2, limit), text.rfind("\n", limit // 2, limit))
    cut = space if space > 0 else limit
    # Never inside an emoji or a letter with its accent: marks, joiners, skin tones belong to what precedes them.
    while cut < len(text) and (_joins(text[cut]) or text[cut - 1] == "\N{ZERO WIDTH JOINER}"):
        cut += 1
    return text[:cut], text[cut:]


def _joins(character: str) -> bool:
    return unicodedata.category(character) in ("Mn", "Me", "Mc", "Cf") or "\U0001f3fb" <= character <= "\U0001f3ff"
