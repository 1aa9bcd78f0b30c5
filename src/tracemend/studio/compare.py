"""Two versions side by side on the part that never ranked, fitted or stopped anything."""

from __future__ import annotations

from typing import Any

import numpy as np

from tracemend.errors import RunError
from tracemend.runs import read_json
from tracemend.studio.evidence import Evidence
from tracemend.studio.session import Session
from tracemend.studio.versions import WORDS, Version

# Errors of either kind that are listed.
SHOWN = 50


def compare(session: Session, before: str, after: str) -> dict[str, Any]:
    """What changed from one version to another.

    Returns:
        ``sentence`` and ``comparisons`` of :func:`tracemend.mend.judgement.verdict`; ``gone`` and ``new`` errors;
        ``confusion`` of both, [true, predicted]; ``looks``, at how many versions the part has been looked at.

    Raises:
        RunError: the two are one, or nothing was computed of one of them.
    """
    if before == after:
        raise RunError("a version is compared with another one; choose two.")
    # It brings scikit-learn along, which nobody waits for before the first view.
    from tracemend.mend.judgement import verdict

    first, second = session.evidence(before), session.evidence(after)
    data = session.splits.verdict
    p, q = first.p["verdict"], second.p["verdict"]
    judged = verdict(data, p, q, acted=1, against=first.version.title, of=second.version.title)
    wrong = [one.argmax(axis=1) != data.y for one in (p, q)]
    known = [v for v in session.versions() if v.predicted]
    return {
        "before": before,
        "after": after,
        "n": len(data),
        "sentence": judged.sentence,
        "helped": judged.recommended == "repaired",
        "comparisons": judged.facts["comparisons"],
        "gone": _changed(session, wrong[0] & ~wrong[1], p, q),
        "new": _changed(session, ~wrong[0] & wrong[1], p, q),
        "stayed": int((wrong[0] & wrong[1]).sum()),
        "labels": list(session.splits.labels),
        "confusion": [_confusion(session, one) for one in (first, second)],
        "looks": len(known),
        "words": _words(first.version, second.version),
    }


def _words(before: Version, after: Version) -> list[dict[str, Any]]:
    """What marked words weigh, where the later version was tuned with marks and compared with the earlier one."""
    path = after.folder / WORDS
    found: list[dict[str, Any]] = read_json(path) if after.parent == before.name and path.exists() else []
    return found


def _changed(session: Session, mask: Any, p: Any, q: Any) -> dict[str, Any]:
    data = session.splits.verdict
    rows = np.flatnonzero(mask)
    # Where the two differ most comes first.
    moved = np.abs(q[rows, data.y[rows]] - p[rows, data.y[rows]])
    rows = rows[np.argsort(-moved, kind="stable")]
    shown = [
        {
            **session.short(data.frame.iloc[i]),
            "label": data.labels[int(data.y[i])],
            "before": data.labels[int(p[i].argmax())],
            "after": data.labels[int(q[i].argmax())],
        }
        for i in rows[:SHOWN]
    ]
    return {"total": len(rows), "rows": shown}


def _confusion(session: Session, one: Evidence) -> list[list[int]]:
    data = session.splits.verdict
    found = np.zeros((len(data.labels), len(data.labels)), dtype=np.int64)
    np.add.at(found, (data.y, one.p["verdict"].argmax(axis=1)), 1)
    counts: list[list[int]] = found.tolist()
    return counts
