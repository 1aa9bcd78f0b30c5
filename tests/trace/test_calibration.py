"""Probabilities are monotone in the score, mean what the evidence means, and know what they do not know."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trace.conftest import made
from tracemend.data import Labelled, Splits
from tracemend.errors import TraceError
from tracemend.models import tiny
from tracemend.progress import Progress
from tracemend.trace import calibrated
from tracemend.trace.calibration import trusted_wrong
from tracemend.trace.detectors import Subject
from tracemend.trace.em import true_labels
from tracemend.tuning import TextClassifier

numbers = st.floats(-1e6, 1e6, allow_nan=False)
chances = st.floats(0, 1, allow_nan=False)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(numbers, chances), min_size=1, max_size=40))
def test_it_is_monotone_equal_for_ties_and_keeps_the_mean(pairs: list[tuple[float, float]]) -> None:
    score, wrong = (np.array(column) for column in zip(*pairs, strict=True))
    found = calibrated(score, wrong)
    order = np.argsort(score, kind="stable")
    assert (np.diff(found[order]) >= -1e-12).all()
    for value in np.unique(score):
        assert np.ptp(found[score == value]) == 0
    assert found.mean() == pytest.approx(wrong.mean(), abs=1e-9)
    assert ((found >= 0) & (found <= 1)).all()


def test_only_the_order_of_the_scores_counts() -> None:
    rng = np.random.default_rng(0)
    score, wrong = rng.normal(size=50), rng.random(50)
    np.testing.assert_array_equal(calibrated(score, wrong), calibrated(1e-30 * np.exp(score), wrong))


def test_a_score_that_knows_the_evidence_gives_it_back_and_its_reverse_gives_the_mean() -> None:
    wrong = np.linspace(0, 1, 11)
    np.testing.assert_allclose(calibrated(wrong, wrong), wrong)
    np.testing.assert_allclose(calibrated(-wrong, wrong), np.full(11, 0.5))


def test_it_is_calibrated_where_the_evidence_is() -> None:
    rng = np.random.default_rng(1)
    evidence = rng.random(20_000)
    truth = rng.random(20_000) < evidence
    found = calibrated(evidence + rng.normal(scale=0.3, size=20_000), evidence)
    for low in np.arange(0.2, 0.8, 0.1):
        band = (found >= low) & (found < low + 0.1)
        assert truth[band].mean() == pytest.approx(found[band].mean(), abs=0.05)


def test_examples_without_evidence_get_theirs_from_their_score() -> None:
    assert calibrated([1.0, 2.0, 3.0], [0.1, np.nan, 0.5]) == pytest.approx([0.1, 0.3, 0.5])
    assert np.isnan(calibrated([1.0, 2.0], [np.nan, np.nan])).all()


@pytest.mark.parametrize(
    ("scores", "wrong", "message"),
    [
        ([1.0, np.nan], [0.1, 0.2], "must be finite"),
        ([1.0, np.inf], [0.1, 0.2], "must be finite"),
        ([1.0], [0.1, 0.2], r"expected \[n\] twice"),
        ([], [], "n >= 1"),
        ([1.0, 2.0], [0.1, 1.2], "expected 0 to 1"),
    ],
)
def test_bad_input_is_refused(scores: list[float], wrong: list[float], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        calibrated(scores, wrong)


def subject(train: list[str], validation: list[str], names: tuple[str, ...] = ("a", "b", "c")) -> Subject:
    model = tiny("bert")
    parts = [
        Labelled.make([f"text {i} of {len(p)}" for i in range(len(p))], p, label_names=names)
        for p in (train, validation)
    ]
    splits = Splits(train=parts[0], validation=parts[1], verdict=parts[1])
    return Subject(TextClassifier(model, names, kind="head", max_length=16), (), splits)


def test_the_reference_says_nothing_of_a_label_that_the_validation_set_lacks() -> None:
    found = trusted_wrong(subject(["a", "b", "c", "a"], ["a", "b"] * 3))
    assert np.isnan(found).tolist() == [False, False, True, False]


def test_a_validation_set_of_one_label_gives_no_probabilities_and_says_so() -> None:
    class Notes(Progress):
        said: list[str] = []  # noqa: RUF012

        def note(self, event: str, **facts: object) -> None:
            self.said.append(f"{event}: {facts['reason']}")

    notes = Notes()
    assert np.isnan(trusted_wrong(subject(["a", "b"], ["a", "a"]), notes)).all()
    assert notes.said == ["no calibrated probability: the validation set has 1 labels, not two"]


def test_the_reference_is_higher_where_the_label_is_wrong() -> None:
    _, splits = made()
    model = tiny("bert")
    found = trusted_wrong(Subject(TextClassifier(model, splits.labels, kind="head", max_length=24), (), splits))
    assert found[splits.train.wrong].mean() > found[~splits.train.wrong].mean()


def test_texts_that_say_nothing_deny_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("a", "b")
    rng = np.random.default_rng(3)
    labels = {part: rng.integers(2, size=n) for part, n in (("train", 300), ("validation", 200))}
    train, validation = ([names[i] for i in labels[part]] for part in ("train", "validation"))
    of = subject(train, validation, names)
    noise = {part: rng.normal(size=(len(y), 60)) for part, y in labels.items()}
    vectors = {part: x / np.linalg.norm(x, axis=1, keepdims=True) for part, x in noise.items()}
    monkeypatch.setattr(Subject, "embedded", lambda _, part, *__, **___: vectors[part])
    raw = true_labels(vectors["train"], labels["train"], vectors["validation"], labels["validation"], 2)
    assert (raw.wrong(labels["train"]) > 0.5).mean() > 0.1
    assert (trusted_wrong(of) > 0.5).mean() <= 0.02
