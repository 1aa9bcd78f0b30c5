"""What a person must know of a repair beside its figures: what it holds, what bounded it, what is nearly gone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tracemend.data import Labelled, Splits
from tracemend.data.exchange import REMOVE
from tracemend.data.splits import LEAST
from tracemend.mend.bounds import NoiseRate
from tracemend.mend.questions import QUESTIONS
from tracemend.mend.rounds import ArmResult


class Asked(Protocol):
    """What the notes read of the configuration."""

    @property
    def noise(self) -> float | None: ...
    @property
    def candidates(self) -> int | None: ...
    @property
    def rounds(self) -> int: ...
    @property
    def answers(self) -> Mapping[str, str] | None: ...


def notes(asked: Asked, rate: NoiseRate, cap: int | None, arm: ArmResult, splits: Splits) -> list[str]:
    """Sentences for the report.

    Args:
        asked: the configuration.
        rate: the estimated share of wrong labels.
        cap: examples that are acted on at most; None where nothing but their number bounds them.
        arm: the repair.
        splits: as they were given.
    """
    found = [_what_is_repaired(splits, len(arm.train))]
    if cap is not None:
        found.append(rate.sentence if asked.noise is None else rate.sentence_given(asked.noise, cap))
    bound = len(splits.train) if cap is None else cap
    if asked.candidates is not None and asked.candidates * asked.rounds > bound:
        why = f"there are {bound}" if cap is None else f"by the share of wrong labels at most {bound} are acted on"
        found.append(
            f"Up to {asked.candidates} examples in each of {asked.rounds} rounds were asked for (candidates); {why} "
            "in all."
        )
    found += _nearly_gone(arm, splits.train)
    if arm.asked:
        found.append(
            f"{len(arm.asked)} questions for a person are in {QUESTIONS}: write a label into its column answer, or "
            f"{REMOVE} to leave the example out, and give the file with --answers to a new run on the same data "
            "and seed."
        )
    if asked.answers:
        found.append(f"{len(asked.answers)} examples were answered for by a person who was asked.")
    return found


def _what_is_repaired(splits: Splits, left: int) -> str:
    whole, train = sum(map(len, splits.parts.values())), len(splits.train)
    gone = "" if left == train else f", {left} of them left"
    others = ", ".join(name for name in splits.parts if name != "train")
    return (
        f"The repaired set is the training part, {train} of {whole} examples{gone}; {others} steered or judged the "
        "repair and are not in it."
    )


def _nearly_gone(arm: ArmResult, train: Labelled) -> list[str]:
    """Of which labels next to nothing is left."""
    found = []
    before, left = (data.frame["label"].value_counts() for data in (train, arm.train))
    for label in train.labels:
        kept = sum(d["old"] == label for d in arm.spared)
        if kept or left.get(label, 0) <= LEAST < before.get(label, 0):
            more = f"{kept} of them were suspected too and kept, for no label may go altogether. " if kept else ""
            found.append(
                f"Of {before.get(label, 0)} training examples labelled {label!r} {left.get(label, 0)} are left. "
                f"{more}Look in changes.md at what became of the others: if it is right, this data cannot teach "
                "the label; if not, act on fewer (candidates, rounds), or check the validation labels."
            )
    return found
