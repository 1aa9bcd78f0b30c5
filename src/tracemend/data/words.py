"""The words of a text, in any script."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

# Signs that hold a word together where they stand between two letters, or between two digits.
_BETWEEN_LETTERS = "'\N{RIGHT SINGLE QUOTATION MARK}-\N{NON-BREAKING HYPHEN}\N{MIDDLE DOT}"
_BETWEEN_DIGITS = ".,:"
# Characters of a text that words are cut out of.
_READ = 20_000
# Scripts written without spaces whose signs stand for a word or a syllable: each is a word of its own.
_SINGLE = ("CJK ", "HIRAGANA ", "KATAKANA ")


def words_of(text: str) -> list[tuple[int, int]]:
    """The words of a text as ``(start, end)``: runs of letters and digits, runs of punctuation, runs of other signs.

    An apostrophe or hyphen between letters and a point between digits belong to the word; an accent or a joiner
    belongs to what it follows. A sign of a script without spaces (Chinese, Japanese) is a word of its own; in other
    such scripts (Thai) a run of letters is one word.

    Example:
        >>> words_of("Don't, ok?!")
        [(0, 5), (5, 6), (7, 9), (9, 11)]
    """
    found: list[tuple[int, int]] = []
    last = ""
    for at, sign in enumerate(text):
        kind = _kind(sign)
        if kind == "joins":
            kind = last or "word"
        elif at and text[at - 1] == "\N{ZERO WIDTH JOINER}" and last:
            kind = last
        elif kind == "punctuation" and last == "word" and _holds(text, at):
            kind = "word"
        elif kind == "single":
            last = ""
        if kind == "space":
            last = ""
        elif kind == last:
            found[-1] = (found[-1][0], at + 1)
        else:
            found.append((at, at + 1))
            last = kind
    return found


def texts_holding(texts: Iterable[str], word: str) -> int:
    """In how many of these texts a word stands, without regard to case.

    Example:
        >>> texts_holding(["So bad.", "a BAD day", "badly"], "bad")
        2
    """
    wanted = word.casefold()
    # Cutting a text into words takes far longer than looking for the letters.
    near = (text for text in texts if wanted in text.casefold())
    return sum(any(text[s:e].casefold() == wanted for s, e in words_of(text)) for text in near)


def cut_at_words(text: str, most: int) -> list[str]:
    """The text in pieces: what is no word and what is one by turns, beginning with no word; the last is the rest.

    Args:
        text: in any script.
        most: words that are cut out; what follows is one piece.

    Example:
        >>> cut_at_words("Yes, now.", 2)
        ['', 'Yes', '', ',', ' now.']
    """
    found, at = [], 0
    for start, end in words_of(text[:_READ])[:most]:
        found += [text[at:start], text[start:end]]
        at = end
    return [*found, text[at:]]


def _kind(sign: str) -> str:
    if sign.isspace():
        return "space"
    category = unicodedata.category(sign)
    if category[0] == "M" or category == "Cf" or "\U0001f3fb" <= sign <= "\U0001f3ff":
        return "joins"
    if category[0] in "LN" or category == "Pc":
        return "single" if unicodedata.name(sign, "").startswith(_SINGLE) else "word"
    return "punctuation" if category[0] == "P" else "sign"


def _holds(text: str, at: int) -> bool:
    """Whether the punctuation at this place stands inside a word."""
    if at + 1 >= len(text):
        return False
    before, after = text[at - 1], text[at + 1]
    if text[at] in _BETWEEN_LETTERS:
        return before.isalnum() and after.isalnum()
    return text[at] in _BETWEEN_DIGITS and before.isdigit() and after.isdigit()
