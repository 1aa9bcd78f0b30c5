"""Where the loop must stop or refuse: nothing left to tune on, a kernel that the trusted fit cannot use."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.mend.conftest import planted, quick
from tracemend.data import Splits
from tracemend.data.splits import LEAST
from tracemend.errors import TuningError
from tracemend.mend import Repair, rounds
from tracemend.mend.rounds import measure
from tracemend.models import tiny
from tracemend.progress import Progress
from tracemend.trace import TracIn
from tracemend.tuning import Tuned


class Nothing(Progress):
    """Fails at the first piece of work."""

    def track(self, items: Any, *, task: str, total: int | None = None) -> Any:
        raise AssertionError(f"{task} was begun")


@pytest.mark.parametrize("action", ["remove", "relabel"])
def test_a_budget_above_the_training_set_leaves_examples_of_every_label(action: Any) -> None:
    splits = planted(60)
    tuning = replace(quick().tuning, adapter="prompt", epochs=1)
    rules = Repair.preset("gbair", tuning=tuning, action=action, rounds=4, controls=("random",))
    assert rules.candidates is not None and rules.candidates * rules.rounds > len(splits.train)
    found = rules.run(tiny("bert"), splits)
    assert found.repaired is not None and set(found.controls) == {"random"}
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


@pytest.mark.parametrize("rank", ["votes", "mean", "weighted"])
def test_other_rankings_take_any_kernel(rank: Any) -> None:
    plain = TracIn(normalise_train=False, normalise_query=False)
    found = quick(tracin=plain, rank=rank, rounds=1, controls=(), stop="fixed").run(tiny("bert"), planted(60))
    assert len(found.rows) > 0


def test_rounds_that_did_not_help_are_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def worse(tuned: Tuned, splits: Splits) -> dict[str, dict[str, float]]:
        return {name: {**found, "ap": found["ap"] - 1} for name, found in measure(tuned, splits).items()}

    monkeypatch.setattr(rounds, "measure", worse)
    found = quick(controls=(), rounds=1).run(tiny("bert"), planted(80))
    assert found.metrics["rounds"] == 0 and found.verdict is not None and not len(found.rows)
    assert found.verdict.recommended == "original"
    assert found.verdict.sentence.startswith("No round was better on validation than the start (")
