"""Detectors rank what they say they rank; the contract test covers the rest."""

from __future__ import annotations

import numpy as np
import pytest

from tracemend.data import Splits
from tracemend.errors import TraceError
from tracemend.models import tiny
from tracemend.trace.detectors import (
    Detector,
    Gbair,
    Loss,
    MeanInfluence,
    OutOfFoldLoss,
    RandomOrder,
    SelfInfluence,
    Similarity,
)
from tracemend.tuning import TextClassifier, Tuned, Tuning, tune

ALL = [Gbair, Loss, MeanInfluence, OutOfFoldLoss, RandomOrder, SelfInfluence, Similarity]


@pytest.fixture(scope="module")
def case() -> tuple[TextClassifier, Splits]:
    _, classifier, splits = Loss.tiny()
    return classifier, splits


@pytest.mark.parametrize("kind", ALL)
def test_the_table_has_every_example_once_the_most_suspicious_first(
    kind: type[Detector], case: tuple[TextClassifier, Splits]
) -> None:
    classifier, splits = case
    table = kind().run(classifier, splits).table()
    assert sorted(table["uid"]) == sorted(splits.train.uid)
    assert table["score"].is_monotonic_decreasing
    assert (table["suggested"] != table["label"]).all()
    assert table["evidence"].str.len().gt(0).all()


def test_the_loss_is_the_classifiers(case: tuple[TextClassifier, Splits]) -> None:
    classifier, splits = case
    table = Loss().run(classifier, splits).table().set_index("uid").loc[splits.train.uid]
    p = classifier.probabilities(splits.train.pairs)
    np.testing.assert_allclose(table["score"], -np.log(p[np.arange(len(p)), splits.train.y]), rtol=1e-4)


def test_without_truth_there_are_figures_all_the_same(case: tuple[TextClassifier, Splits]) -> None:
    classifier, splits = case
    train = splits.train
    blind = splits.with_train(type(train)(train.frame.assign(truth=None), train.labels, train.positive))
    found = Loss(share=0.2).run(classifier, blind)
    assert set(found.metrics) == set(found.controls) == {"denied"}
    assert found.metrics["denied"] > found.controls["denied"]  # what the model denies has the highest loss


def test_a_tuned_model_is_traced_over_its_checkpoints(case: tuple[TextClassifier, Splits]) -> None:
    _, splits = case
    tuning = Tuning(adapter="head", epochs=2, max_length=24, patience=0, precision="fp32")
    tuned = tune(tiny("bert"), splits.train, splits.validation, tuning)
    assert isinstance(tuned, Tuned)
    over_all = SelfInfluence().run(tuned, splits).table()
    last = SelfInfluence().run(tuned.classifier, splits).table()
    assert not np.allclose(over_all["score"], last["score"])


def test_out_of_fold_loss_finds_flips_that_the_text_gives_away(case: tuple[TextClassifier, Splits]) -> None:
    classifier, splits = case
    found = OutOfFoldLoss().run(classifier, splits)
    assert found.metrics["detection_ap"] > found.controls["detection_ap"]


def test_gbair_needs_errors(case: tuple[TextClassifier, Splits]) -> None:
    classifier, splits = case
    right = classifier.predict(splits.validation.pairs).argmax(axis=1) == splits.validation.y
    easy = Splits(train=splits.train, validation=splits.validation.take(np.flatnonzero(right)), verdict=splits.verdict)
    with pytest.raises(TraceError, match="none is misclassified"):
        Gbair().run(classifier, easy)


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_out_of_range_is_refused(case: tuple[TextClassifier, Splits], share: float) -> None:
    with pytest.raises(TraceError, match="share is"):
        RandomOrder(share=share).run(*case)


def test_an_untuned_model_is_refused(case: tuple[TextClassifier, Splits]) -> None:
    with pytest.raises(TraceError, match="tune one first"):
        RandomOrder().run(tiny("bert"), case[1])
