"""The lists of an opened run: errors, suspects, history, each a window of a sorted, filtered table."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd

from tracemend.errors import RunError, did_you_mean
from tracemend.studio.evidence import Evidence
from tracemend.studio.query import matches
from tracemend.studio.session import Session, cut, told

# Rows of one answer, at most.
WINDOW = 200
ERRORS = {"wrong", "confident", "flipped", "all"}
SUSPECTS = {"open", "decided", "removed", "all"}
_CONFIDENT = 0.9

Row = dict[str, Any]


def errors(
    session: Session,
    name: str,
    *,
    show: str = "wrong",
    query: str = "",
    sort: str = "confidence",
    descending: bool = True,
    against: str | None = None,
    keep: str | None = None,
    offset: int = 0,
    limit: int = 100,
) -> dict[str, Any]:
    """Validation examples of a version, as a window of a sorted, filtered list.

    Args:
        show: ``wrong``, ``confident`` (wrong with at least 0.9), ``flipped`` (predicted otherwise than before) or
            ``all``.
        query: see :mod:`tracemend.studio.query`.
        sort: a column of the table.
        against: the version before (default: its parent).
        keep: a uid whose place in the list is told (``at``, None where it is not in it).

    Raises:
        DataError: the query is none.
        RunError: no such list or column.
    """
    found = session.evidence(name)
    if not found.version.predicted:
        return {"prepared": False, "total": 0, "rows": [], "counts": {}, "against": None}
    before = session.before(found.version, against)
    table = _error_table(session, found, before)
    _known(show, ERRORS, "list")
    _known(sort, set(table.columns), "column")
    kept = {
        "wrong": table["wrong"],
        "confident": table["wrong"] & (table["confidence"] >= _CONFIDENT),
        "flipped": table["flipped"],
        "all": pd.Series(True, index=table.index),
    }
    counts = {key: int(value.sum()) for key, value in kept.items()}
    mask = kept[show].to_numpy(dtype=bool) & matches(
        table, query, text=session.lower("validation"), own=session.own("validation")
    )
    rows = _sorted(table[mask], sort, descending)
    window = rows.iloc[offset : offset + min(limit, WINDOW)]
    return {
        "prepared": True,
        "total": len(rows),
        "at": _at(rows, session.place["validation"], keep),
        "counts": counts,
        "against": None if before is None else before.version.title,
        "rows": [
            session.error_row(int(str(i)), cast(dict[str, Any], row)) for i, row in window.to_dict("index").items()
        ],
    }


def suspects(
    session: Session,
    name: str,
    *,
    show: str = "open",
    query: str = "",
    sort: str = "rank",
    descending: bool = False,
    keep: str | None = None,
    offset: int = 0,
    limit: int = 100,
) -> dict[str, Any]:
    """Training examples, the most suspicious first, as a window of a filtered list.

    Args:
        show: ``open`` (suspect and not decided on by a person), ``decided``, ``removed`` or ``all``.
        keep: as above.

    Raises:
        DataError: the query is none.
        RunError: no such list or column.
    """
    found = session.evidence(name)
    table = found.suspects
    if table is None:
        return {"prepared": False, "total": 0, "rows": [], "counts": {}}
    rows = session.review.rows()
    given = session.splits.train.frame
    place = session.place["train"]
    decided, removed = np.zeros(len(given), dtype=bool), np.zeros(len(given), dtype=bool)
    now = given["label"].to_numpy(dtype=object).copy()
    for uid, d in rows.people.items():
        if uid in place:
            decided[place[uid]], removed[place[uid]] = True, d.kind == "remove"
            now[place[uid]] = d.new if d.kind == "label" else now[place[uid]]
    rank = np.empty(len(given), dtype=np.int64)
    rank[found.order] = np.arange(1, len(given) + 1)
    columns = pd.DataFrame(
        {
            "rank": rank,
            "label": now,
            "given": given["label"],
            "suggestion": table["suggestion"],
            "suspicion": table["suspicion"],
            "errors": found.votes,
            "length": given["text"].str.len(),
            "group": given["group"],
            "decided": decided,
        }
    )
    _known(show, SUSPECTS, "list")
    _known(sort, set(columns.columns), "column")
    kept = {
        "open": table["eligible"].to_numpy(dtype=bool) & ~decided,
        "decided": decided,
        "removed": removed,
        "all": np.ones(len(given), dtype=bool),
    }
    counts = {key: int(value.sum()) for key, value in kept.items()}
    mask = kept[show] & matches(columns, query, text=session.lower("train"), own=session.own("train"))
    chosen = _sorted(columns[mask], sort, descending)
    window = [int(i) for i in chosen.index[offset : offset + min(limit, WINDOW)]]
    return {
        "prepared": True,
        "total": len(chosen),
        "at": _at(chosen, place, keep),
        "counts": counts,
        "rows": [{**session.train_row(found, i, rows), "rank": int(rank[i])} for i in window],
    }


def history(session: Session, *, offset: int = 0, limit: int = 100) -> dict[str, Any]:
    """The ledger, newest first."""
    rows = session.review.rows()
    newest = list(reversed(rows.all))
    standing = {d.version for d in rows.people.values()} | {d.version for d in rows.machine.values()}
    texts = session.place["train"]
    shown = []
    for d in newest[offset : offset + min(limit, WINDOW)]:
        at = texts.get(d.uid)
        text = "" if at is None else cut(session.splits.train.frame["text"].iloc[at])
        undone_by = rows.gone.get(d.version)
        shown.append(
            {
                **told(d),
                "text": text,
                "in_force": d.version in standing or (d.kind in ("word", "comment") and undone_by is None),
                "undone": undone_by is not None,
            }
        )
    return {"total": len(newest), "rows": shown, "version": rows.version}


def _error_table(session: Session, found: Evidence, before: Evidence | None) -> pd.DataFrame:
    data, p = session.splits.validation, found.p["validation"]
    rows = np.arange(len(data))
    own = p[rows, data.y]
    change = np.full(len(data), np.nan)
    flipped = np.zeros(len(data), dtype=bool)
    if before is not None:
        change = own - before.p["validation"][rows, data.y]
        flipped = found.predicted != before.predicted
    return pd.DataFrame(
        {
            "label": data.frame["label"],
            "predicted": [data.labels[int(i)] for i in found.predicted],
            "confidence": p.max(axis=1),
            "change": change,
            "wrong": found.predicted != data.y,
            "flipped": flipped,
            "length": data.frame["text"].str.len(),
            "group": data.frame["group"],
        }
    )


def _at(rows: pd.DataFrame, place: dict[str, int], uid: str | None) -> int | None:
    """Where an example stands in a list whose index is its position in the data."""
    found = np.flatnonzero(rows.index == place.get(uid or "", -1))
    return int(found[0]) if len(found) else None


def _sorted(table: pd.DataFrame, column: str, descending: bool) -> pd.DataFrame:
    return table.sort_values(column, ascending=not descending, kind="stable", na_position="last")


def _known(value: str, valid: set[str], what: str) -> None:
    if value not in valid:
        raise RunError(f"the {what} {value!r} is {did_you_mean(value, sorted(valid))}")
