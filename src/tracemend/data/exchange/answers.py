"""What reviewers answered, and what several of them come to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tracemend.errors import DataError, did_you_mean

# The answer beside the labels: the example is to be left out.
REMOVE = "(remove)"
Rule = Literal["agree", "majority"]
_SHOWN = 3


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One reviewer's answer on one example.

    Attributes:
        uid: the example.
        value: a label, or ``REMOVE``.
        reviewer: the name or id that the tool gives; empty where it gives none.
        comment: what the reviewer wrote beside it.
    """

    uid: str
    value: str
    reviewer: str = ""
    comment: str = ""


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What the answers on one example come to.

    Attributes:
        uid: the example.
        value: a label or ``REMOVE``; None where the reviewers are split evenly.
        reviewers: who stands behind it; all who answered where ``value`` is None.
        answers: how many there were.
        comment: what they wrote.
    """

    uid: str
    value: str | None
    reviewers: tuple[str, ...]
    answers: int
    comment: str = ""


def objects(found: Any, what: str, remedy: str) -> list[Mapping[str, Any]]:
    """The objects of a list in a reviewed file.

    Args:
        found: the JSON value that is there.
        what: names it in messages, with the record and the file.
        remedy: what to do about a damaged file.

    Raises:
        DataError: it is no list of objects.
    """
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise DataError(f"{what}: a list of objects is expected, not {json.dumps(found)[:80]}; {remedy}")
    return found


def settle(
    answers: Iterable[Answer], known: Iterable[str], labels: Sequence[str], *, rule: Rule = "agree"
) -> list[Settled]:
    """One outcome for each example that was answered, in the order of the first answers.

    Who answered twice counts with the last answer; answers without a reviewer are taken as of different people. With
    ``agree`` all reviewers of an example must give the same answer, and it is an error where they do not: nothing is
    decided over anybody's head. With ``majority`` the answer of more than half holds; where there is none the
    example stays undecided.

    Args:
        answers: in the order of the file.
        known: uids of the examples that may be decided on.
        labels: the label names.
        rule: ``agree`` or ``majority``.

    Raises:
        DataError: an unknown uid, label or rule, or reviewers that disagree under ``agree``.

    Example:
        >>> both = [Answer(uid="a-0", value="safe", reviewer="Ada"), Answer(uid="a-0", value="safe", reviewer="Bo")]
        >>> settle(both, ["a-0"], ["safe", "unsafe"])[0].reviewers
        ('Ada', 'Bo')
    """
    if rule not in get_args(Rule):
        raise DataError(f"the rule {rule!r} is {did_you_mean(rule, get_args(Rule))}")
    by_uid: dict[str, dict[str, Answer]] = {}
    for at, answer in enumerate(answers):
        by_uid.setdefault(answer.uid, {})[answer.reviewer or f"\x00{at}"] = answer
    _check(by_uid, set(known), labels)
    split = {uid: own for uid, own in by_uid.items() if len({a.value for a in own.values()}) > 1}
    if split and rule == "agree":
        shown = "; ".join(f"{uid}: {_told(own.values())}" for uid, own in list(split.items())[:_SHOWN])
        raise DataError(
            f"the reviewers disagree on {len(split)} of {len(by_uid)} examples ({shown}). Settle these in the tool you "
            "reviewed in and export again, or take the answer of more than half of them with --rule majority."
        )
    return [_outcome(uid, list(own.values())) for uid, own in by_uid.items()]


def _check(by_uid: dict[str, dict[str, Answer]], known: set[str], labels: Sequence[str]) -> None:
    strange = [uid for uid in by_uid if uid not in known]
    if strange:
        raise DataError(
            f"{len(strange)} of {len(by_uid)} reviewed examples are none of this run's training examples (the first: "
            f"{strange[0]!r}); give the run that they were exported from."
        )
    for own in by_uid.values():
        for answer in own.values():
            if answer.value not in (*labels, REMOVE):
                raise DataError(
                    f"the answer {answer.value!r} on {answer.uid} is {did_you_mean(answer.value, [*labels, REMOVE])}"
                )


def _outcome(uid: str, own: list[Answer]) -> Settled:
    value, votes = Counter(answer.value for answer in own).most_common(1)[0]
    found = value if 2 * votes > len(own) else None
    behind = [answer for answer in own if found is None or answer.value == found]
    names = tuple(sorted({answer.reviewer for answer in behind if answer.reviewer}))
    comment = "; ".join(dict.fromkeys(answer.comment for answer in own if answer.comment))
    return Settled(uid=uid, value=found, reviewers=names, answers=len(own), comment=comment)


def _told(own: Iterable[Answer]) -> str:
    return ", ".join(f"{answer.reviewer or 'somebody'} {answer.value!r}" for answer in own)
