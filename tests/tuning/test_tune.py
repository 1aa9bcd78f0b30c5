"""Tuning is exact: the same seed, a resumed run and an unbroken one give the same bits."""

from __future__ import annotations

import importlib
import itertools
import math
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from tests.tuning.conftest import learnable
from tracemend.data import Labelled
from tracemend.errors import RunError, TuningError
from tracemend.models import tiny
from tracemend.progress import Progress
from tracemend.tuning import Checkpoint, Tuned, Tuning, checkpoints, tune
from tracemend.tuning.tune import resolve_precision

T = TypeVar("T")
MODULE = importlib.import_module("tracemend.tuning.tune")  # the room exports a function of the same name


class Killed(Exception):
    """Stands for whatever ends a process."""


class Killer(Progress):
    """Stops in the middle of a loop, after some of its items."""

    def __init__(self, task: str, after: int = 1) -> None:
        self.task, self.after = task, after

    def track(self, items: Iterable[T], *, task: str, total: int | None = None) -> Iterator[T]:
        for i, item in enumerate(items):
            if task.startswith(self.task) and i == self.after:
                raise Killed
            yield item


def equal(one: Checkpoint, other: Checkpoint) -> bool:
    same = (one.step, one.lr_sum, one.metrics) == (other.step, other.lr_sum, other.metrics)
    pairs = ((one.load_state(), other.load_state()), (one.second_moments(), other.second_moments()))
    return same and all(a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a) for a, b in pairs)


@pytest.mark.parametrize(
    ("architecture", "adapter"), [("bert", "prompt"), ("bert", "lora"), ("gpt2", "prefix"), ("t5", "ia3")]
)
def test_the_same_seed_gives_the_same_bits(
    architecture: str, adapter: Any, tuning: Tuning, train: Labelled, validation: Labelled
) -> None:
    tuning = replace(tuning, adapter=adapter, epochs=1, learning_rate=1e-2)

    def once(seed: int) -> Tuned:
        torch.manual_seed(seed * 31)  # the global state plays no part
        return tune(tiny(architecture), train, validation, replace(tuning, seed=seed))

    first, again, other = once(0), once(0), once(1)
    assert equal(first.best, again.best)
    assert not equal(first.best, other.best)
    fresh = tuning.classifier(tiny(architecture), train.labels).state()
    assert any(not torch.equal(fresh[name], value) for name, value in first.best.load_state().items())


@pytest.mark.parametrize("adapter", ["prompt", "lora", "head"])
def test_a_killed_tuning_goes_on_as_if_it_had_not_been(
    adapter: Any, tuning: Tuning, train: Labelled, validation: Labelled, tmp_path: Path
) -> None:
    tuning = replace(tuning, adapter=adapter)
    whole = tune(tiny("bert"), train, validation, tuning, out=tmp_path / "whole")
    with pytest.raises(Killed):
        tune(tiny("bert"), train, validation, tuning, out=tmp_path / "broken", progress=Killer("tune epoch 3"))
    assert len(checkpoints(tmp_path / "broken")) == 2
    resumed = tune(tiny("bert"), train, validation, tuning, out=tmp_path / "broken")
    in_memory = tune(tiny("bert"), train, validation, tuning)
    for found in (resumed, in_memory):
        assert len(found.checkpoints) == len(whole.checkpoints) == 4
        assert all(equal(a, b) for a, b in zip(found.checkpoints, whole.checkpoints, strict=True))
        assert torch.equal(*(torch.cat([v.flatten() for v in t.classifier.state().values()]) for t in (found, whole)))


def test_checkpoints_of_another_tuning_are_refused_and_more_epochs_go_on(
    tuning: Tuning, train: Labelled, validation: Labelled, tmp_path: Path
) -> None:
    out = tmp_path / "here"
    tune(tiny("bert"), train, validation, tuning, out=out)
    flipped = train.relabelled(
        {uid: next(x for x in train.labels if x != label) for uid, label in train.frame[["uid", "label"]].values}
    )
    with pytest.raises(TuningError, match=r"of another tuning \(seed: there 0, now 7; and other data\)"):
        tune(tiny("bert"), flipped, validation, replace(tuning, seed=7), out=out)
    with pytest.raises(TuningError, match=r"other model"):
        tune(tiny("gpt2"), train, validation, tuning, out=out)
    longer = tune(tiny("bert"), train, validation, replace(tuning, epochs=tuning.epochs + 1), out=out)
    assert len(longer.checkpoints) == tuning.epochs + 1


def test_a_finished_tuning_is_read_and_not_done_again(
    tuning: Tuning, train: Labelled, validation: Labelled, tmp_path: Path
) -> None:
    first = tune(tiny("bert"), train, validation, tuning, out=tmp_path)
    again = tune(tiny("bert"), train, validation, tuning, out=tmp_path, progress=Killer("tune", after=0))
    assert equal(first.best, again.best)
    pairs = validation.pairs
    np.testing.assert_array_equal(first.classifier.predict(pairs), again.classifier.predict(pairs))


def test_a_missing_checkpoint_before_others_is_named(
    tuning: Tuning, train: Labelled, validation: Labelled, tmp_path: Path
) -> None:
    whole = tune(tiny("bert"), train, validation, tuning, out=tmp_path)
    (tmp_path / "adapter-0001").rename(tmp_path / "elsewhere")
    with pytest.raises(TuningError, match=r"adapter-0001 is missing.*delete adapter-0002, .*adapter-0004 and .*--out"):
        tune(tiny("bert"), train, validation, tuning, out=tmp_path)
    for number in (2, 3, 4):
        shutil.rmtree(tmp_path / f"adapter-{number:04d}")
    again = tune(tiny("bert"), train, validation, tuning, out=tmp_path)
    assert len(again.checkpoints) == len(whole.checkpoints) == 4


def test_a_killed_tuning_leaves_no_half_checkpoint(
    tuning: Tuning, train: Labelled, validation: Labelled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importlib.import_module("tracemend.tuning.checkpoints"), "save_file", full)
    with pytest.raises(RunError, match=r"No space left.*it resumes"):
        tune(tiny("bert"), train, validation, tuning, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_learning_rate_rises_falls_and_is_summed(tuning: Tuning, train: Labelled, validation: Labelled) -> None:
    tuning = replace(tuning, learning_rate=1e-3, warmup=0.25)
    found = tune(tiny("bert"), train, validation, tuning).checkpoints
    steps, total = 4, 16  # 28 examples in batches of 8, over 4 epochs
    rates = [1e-3 * (s + 1) / 4 for s in range(4)] + [1e-3 * (1 - 0.9 * (s - 4) / 12) for s in range(4, total)]
    assert [c.step for c in found] == [4, 8, 12, 16]
    assert [c.lr_sum for c in found] == pytest.approx([sum(rates[i : i + steps]) for i in range(0, total, steps)])


def test_second_moments_are_the_optimizers_by_name(
    tuning: Tuning, train: Labelled, validation: Labelled, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[torch.optim.AdamW] = []

    class Seen(torch.optim.AdamW):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(torch.optim, "AdamW", Seen)
    tuned = tune(tiny("bert"), train, validation, tuning, out=tmp_path)
    moments = tuned.checkpoints[-1].second_moments()
    assert moments.keys() == tuned.classifier.trainable().keys()
    for name, parameter in tuned.classifier.trainable().items():
        assert torch.equal(moments[name], made[0].state[parameter]["exp_avg_sq"]), name
    assert any(value.abs().max() > 0 for value in moments.values())


def test_it_stops_early_at_the_best_epoch(
    tuning: Tuning, train: Labelled, validation: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = iter([0.5, 0.9, 0.8, 0.85, 0.99, 0.99])
    monkeypatch.setattr(MODULE, "average_precision", lambda *_: next(figures))
    tuned = tune(tiny("bert"), train, validation, replace(tuning, epochs=6, patience=2))
    assert len(tuned.checkpoints) == 4
    assert tuned.best is tuned.checkpoints[1]
    assert tuned.until_best() == tuned.checkpoints[:2]
    state = tuned.classifier.state()
    assert all(torch.equal(state[name], value) for name, value in tuned.best.load_state().items())


def test_without_patience_the_last_epoch_counts(
    tuning: Tuning, train: Labelled, validation: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    falling = itertools.count(0.9, -0.1)
    monkeypatch.setattr(MODULE, "average_precision", lambda *_: next(falling))
    tuned = tune(tiny("bert"), train, validation, tuning)
    assert len(tuned.checkpoints) == 4 and tuned.best is tuned.checkpoints[-1]


@pytest.mark.parametrize(("patience", "measured"), [(0, [3]), (2, [0, 1, 2, 3])])
def test_without_a_curve_only_what_is_looked_at_is_measured(
    patience: int, measured: list[int], tuning: Tuning, train: Labelled, validation: Labelled, tmp_path: Path
) -> None:
    tuning = replace(tuning, patience=patience)
    whole = tune(tiny("bert"), train, validation, tuning)
    with pytest.raises(Killed):
        tune(tiny("bert"), train, validation, tuning, out=tmp_path, curve=False, progress=Killer("tune epoch 3"))
    found = tune(tiny("bert"), train, validation, tuning, out=tmp_path, curve=False)
    assert [i for i, checkpoint in enumerate(found.checkpoints) if checkpoint.metrics] == measured
    for one, other in zip(found.checkpoints, whole.checkpoints, strict=True):
        kept = other if one.metrics else replace(other, metrics={})
        assert equal(one, kept)


def test_it_learns(tuning: Tuning, train: Labelled, validation: Labelled) -> None:
    tuned = tune(tiny("bert"), train, validation, replace(tuning, epochs=10, learning_rate=1e-2))
    assert tuned.best.metrics["ap"] > 0.9  # chance is 0.5


def test_class_weights_raise_the_rare_label(tuning: Tuning, train: Labelled, validation: Labelled) -> None:
    rare = train.take([*np.flatnonzero(train.y == 0), *np.flatnonzero(train.y == 1)[:2]])
    tuning = replace(tuning, adapter="head")
    plain, weighted = (tune(tiny("bert"), rare, validation, replace(tuning, class_weights=w)) for w in (False, True))
    p_plain, p_weighted = (t.classifier.probabilities(validation.pairs)[:, 1].mean() for t in (plain, weighted))
    assert p_weighted > p_plain + 0.05


def test_a_loss_that_is_not_finite_is_told(
    tuning: Tuning, train: Labelled, validation: Labelled, tmp_path: Path
) -> None:
    with pytest.raises(TuningError, match=r"the loss is (nan|inf) at step \d+ .*--learning-rate.*--precision fp32"):
        tune(tiny("bert"), train, validation, replace(tuning, learning_rate=1e30), out=tmp_path)


@pytest.mark.parametrize("n", [2, 3])
def test_fewer_examples_than_a_batch(n: int, tuning: Tuning, train: Labelled, validation: Labelled) -> None:
    tuned = tune(tiny("bert"), train.take(range(n)), validation, tuning)
    assert [c.step for c in tuned.checkpoints] == [1, 2, 3, 4]
    assert np.isfinite(tuned.classifier.predict(validation.pairs)).all()


def test_a_warm_start_goes_on_from_where_it_is(tuning: Tuning, train: Labelled, validation: Labelled) -> None:
    before = tune(tiny("bert"), train, validation, tuning)
    state = before.best.load_state()
    frozen = replace(tuning, epochs=1, learning_rate=1e-30)
    still = tune(tiny("bert"), train, validation, frozen, start=state)
    assert all(torch.equal(still.best.load_state()[name], value) for name, value in state.items())
    moved = tune(tiny("bert"), train, validation, replace(tuning, epochs=1), start=state)
    assert not all(torch.equal(moved.best.load_state()[name], value) for name, value in state.items())


def test_texts_that_were_cut_are_noted(tuning: Tuning, train: Labelled, validation: Labelled) -> None:
    long = Labelled.make(["love " * 40, "hate " * 40, "nice"], ["safe", "unsafe", "safe"])
    assert tune(tiny("bert"), long, validation, tuning).notes == ("2 of 3 training texts were cut to 16 tokens.",)
    assert tune(tiny("bert"), train, long, tuning).notes == ("2 of 3 validation texts were cut to 16 tokens.",)
    assert tune(tiny("bert"), train, validation, tuning).notes == ()


def test_three_labels(tuning: Tuning) -> None:
    labels = ["a", "b", "c"] * 6
    data = Labelled.make([f"{('love', 'hate', 'movie')[i % 3]} {i}" for i in range(18)], labels)
    tuned = tune(tiny("bert"), data, data, tuning)
    assert tuned.classifier.predict(data.pairs).shape == (18, 3)
    assert 0 < tuned.best.metrics["ap"] <= 1


def test_too_few_examples_and_no_epochs_are_errors(tuning: Tuning, train: Labelled, validation: Labelled) -> None:
    with pytest.raises(TuningError, match="1 training examples cannot teach 2 labels"):
        tune(tiny("bert"), train.take([0]), validation, tuning)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epochs": 0}, "epochs is 0; it must be at least 1"),
        ({"precision": "bfloat16"}, "precision 'bfloat16' is not one of: auto, bf16, fp32"),
        ({"adapter": "loar"}, "did you mean 'lora'"),
        ({"patience": -1}, "patience is -1"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"warmup": 10}, "warmup is 10"),
    ],
)
def test_a_value_that_a_tuning_cannot_have_is_refused_when_it_is_made(change: dict[str, Any], said: str) -> None:
    with pytest.raises(TuningError, match=said):
        Tuning(**change)


def test_a_validation_set_without_the_positive_label_is_an_error(
    tuning: Tuning, train: Labelled, validation: Labelled
) -> None:
    for less in (validation.take([]), validation.take(np.flatnonzero(validation.y == 0))):
        with pytest.raises(TuningError, match=r"no validation example is labelled 'unsafe'.*both labels"):
            tune(tiny("bert"), train, less, tuning)


@pytest.mark.parametrize(("has", "found"), [(True, "bf16"), (False, "fp32")])
def test_auto_precision_is_what_the_processor_computes_in(
    has: bool, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MODULE, "_cpu_has_bf16", lambda: has)
    cpu = torch.device("cpu")
    assert resolve_precision("auto", cpu) == found
    assert resolve_precision("fp32", cpu) == "fp32"
    assert resolve_precision("bf16", cpu) == "bf16"


def test_bf16_learns_as_well(tuning: Tuning, validation: Labelled) -> None:
    tuned = tune(tiny("bert"), learnable(28), validation, replace(tuning, precision="bf16", epochs=1))
    assert all(value.dtype == torch.float32 for value in tuned.best.load_state().values())
    assert math.isfinite(tuned.best.metrics["ap"])
