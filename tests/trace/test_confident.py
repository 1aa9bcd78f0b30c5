"""The confident joint counts what is wrong, and pruning names it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.errors import TraceError
from tracemend.trace import confident_joint, label_quality, noise_estimate, pruned


def noisy(classes: int, n: int, rate: float, seed: int, strength: float = 3.0) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + strength * np.eye(classes)[truth]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    flip = rng.random(n) < rate
    y = np.where(flip, (truth + rng.integers(1, classes, n)) % classes, truth)
    return y, p, flip


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3])
def test_noise_estimate_is_near_the_truth(classes: int, rate: float) -> None:
    y, p, flip = noisy(classes, 4000, rate, seed=1, strength=5.0)
    assert noise_estimate(y, p) == pytest.approx(flip.mean(), abs=0.04)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(1, 40), st.integers(0, 10_000))
def test_noise_estimate_is_bounded_and_the_joint_keeps_the_given_shares(classes: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, y = rng.dirichlet(np.full(classes, 0.3), n), rng.integers(0, classes, n)
    joint = confident_joint(y, p)
    np.testing.assert_allclose(joint.sum(axis=1), np.bincount(y, minlength=classes) / n)
    assert 0.0 <= noise_estimate(y, p) <= 0.5


def test_a_label_nobody_was_given_is_never_the_truth() -> None:
    joint = confident_joint([0, 0, 1], [[0.1, 0.1, 0.8], [0.9, 0.1, 0.0], [0.1, 0.9, 0.0]])
    assert joint[:, 2].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("classes", [2, 4])
def test_pruning_names_as_many_as_the_joint_counts_and_mostly_wrong_ones(classes: int) -> None:
    y, p, flip = noisy(classes, 1000, 0.3, seed=2, strength=5.0)
    found = pruned(y, p)
    assert found.mean() == pytest.approx(noise_estimate(y, p), abs=0.01)
    assert flip[found].mean() > 0.9
    assert (p[found].argmax(axis=1) != y[found]).all()


def test_nothing_is_pruned_where_the_model_agrees_with_every_label() -> None:
    y = np.array([0, 0, 1, 1])
    assert not pruned(y, np.where(np.eye(2)[y] == 1, 0.9, 0.1)).any()


def test_the_margin_looks_at_the_likeliest_other_label() -> None:
    p = [[0.5, 0.3, 0.2], [0.1, 0.7, 0.2]]
    assert label_quality([0, 0], p) == pytest.approx([0.6, 0.2])
    assert label_quality([0, 0], p, "self-confidence") == pytest.approx([0.5, 0.1])


def test_bad_input_is_refused() -> None:
    with pytest.raises(TraceError, match="did you mean 'self-confidence'"):
        label_quality([0], [[0.5, 0.5]], by="self-confidense")
    with pytest.raises(TraceError, match="give a softmax"):
        pruned([0], [[2.0, -1.0]])
    with pytest.raises(TraceError, match="expected"):
        confident_joint([0, 1], [[0.5, 0.5]])
