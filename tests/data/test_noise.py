import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.data import KINDS, Labelled, corrupt
from tracemend.errors import DataError


def texts(n):
    return [f"message {i} about {'rain' if i % 2 else 'sun'}" for i in range(n)]


def balanced(n=100, labels=("rain", "sun"), **columns):
    return Labelled.make(texts(n), [labels[(i + 1) % len(labels)] for i in range(n)], **columns)


@settings(max_examples=50, deadline=None)
@given(st.integers(5, 80), st.floats(0, 0.99), st.integers(0, 1000), st.integers(2, 4))
def test_symmetric_flips_exactly_the_rate_and_keeps_the_truth(n, rate, seed, classes):
    data = balanced(n, tuple("abcd"[:classes]))
    noisy = corrupt(data, rate=rate, seed=seed)
    assert noisy.wrong.sum() == round(rate * n)
    assert list(noisy.frame["truth"]) == list(data.frame["label"])
    assert noisy.uid == data.uid
    assert (noisy.labels, noisy.positive) == (data.labels, data.positive)
    assert not data.has_truth
    assert noisy.fingerprint == corrupt(data, rate=rate, seed=seed).fingerprint


def test_symmetric_reaches_every_other_label():
    noisy = corrupt(balanced(300, ("a", "b", "c")), rate=0.5)
    changed = noisy.frame[noisy.wrong]
    assert len(set(zip(changed["truth"], changed["label"], strict=True))) == 6


def test_class_conditional_keeps_to_the_matrix():
    noisy = corrupt(
        balanced(300, ("a", "b", "c")), kind="class-conditional", matrix={"a": {"b": 0.3, "c": 0.1}, "b": {"a": 0.5}}
    )
    counts = pd.crosstab(noisy.frame["truth"], noisy.frame["label"])
    assert counts.to_numpy().tolist() == [[60, 30, 10], [50, 50, 0], [0, 0, 100]]


def test_confusable_prefers_what_a_weak_model_confuses():
    hard = [f"message {i}" for i in range(100)]
    easy = [f"{'sun sunny sunshine' if i % 2 else 'rain rainy raindrop'} {i}" for i in range(300)]
    data = Labelled.make(hard + easy, ["sun" if i % 2 else "rain" for i in range(400)])
    noisy = corrupt(data, kind="confusable", rate=0.2)
    assert noisy.wrong.sum() == 80
    assert noisy.wrong[:100].mean() > 3 * noisy.wrong[100:].mean()
    assert noisy.fingerprint != corrupt(data, kind="confusable", rate=0.2, seed=1).fingerprint


def test_annotator_draws_a_real_vote():
    votes = pd.DataFrame({"v1": ["rain", "sun"] * 50, "v2": [None, "rain"] * 50, "v3": [None] * 100})
    data = Labelled.make(texts(100), ["rain", "sun"] * 50, extra=votes)
    noisy = corrupt(data, kind="annotator", votes=["v1", "v2", "v3"])
    assert not noisy.wrong[::2].any()
    assert 10 < noisy.wrong[1::2].sum() < 40
    with pytest.raises(DataError, match="row 0"):
        corrupt(data, kind="annotator", votes=["v2", "v3"])
    with pytest.raises(DataError, match="did you mean 'v1'"):
        corrupt(data, kind="annotator", votes=["v11"])


def test_votes_are_spelt_as_labels_are():
    data = Labelled.make(["a", "b"], ["0", "1"], extra=pd.DataFrame({"v": [0.0, 1.0]}))
    assert not corrupt(data, kind="annotator", votes=["v"]).wrong.any()


def test_trolls_flip_most_of_their_own():
    data = balanced(100, groups=[f"author{i // 10}" for i in range(100)])
    noisy = corrupt(data, kind="trolls", troll_share=0.3, flip_share=0.8, seed=2)
    assert sorted(noisy.wrong.reshape(10, 10).sum(axis=1)) == [0] * 7 + [8] * 3


def test_truth_that_is_there_stays():
    once = corrupt(balanced(), rate=0.2, seed=1)
    twice = corrupt(once, rate=0.2, seed=2)
    assert list(twice.frame["truth"]) == list(once.frame["truth"])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"kind": "symetric"}, "did you mean 'symmetric'"),
        ({"rate": 1.0}, "rate is 1.0"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"kind": "trolls"}, "at least two groups"),
        ({"kind": "trolls", "flip_share": 1.2}, "flip_share"),
        ({"kind": "annotator"}, "--votes"),
        ({"kind": "class-conditional"}, "needs a matrix"),
        ({"kind": "class-conditional", "matrix": {"rane": {"sun": 0.1}}}, "did you mean 'rain'"),
        ({"kind": "class-conditional", "matrix": {"rain": {"sun": 1.1}}}, "at most 1"),
        ({"kind": "class-conditional", "matrix": {"rain": {"rain": 0.1}}}, "other labels"),
    ],
)
def test_bad_configurations(config, words):
    with pytest.raises(DataError, match=words):
        corrupt(balanced(), **config)


def test_confusable_needs_two_of_each_label():
    with pytest.raises(DataError, match="'b' has 1 examples"):
        corrupt(Labelled.make(texts(9), ["a"] * 8 + ["b"]), kind="confusable")


def test_registry_names():
    assert set(KINDS) == {"symmetric", "class-conditional", "confusable", "annotator", "trolls"}
    assert np.all([callable(kind) for kind in KINDS.values()])
