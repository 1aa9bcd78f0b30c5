"""Models of the other folds judge, and what several say becomes one probability."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.data import Labelled, demo
from tracemend.errors import TraceError
from tracemend.models import load, tiny
from tracemend.trace.detectors import Consensus, Em
from tracemend.trace.fold_tuned import Judged, fold_tuned, pooled
from tracemend.tuning import TextClassifier, Tuning, tune


def said(p: np.ndarray) -> np.ndarray:
    return np.stack([1 - p, p], axis=1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_a_source_that_says_nothing_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 80)
    good = Judged(said(rng.uniform(0.02, 0.98, 40)), said(np.where(y == 1, 0.8, 0.2)))
    nothing = Judged(np.full((40, 2), 0.5), np.full((80, 2), 0.5))
    both, weights = pooled([good, nothing], y)
    assert weights[0] > 0.5
    assert (both.train.argmax(axis=1) == good.train.argmax(axis=1)).all()


def test_the_better_source_weighs_more_and_two_are_better_than_one() -> None:
    rng = np.random.default_rng(0)
    y, asked = rng.integers(0, 2, 400), rng.integers(0, 2, 400)

    def source(noise: float) -> Judged:
        odds = [(2 * truth - 1) * 1.5 + noise * rng.normal(size=400) for truth in (asked, y)]
        return Judged(*(said(1 / (1 + np.exp(-o))) for o in odds))

    sources = [source(1.5), source(3.0)]
    both, weights = pooled(sources, y)
    assert weights[0] > weights[1] > 0

    def loss(p: np.ndarray) -> float:
        return float(-np.log(p[np.arange(400), asked]).mean())

    assert loss(both.train) < min(loss(source.train) for source in sources)


def test_nothing_to_pool() -> None:
    with pytest.raises(TraceError, match="nothing to pool"):
        pooled([], np.zeros(3, dtype=np.int64))


def test_no_model_sees_what_it_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{'good' if i % 2 else 'awful'} film {i}" for i in range(30)]
    labels = ["safe" if i % 2 else "unsafe" for i in range(30)]
    train, trusted = (
        Labelled.make(texts[s], labels[s], label_names=("safe", "unsafe")) for s in (slice(20), slice(20, 30))
    )
    seen: list[set[str]] = []

    def noting(model, lesson, held, tuning, **options):
        seen.append(set(lesson.frame["text"]))
        assert set(held.frame["text"]) <= seen[-1] and len(lesson) == len(set(lesson.uid))
        return tune(model, lesson, held, tuning, **options)

    monkeypatch.setattr("tracemend.trace.fold_tuned.tune", noting)
    believed = np.eye(2)[train.y]
    believed[3] = 0.5  # nobody knows
    tuning = Tuning(adapter="head", epochs=1, max_length=16, precision="fp32")
    found = fold_tuned(tiny("bert"), train, trusted, believed, tuning, folds=5)
    assert len(seen) == 5 and not any(texts[3] in lesson for lesson in seen)
    for data in (train, trusted):
        for text in set(data.frame["text"]) - {texts[3]}:
            assert sum(text not in lesson for lesson in seen) == 1
    np.testing.assert_allclose(found.train.sum(axis=1), 1)
    np.testing.assert_allclose(found.trusted.sum(axis=1), 1)
    with pytest.raises(TraceError, match="beliefs have shape"):
        fold_tuned(tiny("bert"), train, trusted, believed[:, :1], tuning)


@pytest.mark.slow
def test_consensus_finds_wrong_labels_on_the_demo() -> None:
    whole = demo(noise=0.3)
    splits = replace(whole.with_train(whole.train.take(range(120))), validation=whole.validation.take(range(60)))
    classifier = TextClassifier(load("minilm"), splits.labels, kind="head", max_length=32)
    found = Consensus(epochs=1, folds=2, tuned_folds=2).run(classifier, splits)
    assert found.metrics["detection_ap"] > found.controls["detection_ap"] + 0.4
    assert found.metrics["brier"] < found.controls["brier"] / 2
    assert found.metrics["detection_ap"] > Em(rounds=0).run(classifier, splits).metrics["detection_ap"] - 0.05
