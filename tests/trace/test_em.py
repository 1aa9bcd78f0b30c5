"""True labels by expectation and maximisation: found on planted noise, never beside a label's own vote."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from tracemend.errors import TraceError
from tracemend.trace.em import true_labels


def blobs(n, labels, rng, apart=2.2):
    """Unit vectors around one direction a label."""
    y = np.arange(n) % labels
    x = rng.normal(size=(n, 12))
    x[np.arange(n), y] += apart
    return x / np.linalg.norm(x, axis=1, keepdims=True), y


def noisy(y, matrix, rng):
    return np.array([rng.choice(len(matrix), p=matrix[label]) for label in y])


@pytest.mark.parametrize(
    "matrix",
    [
        [[0.7, 0.3], [0.3, 0.7]],
        [[0.95, 0.05], [0.4, 0.6]],
        [[0.7, 0.3, 0.0], [0.0, 0.7, 0.3], [0.3, 0.0, 0.7]],
    ],
    ids=["symmetric", "one-sided", "three labels in a ring"],
)
def test_wrong_labels_and_their_rates_are_found(matrix) -> None:
    rng = np.random.default_rng(0)
    x, truth = blobs(600, len(matrix), rng)
    clean, clean_y = blobs(120, len(matrix), rng)
    y = noisy(truth, matrix, rng)
    found = true_labels(x, y, clean, clean_y, len(matrix))
    assert np.abs(found.transition - matrix).max() < 0.1
    wrong = found.wrong(y)
    assert average_precision_score(y != truth, wrong) > 0.9
    assert (found.posterior.argmax(axis=1) == truth).mean() > 0.9
    # A probability says what share is wrong.
    for low, high in ((0.0, 0.2), (0.2, 0.8), (0.8, 1.0)):
        among = (wrong >= low) & (wrong <= high)
        assert abs(wrong[among].mean() - (y != truth)[among].mean()) < 0.15


def test_noisy_labels_add_to_a_few_trusted_ones() -> None:
    rng = np.random.default_rng(6)
    x, truth = blobs(800, 2, rng, apart=1.4)
    y = noisy(truth, [[0.8, 0.2], [0.2, 0.8]], rng)
    clean, clean_y = blobs(12, 2, rng, apart=1.4)
    right = [(true_labels(x, y, clean, clean_y, 2, rounds=r).predicted.argmax(1) == truth).mean() for r in (0, 4)]
    assert right[1] > right[0] + 0.05


def test_clean_labels_are_left_alone() -> None:
    rng = np.random.default_rng(1)
    x, truth = blobs(400, 2, rng, apart=4)
    clean, clean_y = blobs(80, 2, rng, apart=4)
    found = true_labels(x, truth, clean, clean_y, 2)
    assert found.wrong(truth).mean() < 0.03
    assert (found.wrong(truth) > 0.5).mean() < 0.02


def test_prediction_does_not_see_the_examples_own_label() -> None:
    rng = np.random.default_rng(2)
    x, truth = blobs(60, 2, rng)
    clean, clean_y = blobs(40, 2, rng)
    first = true_labels(x, truth, clean, clean_y, 2, rounds=0)
    flipped = truth.copy()
    flipped[7] = 1 - flipped[7]
    second = true_labels(x, flipped, clean, clean_y, 2, rounds=0)
    np.testing.assert_array_equal(first.predicted, second.predicted)


def test_the_same_seed_gives_the_same() -> None:
    rng = np.random.default_rng(3)
    x, truth = blobs(80, 2, rng)
    clean, clean_y = blobs(40, 2, rng)
    found = [true_labels(x, truth, clean, clean_y, 2, seed=s).posterior for s in (0, 0)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_examples_and_missing_labels(n: int) -> None:
    rng = np.random.default_rng(4)
    x, _ = blobs(n, 2, rng)
    clean, clean_y = blobs(20, 2, rng)
    found = true_labels(x, np.zeros(n, dtype=np.int64), clean, clean_y, 3)
    assert found.posterior.shape == (n, 3)
    np.testing.assert_allclose(found.posterior.sum(axis=1), 1)


def test_bad_input() -> None:
    x, y = blobs(10, 2, np.random.default_rng(5))
    with pytest.raises(TraceError, match="one label only"):
        true_labels(x, y, x, np.zeros(10, dtype=np.int64), 2)
    with pytest.raises(TraceError, match="give one label a row"):
        true_labels(x, y[:-1], x, y, 2)


def test_less_than_no_round_is_refused() -> None:
    y = np.arange(20) % 2
    with pytest.raises(TraceError, match="rounds is -1"):
        true_labels(np.eye(20), y, np.eye(20), y, 2, rounds=-1)
