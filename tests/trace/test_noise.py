"""The noise matrix and the posterior: against known noise, and what must hold for any."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.errors import TraceError
from tracemend.trace.noise import from_text, given_the_label, noise_matrix, tempered

MATRIX = np.array([[0.8, 0.15, 0.05], [0.3, 0.7, 0.0], [0.1, 0.1, 0.8]])


def drawn(matrix: Any, n: int, seed: int, sure: float = 0.3) -> tuple[Any, Any, Any]:
    """Calibrated probabilities of the true label, the truth drawn from them, and labels given by the matrix."""
    rng = np.random.default_rng(seed)
    labels = len(matrix)
    q = rng.dirichlet(np.full(labels, sure), n)
    truth = np.array([rng.choice(labels, p=row) for row in q])
    return q, truth, np.array([rng.choice(labels, p=matrix[t]) for t in truth])


def test_the_noise_is_found_again() -> None:
    q, truth, y = drawn(MATRIX, 4000, seed=0)
    found = noise_matrix(q, y)
    np.testing.assert_allclose(found, MATRIX, atol=0.05)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    posterior = given_the_label(q, y, found)
    wrong = 1 - posterior[np.arange(len(y)), y]
    assert wrong.mean() == pytest.approx((truth != y).mean(), abs=0.02)
    for low, high in ((0.0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.0)):
        inside = (wrong >= low) & (wrong < high)
        assert (truth != y)[inside].mean() == pytest.approx(wrong[inside].mean(), abs=0.05)


def test_every_step_is_at_the_maximum() -> None:
    """No matrix nearby has a higher likelihood."""
    q, _, y = drawn(MATRIX, 500, seed=1)
    best = noise_matrix(q, y)

    prior = np.full((3, 3), 0.05) + 0.85 * np.eye(3)

    def likelihood(matrix: Any) -> float:
        return float(np.log((q * matrix[:, y].T).sum(axis=1)).sum() + 10 * (prior * np.log(matrix)).sum())

    rng = np.random.default_rng(2)
    for _ in range(50):
        other = np.maximum(best + rng.normal(scale=0.02, size=best.shape), 1e-6)
        assert likelihood(other / other.sum(axis=1, keepdims=True)) <= likelihood(best) + 1e-6


def test_what_the_texts_do_not_say_stays_with_the_prior() -> None:
    y = np.array([0, 1] * 200)
    found = noise_matrix(np.full((400, 2), 0.5), y)
    np.testing.assert_allclose(found, [[0.9, 0.1], [0.1, 0.9]], atol=1e-6)
    # As good as nothing: a likelihood that is nearly flat runs to no end.
    nearly = 0.5 + np.random.default_rng(0).normal(scale=0.01, size=400)
    np.testing.assert_allclose(noise_matrix(np.stack([nearly, 1 - nearly], axis=1), y), found, atol=0.05)
    # Ten examples as if seen beside four that were; a label that is never the truth keeps the prior.
    np.testing.assert_allclose(noise_matrix([[1.0, 0.0]] * 4, [0, 0, 0, 1]), [[12 / 14, 2 / 14], [0.1, 0.9]])


def test_a_fit_is_made_as_sure_as_it_has_a_right_to_be() -> None:
    rng = np.random.default_rng(0)
    q = rng.dirichlet([1.0, 1.0, 1.0], 6000)
    truth = np.array([rng.choice(3, p=row) for row in q])
    one_hot = np.eye(3)[truth]
    assert tempered(q, q, one_hot) == pytest.approx(q, abs=0.02)
    boast = q**3 / (q**3).sum(axis=1, keepdims=True)
    assert tempered(boast[:100], boast, one_hot) == pytest.approx(q[:100], abs=0.03)
    # What says nothing ends with how often each label is true.
    deaf = tempered(q, q, np.eye(3)[rng.choice(3, size=6000, p=[0.6, 0.3, 0.1])])
    assert deaf == pytest.approx(np.tile([0.6, 0.3, 0.1], (6000, 1)), abs=0.05)
    with pytest.raises(TraceError, match="held-out"):
        tempered(q, q, one_hot[:5])


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 5), st.integers(1, 30), st.integers(0, 10_000))
def test_the_posterior_is_one_and_without_noise_the_label_stands(labels: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    q, y = rng.dirichlet(np.full(labels, 0.3), n), rng.integers(0, labels, n)
    matrix = rng.dirichlet(np.ones(labels), labels)
    found = given_the_label(q, y, matrix)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    np.testing.assert_allclose(given_the_label(q, y, np.eye(labels)), np.eye(labels)[y])
    np.testing.assert_allclose(given_the_label(q, y, np.full((labels, labels), 1 / labels)), q, atol=1e-12)
    turned = rng.permutation(n)
    np.testing.assert_allclose(given_the_label(q[turned], y[turned], matrix), found[turned])


def test_an_impossible_example_says_nothing() -> None:
    assert given_the_label([[1.0, 0.0]], [1], np.eye(2)).tolist() == [[0.0, 1.0]]


def test_the_noise_is_taken_out_of_what_is_given() -> None:
    q, _, _ = drawn(MATRIX, 200, seed=3, sure=1.0)
    np.testing.assert_allclose(from_text(q @ MATRIX, MATRIX), q, atol=0.02)
    np.testing.assert_allclose(from_text(q, np.eye(3)), q, atol=1e-9)


def test_bad_input() -> None:
    with pytest.raises(TraceError, match="no logits"):
        noise_matrix([[2.0, 1.0]], [0])
    with pytest.raises(TraceError, match="from 0 to 1"):
        given_the_label([[0.5, 0.5]], [2], np.eye(2))
