"""Decisions grouped by the validation error they pushed most: the error, and the examples behind it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

# What the page shows open, and what it holds at all; decisions.parquet has every one.
OPEN = 20
OPEN_PER_ERROR = 5
LISTED = 1000


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One example acted on, as shown.

    Attributes:
        uid, text, reply, kind, old, new, round, score, reason, truth: as in ``decisions.parquet``.
        influence: on the validation error it stands under; None without one.
        others: how many further errors it pushed.
        row: where it stands in the file it was read from, counted from 0; None where that is not known.
        neighbour: its nearest example with another label (text, reply, label, similarity); None where unknown.
    """

    uid: str
    text: str
    reply: str | None
    kind: str
    old: str
    new: str | None
    round: int
    score: float | None
    reason: str | None
    truth: str | None
    influence: float | None
    others: int
    row: int | None
    neighbour: Mapping[str, Any] | None

    @property
    def was_wrong(self) -> bool | None:
        """Whether the old label was in truth wrong; None where the truth is not known."""
        return None if self.truth is None else self.old != self.truth

    @property
    def is_mended(self) -> bool:
        """Whether the new label is the true one."""
        return self.kind == "label" and self.truth is not None and self.new == self.truth


@dataclass(frozen=True, kw_only=True)
class ErrorGroup:
    """A validation error and the decisions it led to, most influential first; ``error`` None: no single error."""

    error: Mapping[str, Any] | None
    decisions: tuple[Decision, ...]

    @property
    def shown(self) -> tuple[Decision, ...]:
        """The decisions that stand open."""
        return self.decisions[:OPEN_PER_ERROR]

    @property
    def folded(self) -> tuple[Decision, ...]:
        """The decisions that open on demand."""
        return self.decisions[OPEN_PER_ERROR:]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All groups in reading order.

    Attributes:
        shown: groups that stand open, about ``OPEN`` decisions.
        folded: groups that open on demand.
        acted: decisions that changed the training set.
        unlisted: how many of these the page leaves to ``decisions.parquet``.
        kept: examples that were looked at and kept.
    """

    shown: tuple[ErrorGroup, ...]
    folded: tuple[ErrorGroup, ...]
    acted: int
    unlisted: int
    kept: tuple[Decision, ...]

    @property
    def folded_decisions(self) -> int:
        """How many decisions the folded groups hold."""
        return sum(len(group.decisions) for group in self.folded)


def evidence(decisions: pd.DataFrame) -> Evidence:
    """Group decisions (columns of ``tracemend.report.run.DECISIONS``) by the error each pushed most.

    Errors with the most decisions come first; a decision without evidence stands in a last group of its own.
    """
    by_error: dict[str, list[Decision]] = {}
    errors: dict[str, Mapping[str, Any]] = {}
    acted = decisions[decisions["kind"] != "keep"].sort_values(["round", "score"], ascending=[True, False])
    listed = acted.head(LISTED)
    for row in listed.to_dict("records"):
        error, decision = _read(row)
        uid = "" if error is None else str(error.get("uid", ""))
        if error is not None:
            errors.setdefault(uid, error)
        by_error.setdefault(uid, []).append(decision)
    groups = [
        ErrorGroup(error=errors.get(uid), decisions=tuple(sorted(found, key=_strength, reverse=True)))
        for uid, found in by_error.items()
    ]
    groups.sort(key=lambda group: (group.error is None, -len(group.decisions)))
    shown, open_so_far = 0, 0
    while shown < len(groups) and open_so_far < OPEN:
        open_so_far += len(groups[shown].shown)
        shown += 1
    kept = decisions[decisions["kind"] == "keep"].head(LISTED).to_dict("records")
    return Evidence(
        shown=tuple(groups[:shown]),
        folded=tuple(groups[shown:]),
        acted=len(acted),
        unlisted=len(acted) - len(listed),
        kept=tuple(_read(row)[1] for row in kept),
    )


def _strength(decision: Decision) -> float:
    return abs(decision.influence or 0.0)


def _read(row: Mapping[Any, Any]) -> tuple[Mapping[str, Any] | None, Decision]:
    found = _parsed(row["evidence"])
    recorded = found.get("errors")
    errors = [e for e in recorded if isinstance(e, Mapping)] if isinstance(recorded, list) else []
    errors.sort(key=lambda e: abs(e.get("influence") or 0.0), reverse=True)
    neighbour = found.get("neighbour")
    decision = Decision(
        **{str(name): row[name] for name in ("uid", "text", "reply", "kind", "old", "new", "reason", "truth", "score")},
        round=int(row["round"] or 0),
        influence=errors[0].get("influence") if errors else None,
        others=max(0, _number(found.get("pushed"), len(errors)) - 1),
        row=_number(found.get("row")),
        neighbour=neighbour if isinstance(neighbour, Mapping) else None,
    )
    return (errors[0] if errors else None), decision


def _number(value: Any, otherwise: Any = None) -> Any:
    return value if isinstance(value, int) and not isinstance(value, bool) else otherwise


def _parsed(evidence: str | None) -> Mapping[str, Any]:
    """The evidence as recorded; empty where it cannot be read: the decision stands, and the page says so."""
    try:
        found = json.loads(evidence or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}
