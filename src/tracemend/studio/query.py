"""The slice query: which examples a list shows, as a person types it.

``label:safe confidence>0.9 "go home" -thanks`` means: labelled safe, above 0.9, with "go home" and without "thanks"
in the text; ``source:forum`` asks a column of one's own file. Everything must hold; letter case does not count. What
only looks like a field, as in ``https://x.org`` or ``12:30``, is words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracemend.errors import DataError, did_you_mean

# A field, how it is compared, a value; or words of the text. Quotes hold words together.
_TERM = re.compile(r'(-?)(?:(\w+)(:|>=|<=|>|<|=))?(?:"([^"]*)"|(\S+))')
_LONGEST = 500


@dataclass(frozen=True)
class Term:
    """One condition.

    Attributes:
        field: a column; empty for words of the text.
        op: ``:`` or ``=`` for equality, or an order.
        value: as typed.
        negated: whether it must not hold.
    """

    field: str
    op: str
    value: str
    negated: bool = False


def parse(query: str) -> list[Term]:
    """The conditions of a query.

    Raises:
        DataError: it is too long, or a quote is never closed.

    Example:
        >>> parse('label:safe -"go home"')
        [Term(field='label', op=':', value='safe', negated=False), Term(field='', op='', value='go home', negated=True)]
    """
    if len(query) > _LONGEST:
        raise DataError(f"the query has {len(query)} characters; at most {_LONGEST} are read.")
    if query.count('"') % 2:
        raise DataError("the query has a quote that is never closed; close it, or leave it out.")
    return [
        Term(field.lower(), op, quoted or plain, bool(minus))
        for minus, field, op, quoted, plain in _TERM.findall(query)
        if quoted or plain
    ]


def matches(
    table: pd.DataFrame, query: str, *, text: pd.Series, own: pd.DataFrame | None = None
) -> npt.NDArray[np.bool_]:
    """Which rows of a table a query means [n].

    Args:
        table: its columns are the fields.
        text: what words are looked for in, lower case.
        own: what the columns of one's own file say of the same examples: fields too, unless the table has the name.

    Raises:
        DataError: a field is misspelt, or a number is none; the message names the valid fields.

    Example:
        >>> matches(pd.DataFrame({"label": ["safe", "unsafe"]}), "label:safe", text=pd.Series(["hi", "go"])).tolist()
        [True, False]
    """
    kept = np.ones(len(table), dtype=bool)
    if own is not None:
        named = {str(name).lower(): own[name] for name in own}
        table = table.assign(**{name: column for name, column in named.items() if name not in table})
    for term in parse(query):
        if _is_field(table, term):
            found = _holds(table, term)
        else:
            words = f"{term.field}{term.op}{term.value}".lower()
            found = text.str.contains(words, regex=False).to_numpy(dtype=bool)
        kept &= ~found if term.negated else found
    return kept


def _is_field(table: pd.DataFrame, term: Term) -> bool:
    fields = [str(name) for name in table.columns]
    if term.field in fields:
        return True
    if get_close_matches(term.field, fields, n=1):
        raise DataError(
            f"the field {term.field!r} is {did_you_mean(term.field, fields)} To look for it in the text, put it in "
            "quotes."
        )
    return False


def _holds(table: pd.DataFrame, term: Term) -> npt.NDArray[np.bool_]:
    column = table[term.field]
    if column.dtype.kind in "biuf":
        if column.dtype.kind == "b" and term.value.lower() in ("yes", "no"):
            return np.asarray(column == (term.value.lower() == "yes"), dtype=bool)
        return _compared(column.to_numpy(dtype=np.float64, na_value=np.nan), term)
    if term.op not in (":", "="):
        raise DataError(f"{term.field} holds words, which have no order; write {term.field}:{term.value}")
    same: npt.NDArray[np.bool_] = (column.fillna("").astype(str).str.lower() == term.value.lower()).to_numpy(dtype=bool)
    return same


def _compared(values: npt.NDArray[np.float64], term: Term) -> npt.NDArray[np.bool_]:
    try:
        number = float(term.value)
    except ValueError:
        raise DataError(f"{term.field} is a number, {term.value!r} is none; write {term.field}>0.5, say.") from None
    with np.errstate(invalid="ignore"):
        if term.op == ">":
            return values > number
        if term.op == "<":
            return values < number
        if term.op == ">=":
            return values >= number
        if term.op == "<=":
            return values <= number
        return np.isclose(values, number)
