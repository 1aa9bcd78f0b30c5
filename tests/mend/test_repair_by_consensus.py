"""The default: consensus ranks and decides, does no harm where nothing is wrong, and goes on where it was stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.mend.conftest import planted, quick
from tests.mend.test_limits import Nothing
from tests.mend.test_repair import Counter, Killed, timeless
from tracemend.data import Splits, demo
from tracemend.errors import TraceError, TuningError
from tracemend.mend import Repair, RepairResult
from tracemend.models import load, tiny
from tracemend.tuning import Tuning


def by_consensus(**changes: Any) -> Repair:
    return quick(**{"rank": "consensus", "controls": (), "fold_epochs": 1, "rounds": 1, "stop": "fixed", **changes})


def test_it_is_the_default() -> None:
    assert Repair().rank == Repair.preset("default").rank == "consensus"
    assert Repair.preset("gbair").rank == "votes"


@pytest.fixture(scope="module")
def splits() -> Splits:
    return planted(240)


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_it_had_not_been(splits: Splits, tmp_path: Path) -> None:
    rules, whole, counter = by_consensus(), tmp_path / "whole", Counter()
    rules.run(tiny("bert"), splits, out=whole, progress=counter)
    assert not (whole / "folds").exists()
    for share in (0.4, 0.7):
        out = tmp_path / f"run-{share}"
        with pytest.raises(Killed):
            rules.run(tiny("bert"), splits, out=out, progress=Counter(kill_at=round(counter.steps * share)))
        rules.run(tiny("bert"), splits, out=out)
        assert timeless(out) == timeless(whole)
        assert (out / "decisions.parquet").read_bytes() == (whole / "decisions.parquet").read_bytes()


@pytest.mark.slow
def test_without_tuned_folds_it_says_less_and_is_quicker(splits: Splits) -> None:
    counts = []
    for epochs in (0, 1):
        counter = Counter()
        found = by_consensus(fold_epochs=epochs).run(tiny("bert"), splits, progress=counter)
        assert len(found.rows) <= found.metrics["estimated_noise_high"] * len(splits.train)
        counts.append(counter.steps)
    assert counts[0] < counts[1]


def test_bad_input() -> None:
    with pytest.raises(TuningError, match="fold_epochs is -1"):
        by_consensus(fold_epochs=-1).run(tiny("bert"), planted(60), progress=Nothing())


def on_the_demo(noise: float) -> tuple[RepairResult, Splits]:
    whole = demo(noise=noise)
    splits = replace(whole.with_train(whole.train.take(range(120))), validation=whole.validation.take(range(60)))
    tuning = Tuning(adapter="head", epochs=2, max_length=32, patience=0)
    rules = Repair(tuning=tuning, controls=(), fold_epochs=1, rounds=1, warm_epochs=1)
    return rules.run(load("minilm"), splits), splits


@pytest.mark.slow
def test_wrong_labels_are_found_and_how_many_there_are() -> None:
    found, splits = on_the_demo(0.3)
    assert found.metrics["acted_precision"] > 0.75  # of a random choice 0.3
    assert abs(found.metrics["estimated_noise"] - splits.train.wrong.mean()) < 0.1
    assert found.repaired.wrong.mean() < splits.train.wrong.mean() / 2


@pytest.mark.slow
def test_where_nothing_is_wrong_nearly_nothing_is_touched() -> None:
    found, splits = on_the_demo(0.0)
    assert len(found.rows) <= 0.02 * len(splits.train)


@pytest.mark.slow
def test_validation_labels_that_are_all_wrong_are_refused() -> None:
    whole = demo(noise=0.1)
    held = whole.validation.take(range(60))
    turned = held.relabelled({uid: held.labels[1 - y] for uid, y in zip(held.uid, held.y, strict=True)})
    splits = replace(whole.with_train(whole.train.take(range(120))), validation=turned)
    rules = Repair(tuning=Tuning(adapter="head", epochs=1, max_length=32, patience=0), fold_epochs=1)
    with pytest.raises(TraceError, match=r"carry no signal.*--validation noisy"):
        rules.run(load("minilm"), splits)
