"""What people decided otherwise after a repair ran, from the changes that stand beside its decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.errors import RunError

ACTS = ("label", "remove", "keep")
COLUMNS = ("uid", "kind", "old", "new", "undoes", "in_force", "actor", "text", "reply")


@dataclass(frozen=True, kw_only=True)
class Change:
    """One example on which a person came to something else than the repair.

    Attributes:
        uid, text, reply: the example; ``reply`` None where there is none.
        given: the label it had at first.
        repaired: the label the repair left it with; None: it removed it.
        now: the label it has now; None: it is removed.
        by: who decided so.
    """

    uid: str
    text: str
    reply: str | None
    given: str
    repaired: str | None
    now: str | None
    by: str


def changed_since(run: Path, decisions: pd.DataFrame) -> tuple[Change, ...]:
    """What ``tracemend review`` and ``tracemend undo`` changed in a finished repair; empty where nothing was.

    Args:
        run: the run directory; ``changes.csv`` in it holds every decision, those of people too.
        decisions: what the repair itself decided, the columns of ``decisions.parquet``.

    Raises:
        RunError: ``changes.csv`` cannot be read, or lacks a column.
    """
    path = run / "changes.csv"
    if not path.exists():
        return ()
    rows = _read(path)
    acts = rows[rows["kind"].isin(ACTS)]
    standing = acts[acts["in_force"] == "True"].drop_duplicates("uid", keep="last")
    now = {str(row["uid"]): row for row in standing.to_dict("records")}
    last = {str(row["uid"]): row for row in acts.to_dict("records")}
    # What the first decision on an example replaced is the label it came with.
    first = acts[acts["undoes"] == ""].drop_duplicates("uid").set_index("uid")["old"]
    repaired = {str(row["uid"]): row for row in decisions.to_dict("records")}
    found = []
    for uid, row in last.items():
        decided, stands = repaired.get(uid), now.get(uid)
        given = str(first[uid])
        before, after = _label(decided, given), _label(stands, given)
        if before != after:
            by = str((row if stands is None else stands)["actor"])
            found.append(
                Change(
                    uid=uid, text=str(row["text"]), reply=str(row["reply"]) or None, given=given, repaired=before,
                    now=after, by=by,
                )
            )  # fmt: skip
    return tuple(found)


def _label(decision: Mapping[Any, Any] | None, given: str) -> str | None:
    if decision is None or decision["kind"] == "keep":
        return given
    return None if decision["kind"] == "remove" else str(decision["new"])


def _read(path: Path) -> pd.DataFrame:
    remedy = "delete it for a report of the repair alone; tracemend review and undo write it again."
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error}); {remedy}") from None
    missing = [column for column in COLUMNS if column not in rows]
    if missing:
        raise RunError(f"{path} lacks the columns {', '.join(missing)}; {remedy}")
    return rows
