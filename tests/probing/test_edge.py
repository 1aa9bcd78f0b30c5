"""Edge probes: spans read from words, and a mixture that finds the layer that holds something."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracemend.data import SpanExamples, available_folder, read_conllu
from tracemend.errors import DataError, ModelError, ProbeError
from tracemend.models import load, tiny
from tracemend.probing import EdgeProbe
from tracemend.probing.edge import _means, _of_spans, expected_layer
from tracemend.probing.posed import Posed
from tracemend.probing.scalar_mix import ScalarMix, Spans


def test_spans_are_means_of_their_words():
    hidden = torch.arange(12.0).view(2, 6, 1)
    found = _means(hidden, np.array([[0, 1], [2, 5], [4, 6]]))
    assert found[..., 0].tolist() == [[0, 3, 4.5], [6, 9, 10.5]]


def test_the_mixture_leans_to_the_layer_that_holds_the_labels():
    rng = np.random.default_rng(0)
    n, d = 600, 8
    y = rng.integers(2, size=n)
    hidden = torch.from_numpy(rng.normal(size=(4, 2 * n, d)).astype(np.float32))
    # Only layer 2 knows, and only by the second word of each span.
    hidden[2, 1::2, 0] += torch.from_numpy((4.0 * y - 2).astype(np.float32))
    spans = np.stack([2 * np.arange(n), 2 * np.arange(n) + 2], axis=1)
    train, test = Spans(spans[:500], None), Spans(spans[500:], None)
    found = ScalarMix(width=16, lr=1e-2, epochs=8).fit(hidden, train, y[:500], 2, test)
    assert found.weights.argmax() == 2 and found.weights[2] > 0.35
    assert found.weights.sum() == pytest.approx(1)
    assert abs(found.centre_of_gravity(range(4)) - 2) < 0.5
    assert (found.predicted == y[500:]).mean() > 0.7
    with pytest.raises(ProbeError, match="3 labels for 500"):
        ScalarMix().fit(hidden, train, y[:3], 2, test)


def test_the_mixture_sees_nothing_of_the_test_words():
    rng = np.random.default_rng(0)
    hidden = torch.from_numpy(rng.normal(size=(3, 80, 4)).astype(np.float32))
    other = hidden.clone()
    other[:, 60:] = 50 * other[:, 60:] + 9
    at = np.stack([np.arange(80), np.arange(80) + 1], axis=1)
    y = rng.integers(2, size=50)
    train, test = Spans(at[:50], at[5:55]), Spans(at[70:], at[60:70])
    one, two = (ScalarMix(width=8, epochs=2).fit(h, train, y, 2, test) for h in (hidden, other))
    assert one.weights.tolist() == two.weights.tolist()


@pytest.fixture(scope="module")
def found():
    method, model, data = EdgeProbe.tiny()
    return method.run(model, data)


def test_the_mixture_and_its_control_stand_beside_the_layers(found):
    assert {"mixed_accuracy", "centre_of_gravity", "accuracy", "selectivity"} <= set(found.metrics)
    assert {"mixed_accuracy", "centre_of_gravity"} <= set(found.controls["random_weights"])
    assert found.table()["mixture_weight"].sum() == pytest.approx(1)
    assert 0 <= found.metrics["centre_of_gravity"] <= 2
    assert "centre of gravity" in found.findings[-1]


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_the_expected_layer_is_a_mean_weighted_by_gains(scores):
    found = expected_layer(range(len(scores)), scores)
    if scores[-1] <= scores[0]:
        assert found is None
    elif scores == sorted(scores):
        assert found is not None and 1 - 1e-9 <= found <= len(scores) - 1 + 1e-9
    assert expected_layer([0, 3, 6], [0.5, 0.75, 0.75]) == pytest.approx(3)
    assert expected_layer([0], [0.5]) is None and expected_layer([], []) is None


def test_mixtures_of_more_and_more_layers(found):
    method, model, data = EdgeProbe.tiny()
    rising = replace(method, expected_layer=True).run(model, data)
    table = rising.table()
    assert table["mixture_up_to"].iloc[-1] == rising.metrics["mixed_accuracy"] == found.metrics["mixed_accuracy"]
    by_hand = expected_layer([0, 1, 2], table["mixture_up_to"].tolist())
    assert rising.metrics.get("expected_layer") == by_hand
    assert "expected layer" in rising.findings[-1] and "mixture_up_to" not in found.table()
    with pytest.raises(ProbeError, match="from below"):
        replace(method, expected_layer=True, layers=(2, 0)).run(model, data)


def test_labelled_spans_of_one_kind():
    words = tuple(
        tuple(f"the {w} is {v}".split()) for w in ("movie", "film") for v in ("good", "bad") for _ in range(30)
    )
    spans = SpanExamples(
        words=words,
        sentence=tuple(range(120)),
        first=((0, 2),) * 120,
        second=None,
        label=tuple(w[1] for w in words),
        part=("",) * 120,
    )
    result = EdgeProbe(random_models=1).run(tiny("gpt2"), spans)
    assert result.metrics["accuracy"] == 1.0
    with pytest.raises(DataError, match="words"):
        replace(spans, first=((2, 9),) * 120)


def test_controls_of_a_pair_know_its_first_text():
    # What a word is to its head hangs on the word alone, and no pair of test stands in training.
    words = tuple((str(k), ("film", "movie")[k % 2], f"verb{k}") for k in range(240))
    n = len(words)
    pairs = SpanExamples(
        words=words, sentence=tuple(range(n)), first=((1, 2),) * n, second=((2, 3),) * n,
        label=tuple("xy"[w[1] == "film"] for w in words), part=("train",) * 160 + ("dev",) * 40 + ("test",) * 40,
    )  # fmt: skip
    posed = Posed.of({part: _of_spans(of) for part, of in pairs.split().items()}, 0)
    assert (posed.by_type == posed.y["test"]).all() and not posed.unseen.any()
    # A random label of a text is the same wherever it stands, so that it can be learnt by heart.
    known = dict(zip(posed.parts["train"].form, posed.labellings["train"][1], strict=True))
    assert [known[form] for form in posed.parts["test"].form] == posed.labellings["test"][1].tolist()


def test_a_pair_is_made_up_where_either_word_is():
    words, other = (("a", "b"), ("c", "d"), ("e", "f")) * 20, (("a", "B"), ("C", "d"), ("e", "f")) * 20
    part = SpanExamples(
        words=words, sentence=tuple(range(60)), first=((0, 1),) * 60, second=((1, 2),) * 60, label=("x", "y") * 30,
        part=("",) * 60,
    )  # fmt: skip
    of = _of_spans(part)
    parts = {"train": of, "dev": of, "test": of, "made_up": _of_spans(replace(part, words=other))}
    assert Posed.of(parts, 0).replaced.tolist() == [True, True, False] * 20


def test_other_tasks_and_other_data_are_refused():
    _, model, data = EdgeProbe.tiny()
    with pytest.raises(ProbeError, match="'dependency'"):
        EdgeProbe(task="srl").run(model, data)


def spans(labels, words=("my", "film", "is", "good")):
    n = len(labels)
    return SpanExamples(
        words=(tuple(words),) * n, sentence=tuple(range(n)), first=((0, 2),) * n, second=None, label=tuple(labels),
        part=("train", "train", "dev", "test") * (n // 4),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("data", "error", "said"),
    [
        (lambda: spans(["x"] * 80), ProbeError, "has 1 label with at least 10 items"),
        (lambda: spans([f"l{i % 20}" for i in range(80)]), ProbeError, "has 0 label with at least 10 items"),
        (lambda: spans(["x", "y"] * 40, words=("my", "\u200b", "film")), ModelError, "no token"),
        (lambda: spans(["x", "y"] * 40, words=["my"] * 90), ProbeError, "no text of train fits the window"),
    ],
)
def test_one_label_rare_labels_and_words_that_the_model_cannot_read_are_refused(data, error, said):
    with pytest.raises(error, match=said):
        EdgeProbe().run(tiny("bert"), data())


@pytest.mark.slow
def test_dependencies_in_minilm():
    folder = available_folder("ud_ewt")
    if folder is None:
        pytest.skip("ud_ewt is not here; set TRACEMEND_DATA")
    probe = EdgeProbe(layers=(0, 3), train_items=2500, test_items=800)
    found = probe.run(load("minilm"), read_conllu(folder))
    assert found.facts["best_layer"] == 3
    assert found.metrics["accuracy"] > found.controls["layer_0"]["accuracy"] + 0.05
    assert found.controls["random_weights"]["accuracy"] < found.controls["layer_0"]["accuracy"]
