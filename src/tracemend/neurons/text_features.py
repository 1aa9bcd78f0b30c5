"""What can be said of a text, or of a text with its reply: the atoms of formulas of a classifier's units.

Words and the look of a text; of a pair, on request, the words of either side by themselves and how far they overlap
(Mu and Andreas 2020, arXiv 2006.14032, for premise and hypothesis).
"""

from __future__ import annotations

import re

Pair = tuple[str, str | None]

_LONG = 20
# Shares of the reply's words that stand in the text as well.
_OVERLAPS = (25, 50, 75, 100)
_SIDES = ("text:", "reply:")
_WORD = re.compile(r"(text:|reply:)?word=")


def atoms(pair: Pair, *, sides: bool = False) -> list[str]:
    """The names that hold of a text or pair.

    Args:
        pair: the text, and its reply where there is one.
        sides: of a pair, words and looks are of the text or of the reply (``reply:word=no``), and ``overlap>=50`` says
            that half of the reply's different words or more stand in the text; without it a pair is one text.

    Example:
        >>> atoms(("a dog", "no dog"), sides=True)
        ['text:word=a', 'text:word=dog', 'reply:word=no', 'reply:word=dog', 'overlap>=25', 'overlap>=50']
    """
    text, reply = pair
    if reply is None or not sides:
        return _of(text if reply is None else f"{text}\n{reply}")
    found = [side + name for side, of in zip(_SIDES, (text, reply), strict=True) for name in _of(of)]
    first, second = ({word.lower() for word in words(of)} for of in (text, reply))
    shared = 100 * len(first & second) / max(1, len(second))
    found += [f"overlap>={share}" for share in _OVERLAPS if second and shared >= share]
    return found


def words(text: str) -> list[str]:
    """The words of a text, without punctuation."""
    return re.findall(r"\w[\w'’]*", text)


def is_word(name: str) -> bool:
    """Whether a feature is one of a word, of which there is no end."""
    return _WORD.match(name) is not None


def with_word(pair: Pair, name: str) -> Pair:
    """The pair with a feature's word put before the side that it is about, where nothing is cut off.

    A word of no side goes before the reply, or the text where there is none.
    """
    text, reply = pair
    side, _, word = name.rpartition("word=")
    if reply is None or side == "text:":
        return f"{word} {text}", reply
    return text, f"{word} {reply}"


def _of(text: str) -> list[str]:
    said = words(text)
    found = [f"word={word.lower()}" for word in said]
    shapes = {"question": "?" in text, "exclamation": "!" in text, "digit": any(c.isdigit() for c in text),
              "capitals": any(len(word) > 2 and word.isupper() for word in said), "mention": "@" in text,
              "long": len(said) > _LONG}  # fmt: skip
    return list(dict.fromkeys([*found, *(name for name, holds in shapes.items() if holds)]))
