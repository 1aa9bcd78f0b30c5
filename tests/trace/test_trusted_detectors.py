"""Detectors that rest on a clean validation set."""

from __future__ import annotations

import numpy as np
import pytest

from tracemend.data import Labelled, Splits, demo
from tracemend.errors import ModelError, TraceError
from tracemend.models import load, tiny
from tracemend.progress import Progress
from tracemend.trace import embed
from tracemend.trace.detectors import Consensus, Detector, Em, TrustedModel
from tracemend.trace.detectors.detector import Subject
from tracemend.tuning import TextClassifier


def test_embeddings_of_several_layers_are_unit_and_end_with_the_last() -> None:
    model = tiny("bert")
    pairs = [("good movie", None), ("you are terrible and i hate this", "why")]
    last, four = embed(model, pairs), embed(model, pairs, layers=4)
    assert four.shape == (2, 4 * last.shape[1])
    np.testing.assert_allclose(np.linalg.norm(four, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(2 * four[:, -last.shape[1] :], last, atol=1e-6)
    with pytest.raises(TraceError, match="at least 1"):
        embed(model, pairs, layers=0)


@pytest.mark.parametrize("architecture", ["bert", "llama", "t5"])
def test_every_family_has_layers(architecture: str) -> None:
    assert embed(tiny(architecture), [("a nice day", None)], layers=3).shape[0] == 1


def test_a_model_without_known_sites_gives_its_last_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(model: object) -> None:
        raise ModelError("no sites are known")

    model, pairs = tiny("bert"), [("good movie", None)]
    expected = embed(model, pairs)
    monkeypatch.setattr("tracemend.trace.similarity.sites", unknown)
    heard: list[str] = []

    class Heard(Progress):
        def note(self, event: str, **facts: object) -> None:
            heard.append(event)

    np.testing.assert_array_equal(embed(model, pairs, layers=4, progress=Heard()), expected)
    assert heard == ["embeddings of the last layer alone"]
    assert not any(m._forward_hooks for m in model.network.modules())


@pytest.mark.slow
@pytest.mark.parametrize("method", [TrustedModel(), Em(), Em(layers=4)], ids=lambda m: f"{m.name}-{m.layers}")
def test_wrong_labels_are_found_on_the_demo(method) -> None:
    splits = demo(noise=0.3)
    found = method.run(TextClassifier(load("minilm"), splits.labels, kind="head"), splits)
    assert found.metrics["detection_ap"] > found.controls["detection_ap"] + 0.3
    assert found.metrics["brier"] < found.controls["brier"] / 2
    table = found.table()
    truth = dict(zip(splits.train.uid, splits.train.frame["truth"], strict=True))
    sure = table[table["probability"] > 0.9]
    assert (sure["suggested"] == [truth[uid] for uid in sure["uid"]]).mean() > 0.8
    assert abs(table["probability"].mean() - 0.3) < 0.1


def test_only_beliefs_that_are_toned_down_are_told_as_probabilities() -> None:
    """What a fit to frozen states says of itself is far too sure: it orders, and validation errors calibrate it."""
    made = [(f"{('love', 'hate')[i % 2]} {i}", ("safe", "unsafe")[i % 2]) for i in range(80)]
    train, held = (Labelled.make(*zip(*made[k : k + 40], strict=True)) for k in (0, 40))
    splits = Splits(train=train, validation=held, verdict=held)
    subject = Subject(TextClassifier(tiny("bert"), train.labels, kind="head", max_length=24), [], splits)
    found = {one.name: one.suspicion(subject, Progress()) for one in (Em(), TrustedModel(), Consensus(epochs=0))}
    assert found["trace.em"].wrong is None and found["trace.trusted-model"].wrong is None
    assert found["trace.consensus"].wrong is not None


@pytest.mark.parametrize("detector", [Em(), TrustedModel(), Consensus(epochs=0)], ids=lambda one: one.name)
def test_a_label_that_no_validation_example_has_is_refused(detector: Detector) -> None:
    names = ("safe", "unsafe", "odd")
    train = Labelled.make([f"text {i}" for i in range(12)], list(names) * 4, label_names=names)
    held = Labelled.make([f"other text {i}" for i in range(4)], ["safe", "odd"] * 2, label_names=names)
    splits = Splits(train=train, validation=held, verdict=held)
    with pytest.raises(TraceError, match=r"no validation example is labelled 'unsafe', .*; add some"):
        detector.run(TextClassifier(tiny("bert"), splits.labels, kind="head"), splits)


def test_labels_that_contradict_the_validation_labels_are_told_of() -> None:
    made = [(f"{('love', 'hate')[i % 2]} {i}", ("safe", "unsafe")[i % 2]) for i in range(80)]
    train, held = (Labelled.make(*zip(*made[k : k + 40], strict=True)) for k in (0, 40))
    turned = held.relabelled({uid: held.labels[1 - y] for uid, y in zip(held.uid, held.y, strict=True)})
    classifier = TextClassifier(tiny("bert"), train.labels, kind="head", max_length=24)
    for validation, told in ((held, False), (turned, True)):
        found = Em().run(classifier, Splits(train=train, validation=validation, verdict=held))
        assert any("contradict the validation labels" in said for said in found.findings) == told
