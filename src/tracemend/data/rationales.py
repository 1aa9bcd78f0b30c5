"""What people say of words, out of files: lists of words, and spans of characters that are a label's reason."""

from __future__ import annotations

from pathlib import Path

from tracemend.data.schema import Splits
from tracemend.data.tables import table_from_file
from tracemend.errors import DataError, did_you_mean

_COLUMNS = ("text", "start", "end")


def read_words(path: Path | str) -> list[str]:
    """The words of a list, one a line; empty lines and those that begin with # are left out.

    Raises:
        DataError: the file cannot be read as UTF-8, or holds no word.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as a list of words ({error}); give UTF-8, a word a line.") from None
    words = [line.strip() for line in lines]
    words = list(dict.fromkeys(word for word in words if word and not word.startswith("#")))
    if not words:
        raise DataError(f"{path} holds no word; write one a line.")
    return words


def read_rationales(path: Path | str, splits: Splits) -> dict[str, list[tuple[int, int]]]:
    """Rationales of texts, one span a row: its text as it stands in the data, and its characters ``[start, end)``.

    A text that stands in the data more than once has the same rationale everywhere.

    Args:
        path: a table with the columns text, start and end.
        splits: the data whose texts they are of.

    Returns:
        uid -> its spans.

    Raises:
        DataError: a column is missing, a place is no number or not of its text, or a text is not in the data.
    """
    table = table_from_file(Path(path))
    for column in _COLUMNS:
        if column not in table.frame.columns:
            raise DataError(f"{table.name} has no column {column!r}: it is {did_you_mean(column, table.frame.columns)}")
    uids: dict[str, list[str]] = {}
    for part in splits.parts.values():
        for uid, (text, _) in zip(part.uid, part.pairs, strict=True):
            uids.setdefault(text, []).append(uid)
    found: dict[str, list[tuple[int, int]]] = {}
    for row, (text, start, end) in enumerate(table.frame[list(_COLUMNS)].itertuples(index=False)):
        if text not in uids:
            raise DataError(
                f"{table.name}, {table.at([row])}: no text of the data is {str(text)[:40]!r}; give texts as they stand "
                "in the data file, and only of rows that are in it."
            )
        try:
            span = int(start), int(end)
        except (TypeError, ValueError):
            raise DataError(
                f"{table.name}, {table.at([row])}: {start!r} to {end!r} are no places; give whole numbers."
            ) from None
        if not 0 <= span[0] < span[1] <= len(text):
            raise DataError(
                f"{table.name}, {table.at([row])}: the span {span[0]}-{span[1]} is not of its text, which has "
                f"{len(text)} characters; give offsets of characters from 0, the end after the last."
            )
        for uid in uids[text]:
            found.setdefault(uid, []).append(span)
    return found
