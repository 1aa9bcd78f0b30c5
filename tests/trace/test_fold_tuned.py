"""Models of the other folds judge, and learn nothing of what they judge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tracemend.data import Labelled, demo
from tracemend.errors import TraceError
from tracemend.models import load, tiny
from tracemend.trace.apart import Apart
from tracemend.trace.detectors import Consensus, Em
from tracemend.trace.fold_tuned import fold_tuned
from tracemend.trace.folds import folds_of
from tracemend.tuning import TextClassifier, Tuning, tune


def test_no_model_sees_what_it_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{'good' if i % 2 else 'awful'} film {i}" for i in range(30)]
    labels = ["safe" if i % 2 else "unsafe" for i in range(30)]
    train, trusted = (
        Labelled.make(texts[s], labels[s], label_names=("safe", "unsafe")) for s in (slice(20), slice(20, 30))
    )
    seen: list[dict[str, str]] = []

    def noting(model, lesson, held, tuning, **options):
        seen.append(dict(zip(lesson.frame["text"], lesson.frame["label"], strict=True)))
        assert set(held.frame["text"]) <= seen[-1].keys() and len(lesson) == len(set(lesson.uid))
        return tune(model, lesson, held, tuning, **options)

    monkeypatch.setattr("tracemend.trace.fold_tuned.tune", noting)
    believed = np.eye(2)[train.y]
    believed[3] = 0.5  # nobody knows
    tuning = Tuning(adapter="head", epochs=1, max_length=16, precision="fp32")
    parts = folds_of(trusted.y, 5, 0)
    # Without the second fold of the trusted examples all the others' labels are believed to be the other way round.
    beliefs = [1 - believed if k == 1 else believed for k in range(5)]
    found = fold_tuned(tiny("bert"), train, trusted, Apart(parts, beliefs, np.zeros((10, 2))), tuning)
    assert len(seen) == 5 and not any(texts[3] in lesson for lesson in seen)
    for number, lesson in enumerate(seen):
        said = {text: label for text, label in lesson.items() if text in set(train.frame["text"])}
        turned = {text: label != labels[texts.index(text)] for text, label in said.items()}
        assert set(turned.values()) == {number == 1}
    for data in (train, trusted):
        for text in set(data.frame["text"]) - {texts[3]}:
            assert sum(text not in lesson for lesson in seen) == 1
    np.testing.assert_allclose(found.train.sum(axis=1), 1)
    np.testing.assert_allclose(found.trusted.sum(axis=1), 1)
    with pytest.raises(TraceError, match="beliefs have shape"):
        fold_tuned(tiny("bert"), train, trusted, Apart(parts, [believed[:, :1]] * 5, np.zeros((10, 2))), tuning)
    more = Apart(parts * 4, [believed] * 20, np.zeros((10, 2)))
    with pytest.raises(TraceError, match="make 10 folds and the trusted ones 20"):
        fold_tuned(tiny("bert"), train, trusted, more, tuning)


@pytest.mark.slow
def test_consensus_finds_wrong_labels_on_the_demo() -> None:
    whole = demo(noise=0.3)
    splits = replace(whole.with_train(whole.train.take(range(120))), validation=whole.validation.take(range(60)))
    classifier = TextClassifier(load("minilm"), splits.labels, kind="head", max_length=32)
    found = Consensus(epochs=1, folds=2, tuned_folds=2).run(classifier, splits)
    assert found.metrics["detection_ap"] > found.controls["detection_ap"] + 0.4
    assert found.metrics["brier"] < found.controls["brier"] / 2
    assert found.metrics["detection_ap"] > Em(rounds=0).run(classifier, splits).metrics["detection_ap"] - 0.05
