"""What people decided otherwise after a repair ran: the ledger as it stands now against the repair's decisions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.data.decision import ACTS, replay
from tracemend.data.examples import read_examples
from tracemend.data.ledger import Ledger


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
    """What was changed in a finished repair by ``review``, ``undo`` or the studio; empty where nothing was.

    Args:
        run: the run directory, with its ledger and its examples.
        decisions: what the repair itself decided, the columns of ``decisions.parquet``.

    Raises:
        RunError: the ledger or the examples cannot be read.
    """
    path = run / "ledger.sqlite"
    if not path.exists():
        return ()
    with Ledger(path) as ledger:
        acts = [d for d in ledger.decisions() if d.kind in ACTS]
    now, last = replay(acts), {d.uid: d for d in acts}
    # What the first decision on an example replaced is the label it came with.
    given = {d.uid: str(d.old) for d in reversed(acts) if d.undoes is None}
    repaired = {str(row["uid"]): (row["kind"], row["new"]) for row in decisions.to_dict("records")}
    found: list[dict[str, Any]] = []
    for uid, row in last.items():
        stands = now.get(uid)
        before = _label(repaired.get(uid), given[uid])
        after = _label(None if stands is None else (stands.kind, stands.new), given[uid])
        if before != after:
            by = (row if stands is None else stands).actor
            found.append({"uid": uid, "given": given[uid], "repaired": before, "now": after, "by": by})
    if not found:
        return ()
    train = read_examples(run).train
    texts = dict(zip(train.uid, train.pairs, strict=True))
    return tuple(Change(text=texts[one["uid"]][0], reply=texts[one["uid"]][1], **one) for one in found)


def _label(decided: tuple[str, str | None] | None, given: str) -> str | None:
    if decided is None or decided[0] == "keep":
        return given
    return None if decided[0] == "remove" else str(decided[1])
