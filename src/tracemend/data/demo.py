"""The embedded demo set: short chat messages with replies, labelled safe or unsafe.

The material is hand-written (``demo_material/*.txt``, format below) and mild: insults such as "you are useless",
mockery, exclusion, threats to tell a secret, and a push towards something risky stand for what is unsafe.
The label is of the reply, given the message. Hard cases carry their kind in a further column: a hostile word may
stand in a quotation, under negation, in an idiom or in a reclaimed name, and hostility may come as irony or in
polite words. So words alone do not give the label away, while its meaning does.

One scenario is written so::

    = forgotten essay                       the scenario, and the group no split may cut
    ? My history paper is still blank.      four messages
    + Start with a rough outline tonight.   four safe replies
    - [irony] Wow, what a student.          four unsafe replies, here with their kind (default: plain)

The generator is deterministic: reply ``i`` answers messages ``i`` and ``i + 1`` (the safe and the unsafe ones alike,
so no message tells the label), and the scenarios of each theme fall to the splits in a fixed pattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files

import numpy as np
import pandas as pd

from tracemend.data.noise import corrupt
from tracemend.data.schema import Labelled, Splits

KINDS = ("plain", "quotation", "negation", "idiom", "reclaimed", "irony", "polite")
THEMES = ("school_and_work", "friends_and_family", "home_and_hobbies", "health_money_and_travel")

# Where the scenarios of a theme go, in the order of their writing. Train is kept small on purpose: the more examples
# say the same thing, the less wrong labels cost, and each tuning should take well under a minute.
_PATTERN = (
    *("train", "test", "verdict", "train", "validation", "test", "verdict", "train", "test", "verdict"),
    *("train", "validation", "test", "train", "verdict", "test", "train", "validation", "verdict", "test"),
)
_REPLY = re.compile(r"(?:\[(?P<kind>\w+)\] )?(?P<reply>.+)")


@dataclass(frozen=True)
class Scenario:
    """A situation people write about, with messages that any of its replies may answer.

    Attributes:
        name: what it is about.
        messages: the user's messages.
        safe: (kind, reply) pairs labelled safe.
        unsafe: (kind, reply) pairs labelled unsafe.
    """

    name: str
    messages: list[str] = field(default_factory=list)
    safe: list[tuple[str, str]] = field(default_factory=list)
    unsafe: list[tuple[str, str]] = field(default_factory=list)

    def pairs(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield (message, reply, label, kind): every reply answers two neighbouring messages."""
        for label, replies in (("safe", self.safe), ("unsafe", self.unsafe)):
            for i, (kind, reply) in enumerate(replies):
                for step in (0, 1):
                    yield self.messages[(i + step) % len(self.messages)], reply, label, kind


def scenarios(theme: str) -> list[Scenario]:
    """Read the hand-written scenarios of one of ``THEMES``, in the order of their writing."""
    found: list[Scenario] = []
    source = files("tracemend.data") / "demo_material" / f"{theme}.txt"
    for line in source.read_text(encoding="utf-8").splitlines():
        mark, _, content = line.partition(" ")
        if mark == "=":
            found.append(Scenario(content))
        elif mark == "?":
            found[-1].messages.append(content)
        elif mark in ("+", "-") and (match := _REPLY.fullmatch(content)):
            replies = found[-1].safe if mark == "+" else found[-1].unsafe
            replies.append((match["kind"] or "plain", match["reply"]))
    return found


def demo(*, noise: float = 0.0, seed: int = 0) -> Splits:
    """The demo set; ``noise`` is the share of its train labels that is flipped (symmetric noise).

    The texts, the splits and the labels of the other parts never change. Every part knows its truth.

    Args:
        noise: share of train labels to flip, from 0 up to but not including 1; exact up to rounding.
        seed: chooses which labels are flipped, nothing else.

    Returns:
        train (384 pairs), validation (192), verdict (320) and test (384); ``group`` names the scenario, the extra
        column ``kind`` the sort of difficulty (one of ``KINDS``), the positive label is ``unsafe``.

    Raises:
        DataError: ``noise`` is not such a share.

    Example:
        >>> splits = demo(noise=0.3)
        >>> len(splits.train), splits.train.positive
        (384, 'unsafe')
        >>> int(splits.train.wrong.sum())
        115
    """
    rows: dict[str, list[tuple[str, str, str, str, str]]] = {part: [] for part in dict.fromkeys(_PATTERN)}
    for theme in THEMES:
        for position, scenario in enumerate(scenarios(theme)):
            rows[_PATTERN[position % len(_PATTERN)]].extend((*pair, scenario.name) for pair in scenario.pairs())
    parts = {part: _labelled(found) for part, found in rows.items()}
    return Splits(
        train=corrupt(parts["train"], rate=noise, seed=seed),
        validation=parts["validation"],
        verdict=parts["verdict"],
        test=parts["test"],
        notes=("Embedded demo set, split by scenario.",),
    )


def _labelled(rows: list[tuple[str, str, str, str, str]]) -> Labelled:
    texts, replies, labels, kinds, groups = zip(*rows, strict=True)
    data = Labelled.make(
        texts,
        labels,
        replies=replies,
        groups=groups,
        truth=labels,
        label_names=("safe", "unsafe"),
        positive="unsafe",
        extra=pd.DataFrame({"kind": pd.Series(kinds, dtype=object)}),
    )
    # The uid is a hash, so its order is a shuffle that no version of a random generator can change.
    return data.take(np.argsort(data.uid))
