"""Where the loop must stop or refuse: nothing left to tune on, a kernel that the trusted fit cannot use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.mend.conftest import planted, quick
from tracemend.data import Ledger, Splits
from tracemend.data.splits import LEAST
from tracemend.errors import TraceError, TuningError
from tracemend.mend import Repair, rounds
from tracemend.mend.bounds import NoiseRate
from tracemend.mend.notes import notes
from tracemend.mend.rounds import ArmResult, measure
from tracemend.models import tiny
from tracemend.progress import Progress
from tracemend.trace import TracIn
from tracemend.tuning import Tuned


class Nothing(Progress):
    """Fails at the first piece of work."""

    def track(self, items: Any, *, task: str, total: int | None = None) -> Any:
        raise AssertionError(f"{task} was begun")


@pytest.mark.slow
@pytest.mark.parametrize("action", ["remove", "relabel"])
def test_a_budget_above_the_training_set_leaves_examples_of_every_label(action: Any) -> None:
    splits = planted(60)
    tuning = replace(quick().tuning, adapter="prompt", epochs=1)
    rules = Repair.preset("gbair", tuning=tuning, action=action, rounds=4, controls=("random",))
    assert rules.candidates is not None and rules.candidates * rules.rounds > len(splits.train)
    found = rules.run(tiny("bert"), splits)
    assert set(found.controls) == {"random"}
    assert (np.bincount(found.repaired.y, minlength=2) >= LEAST).all()
    assert len(found.curve[found.curve["arm"] == "random"]) > 3


@pytest.mark.parametrize(
    "tracin",
    [
        TracIn(normalise_train=False, normalise_query=False),
        TracIn(normalise_query=False),
        TracIn(aggregate="rank"),
        TracIn(aggregate="vote"),
    ],
)
def test_the_trusted_fit_refuses_what_is_no_cosine(tracin: TracIn) -> None:
    """A fit on anything else finds wrong labels no better than chance; it is refused before any work."""
    with pytest.raises(TuningError, match=r"rank 'trusted' .* cosine.*votes, mean, weighted"):
        quick(tracin=tracin).run(tiny("bert"), planted(60), progress=Nothing())


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["votes", "mean", "weighted"])
def test_other_rankings_take_any_kernel(rank: Any) -> None:
    plain = TracIn(normalise_train=False, normalise_query=False)
    found = quick(tracin=plain, rank=rank, rounds=1, controls=(), stop="fixed").run(tiny("bert"), planted(60))
    assert len(found.rows) > 0


@pytest.mark.slow
def test_rounds_that_did_not_help_are_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def worse(tuned: Tuned, splits: Splits) -> dict[str, dict[str, float]]:
        return {name: {**found, "ap": found["ap"] - 1} for name, found in measure(tuned, splits).items()}

    monkeypatch.setattr(rounds, "measure", worse)
    found = quick(controls=(), rounds=1).run(tiny("bert"), planted(80))
    assert found.metrics["rounds"] == 0 and not len(found.rows)
    assert found.verdict.recommended == "original"
    assert found.verdict.sentence.startswith("No round was better on validation than the start (")


@pytest.mark.slow
@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("changes", [{}, {"rank": "votes"}, {"rank": "mean", "drivers": "all", "noise": 0.3}])
def test_validation_labels_that_are_all_wrong_are_refused_by_every_rank(labels: int, changes: dict[str, Any]) -> None:
    splits = planted(200 * labels, labels=labels, wrong=0.1)
    part = splits.validation
    wrong = {uid: part.labels[(y + 1) % labels] for uid, y in zip(part.uid, part.y, strict=True)}
    rules = quick(rounds=1, controls=(), tuning={"epochs": 1}, **changes)
    with pytest.raises(TraceError, match=r"labels are estimated to be wrong.*carry no signal.*--validation noisy"):
        rules.run(tiny("bert"), replace(splits, validation=part.relabelled(wrong)))


@pytest.mark.slow
def test_a_label_that_is_nearly_gone_is_told_in_notes_and_ledger(tmp_path: Path) -> None:
    splits = planted(160, wrong=0)
    train = splits.train.take([i for i, y in enumerate(splits.train.y) if y == splits.labels.index("good")])
    turned = train.relabelled(dict.fromkeys(train.uid[: LEAST + 2], "bad"))
    rules = quick(action="remove", candidates=1000, rounds=2, stop="fixed", controls=())
    found = rules.run(tiny("bert"), splits.with_train(turned), out=tmp_path / "run")
    left = int((found.repaired.frame["label"] == "bad").sum())
    assert left == LEAST
    told = json.loads((tmp_path / "run" / "result.json").read_text("utf-8"))["notes"]
    said = next(note for note in told if "labelled 'bad'" in note)
    assert f"Of {LEAST + 2} training examples labelled 'bad' {LEAST} are left. {LEAST} of them were suspected" in said
    with Ledger(tmp_path / "run" / "ledger.sqlite") as ledger:
        kept = [d for d in ledger.state().values() if d.kind == "keep"]
    assert len(kept) == LEAST and all(d.old == "bad" and "one of the last" in d.evidence["reason"] for d in kept)
    assert any("Up to 1000 examples in each of 2 rounds" in note for note in told)


def arm_of(train: Any, **changes: Any) -> ArmResult:
    empty: Any = None
    return ArmResult(**{"curve": empty, "decisions": empty, "train": train, "tuned": empty, "chosen": 1,
                        "suspicion": np.zeros(1), **changes})  # fmt: skip


def noted(splits: Splits, left: Any = None, cap: int | None = None, **changes: Any) -> list[str]:
    """The notes but the first, which says what the repaired set is."""
    rate = NoiseRate(rate=0.27, low=0.23, high=0.3, joint=0.46, n=160)
    rules = quick(**{"rank": "consensus", "rounds": 1, **changes})
    first, *more = notes(rules, rate, cap, arm_of(splits.train if left is None else left), splits)
    assert first.startswith("The repaired set is")
    return more


def test_the_notes_name_the_bound_that_holds() -> None:
    splits = planted(60, wrong=0)
    (estimated,) = noted(splits, cap=48)
    assert "so at most 48 of 160 are acted on" in estimated
    (given,) = noted(splits, cap=160, noise=1.0)
    assert "100.0%" in given and "at most 160 of 160 are acted on" in given
    _, many = noted(splits, cap=48, candidates=100_000)
    assert "Up to 100000 examples in each of 1 rounds" in many and "at most 48 are" in many
    assert len(noted(splits, cap=48, candidates=48)) == 1
    (influence,) = noted(splits, rank="votes", candidates=100_000)
    assert f"there are {len(splits.train)} in all" in influence and not noted(splits, rank="votes")


def test_a_label_of_which_there_never_was_more_is_no_news() -> None:
    splits = planted(60, wrong=0)
    train = splits.train
    bad = [i for i, y in enumerate(train.y) if train.labels[y] == "bad"]
    few = train.take([i for i in range(len(train)) if i not in bad[LEAST:]])
    assert noted(splits.with_train(few)) == [] == noted(splits)
    (told,) = noted(splits, few)
    assert f"labelled 'bad' {LEAST} are left. Look" in told
