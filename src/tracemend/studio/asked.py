"""What a request may say: names, types and lengths, checked before anything is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from tracemend.errors import DataError, did_you_mean

# Examples of one decision.
MOST = 500

# One of the words that a request may name: a Literal where its place asks for one.
W = TypeVar("W", bound=str)


class Asked:
    """The fields of a request, each taken once with its type.

    Args:
        fields: from JSON or from the address.

    Example:
        >>> Asked({"limit": "20"}).number("limit", 100, 1, 200)
        20
    """

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields

    def text(self, name: str, default: str | None = None, *, longest: int = 500) -> str:
        """A text.

        Raises:
            DataError: it is missing without a default, no text, or too long.
        """
        value = self.fields.get(name, default)
        if not isinstance(value, str):
            raise DataError(f"{name} is {'missing' if value is None else 'no text'}; a text is expected.")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(
                f"{name} holds half a character ({error.object[error.start]!r}), which is no text."
            ) from error
        if len(value) > longest:
            raise DataError(f"{name} has {len(value)} characters; at most {longest} are taken.")
        return value

    def choice(self, name: str, valid: tuple[W, ...], default: W | None = None) -> W:
        """One of some words.

        Raises:
            DataError: it is none of them.
        """
        value = self.text(name, default)
        for word in valid:
            if word == value:
                return word
        raise DataError(f"{name} {value!r} is {did_you_mean(value, valid)}")

    def number(self, name: str, default: int | None, low: int, high: int) -> int:
        """A whole number in a range.

        Raises:
            DataError: it is none, or outside.
        """
        value = self.fields.get(name, default)
        try:
            if isinstance(value, bool | float) or value is None:
                raise ValueError
            number = int(value)
        except (TypeError, ValueError):
            raise DataError(f"{name} is {value!r}; a whole number from {low} to {high} is expected.") from None
        if not low <= number <= high:
            raise DataError(f"{name} is {number}; it must lie between {low} and {high}.")
        return number

    def flag(self, name: str, default: bool | None = False) -> bool | None:
        """Yes, no, or nothing.

        Raises:
            DataError: it is something else.
        """
        value = self.fields.get(name, default)
        if value in ("0", "1"):
            return bool(value == "1")
        if value is not None and not isinstance(value, bool):
            raise DataError(f"{name} is {value!r}; true or false is expected.")
        return value

    def seen(self, name: str = "seen") -> dict[str, int]:
        """uid -> the last row of the ledger that the person had seen about it.

        Raises:
            DataError: it is no such mapping, empty, or too large.
        """
        value = self.fields.get(name)
        if not isinstance(value, dict) or not 0 < len(value) <= MOST:
            raise DataError(f"{name} must name 1 to {MOST} examples, each with the row that was seen of it.")
        for uid, row in value.items():
            if not isinstance(row, int) or isinstance(row, bool) or row < 0 or len(uid) > 64:
                raise DataError(f"{name} holds {uid[:40]!r}: {row!r}; a uid with a row of the ledger is expected.")
        return dict(value)
