"""Suspicion where no label is trusted: the others' labels tell, and nothing is told where texts tell nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tracemend.data import Labelled, Splits, corrupt, demo
from tracemend.models import load, tiny
from tracemend.progress import Progress
from tracemend.trace.detectors import Em, OthersLabels
from tracemend.trace.detectors.detector import Subject
from tracemend.tuning import TextClassifier


@pytest.mark.slow
def test_wrong_labels_are_found_where_the_validation_labels_are_as_wrong() -> None:
    splits = demo(noise=0.3)
    splits = replace(splits, validation=corrupt(splits.validation, rate=0.3, seed=1))
    subject = Subject(TextClassifier(load("minilm"), splits.labels, kind="head"), [], splits, trusted=False)
    found, trusting = (one.run(subject, splits) for one in (OthersLabels(), Em()))
    assert found.metrics["detection_ap"] > found.controls["detection_ap"] + 0.4
    assert found.metrics["detection_ap"] > trusting.metrics["detection_ap"]
    table = found.table()
    assert table["probability"].isna().all()  # nothing that is trusted says how often it is right
    assert (table["suggested"] != table["label"]).all()


def test_where_texts_do_not_tell_their_labels_nobody_is_suspected_and_it_says_so() -> None:
    rng = np.random.default_rng(0)
    texts, labels = [f"text {i}" for i in range(120)], list(rng.permutation(["safe", "unsafe"] * 60))
    train, held = (Labelled.make(texts[part], labels[part]) for part in (slice(0, 80), slice(80, None)))
    splits = Splits(train=train, validation=held, verdict=held)
    heard: list[str] = []

    class Heard(Progress):
        def note(self, event: str, **facts: object) -> None:
            heard.append(event)

    subject = Subject(TextClassifier(tiny("bert"), train.labels, kind="head", max_length=24), [], splits, trusted=False)
    found = OthersLabels().run(subject, splits, progress=Heard())
    table = found.table()
    assert not table["score"].any() and not np.signbit(table["score"]).any() and table["suggested"].isna().all()
    assert not table["evidence"].str.contains("probability of 1.00").any()
    assert "the labels carry no signal" in heard
    (said,) = found.findings
    assert said.startswith("No suspect can be named: out of fold, the texts tell the labels no better than chance")
    assert "--valid FILE" in said


def test_authors_who_flip_their_labels_are_believed_less() -> None:
    words = ("love", "hate")
    y = np.arange(160) % 2
    author = np.arange(160) // 10
    given = np.where(author % 4 == 0, 1 - y, y)  # a quarter of the authors flips all of them
    texts = [f"{words[k]} {i}" for i, k in enumerate(y)]
    whole = Labelled.make(texts, [words[k] for k in given], groups=[f"author {a}" for a in author])
    train, held = whole.take(range(120)), whole.take(range(120, 160))
    splits = Splits(train=train, validation=held, verdict=held)
    subject = Subject(TextClassifier(tiny("bert"), train.labels, kind="head", max_length=24), [], splits, trusted=False)
    scores = OthersLabels().suspicion(subject, Progress()).scores
    assert scores[author[:120] % 4 == 0].min() > scores[author[:120] % 4 != 0].max()
