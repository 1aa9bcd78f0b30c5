"""Training dynamics: the shared pass over the checkpoints, and the three detectors that read it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tests.trace.conftest import made
from tracemend.data import Labelled, Splits
from tracemend.models import tiny
from tracemend.trace import Dynamics, dynamics
from tracemend.trace.detectors import Aum, DataMaps, Detector, Forgetting, Subject
from tracemend.tuning import TextClassifier, Tuned, Tuning, tune


@pytest.fixture(scope="module")
def tuned() -> tuple[Tuned, Splits]:
    _, splits = made()
    tuning = Tuning(adapter="lora", epochs=3, max_length=24, patience=0, precision="fp32", rank=2)
    return tune(tiny("bert"), splits.train, splits.validation, tuning), splits


def scored(detector: Detector, found: Dynamics, data: Labelled, make: Callable[..., TextClassifier]) -> np.ndarray:
    """Scores in the order of the data, for dynamics that are given."""
    subject = Subject(make("bert", "head"), (), Splits(train=data, validation=data, verdict=data))
    subject._kept["dynamics"] = found
    return detector.run(subject, subject.splits).table().set_index("uid").loc[data.uid, "score"].to_numpy()


def test_each_checkpoint_predicts_with_its_own_parameters_and_leaves_the_models(tuned: tuple[Tuned, Splits]) -> None:
    one, splits = tuned
    before = {name: v.clone() for name, v in one.classifier.network.state_dict().items()}
    found = dynamics(one.classifier, splits.train, one.checkpoints)
    after = one.classifier.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert found.logits.shape == (3, len(splits.train), 2)
    own = one.classifier.predict(splits.train.pairs)
    best = [c.step for c in one.checkpoints].index(one.best.step)
    np.testing.assert_allclose(found.logits[best], own, atol=1e-5)
    assert not np.allclose(found.logits[0], found.logits[2])


def test_the_parameters_come_back_after_an_error(tuned: tuple[Tuned, Splits], monkeypatch: pytest.MonkeyPatch) -> None:
    one, splits = tuned
    before = one.classifier.state()
    other = next(c for c in one.checkpoints if c.step != one.best.step)

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(one.classifier, "predict", fail)
    with pytest.raises(KeyboardInterrupt):
        dynamics(one.classifier, splits.train, [other])
    assert all(torch.equal(before[name], v) for name, v in one.classifier.state().items())


def test_three_detectors_take_one_pass(tuned: tuple[Tuned, Splits], monkeypatch: pytest.MonkeyPatch) -> None:
    one, splits = tuned
    subject = Subject(one.classifier, one.checkpoints, splits)
    calls = []
    predict = one.classifier.predict

    def counted(*given: object, **options: object) -> object:
        calls.append(given)
        return predict(*given, **options)

    monkeypatch.setattr(one.classifier, "predict", counted)
    for kind in (Aum, DataMaps, Forgetting):
        kind().run(subject, splits)
    assert len(calls) == len(one.checkpoints) + 1  # and once the classifier as it is


LOGITS = np.array(
    [  # three checkpoints, seven examples, two labels; the data's labels are 0, 1, 0, 1, 1, 0, 0
        [[2, 0], [2, 0], [0, 1], [0, 3], [1, 0], [1, 0], [0, 2]],
        [[3, 0], [1, 0], [1, 0], [0, 3], [0, 1], [0, 1], [0, 2]],
        [[4, 0], [0, 1], [0, 1], [0, 3], [1, 0], [1, 0], [0, 2]],
    ],
    dtype=np.float32,
)


def test_the_area_under_the_margin(data: Labelled, make: Callable[..., TextClassifier]) -> None:
    found = Dynamics(LOGITS, data.y)
    area = [(2 + 3 + 4) / 3, (-2 - 1 + 1) / 3, (-1 + 1 - 1) / 3, 3, (-1 + 1 - 1) / 3, (1 - 1 + 1) / 3, -2]
    np.testing.assert_allclose(scored(Aum(), found, data, make), -np.array(area), rtol=1e-6)


def test_data_maps_are_mean_and_spread_of_the_labels_probability(
    data: Labelled, make: Callable[..., TextClassifier]
) -> None:
    found = Dynamics(LOGITS, data.y)
    p = np.exp(LOGITS.astype(np.float64))
    own = (p / p.sum(axis=2, keepdims=True))[:, np.arange(7), data.y]
    np.testing.assert_allclose(scored(DataMaps(), found, data, make), 1 - own.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(scored(DataMaps(by="variability"), found, data, make), own.std(axis=0), rtol=1e-6)


def test_forgetting_counts_losses_and_never_learnt_counts_most(
    data: Labelled, make: Callable[..., TextClassifier]
) -> None:
    found = Dynamics(LOGITS, data.y)
    # Right at: all | last | second | all | second | first and last | none.
    assert scored(Forgetting(), found, data, make).tolist() == [0, 0, 1, 0, 1, 1, 3]


def test_the_margin_is_over_the_highest_of_several_labels() -> None:
    found = Dynamics(np.array([[[1.0, 4.0, 2.0], [5.0, 1.0, 2.0]]], dtype=np.float32), np.array([2, 0]))
    assert found.margins.tolist() == [[-2.0, 3.0]]
    assert found.right.tolist() == [[False, True]]


def test_a_wrong_choice_is_named(tuned: tuple[Tuned, Splits]) -> None:
    one, splits = tuned
    with pytest.raises(Exception, match="did you mean 'confidence'"):
        DataMaps(by="confidense").run(one, splits)
