"""Trusted examples are judged without their own help, directly or by way of the others."""

from __future__ import annotations

import numpy as np
import pytest

from tracemend.trace.apart import judged_apart
from tracemend.trace.em import settled, true_labels
from tracemend.trace.pool import Judged, pooled


def noise(n: int, labels: int, rng: np.random.Generator, width: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors that say nothing of their label."""
    x = rng.normal(size=(n, width))
    return x / np.linalg.norm(x, axis=1, keepdims=True), rng.integers(labels, size=n)


@pytest.mark.parametrize("shares", [(0.8, 0.2), (0.9, 0.1), (0.7, 0.2, 0.1)])
def test_rare_labels_are_not_denied_where_features_say_nothing(shares: tuple[float, ...]) -> None:
    """What is toned down ends in how often a label is true: even odds would deny the rare ones."""
    labels, rng = len(shares), np.random.default_rng(0)
    (x, _), (clean, _) = noise(300, labels, rng), noise(150, labels, rng)
    y, clean_y = (rng.choice(labels, size=n, p=shares) for n in (300, 150))
    found = true_labels(x, y, clean, clean_y, labels)
    apart = judged_apart(x, y, clean, clean_y, labels)
    both, _ = pooled([Judged(found.predicted, apart.trusted)], clean_y)
    believed, _ = settled(both.train, y)
    assert (believed.argmax(axis=1) != y).mean() <= 0.02
    assert 1 - believed[np.arange(300), y].mean() < 0.15


@pytest.mark.parametrize("labels", [2, 4])
def test_where_features_say_nothing_nothing_is_touched(labels: int) -> None:
    rng = np.random.default_rng(labels)
    (x, y), (clean, clean_y) = noise(300, labels, rng), noise(200, labels, rng)
    found = true_labels(x, y, clean, clean_y, labels)
    apart = judged_apart(x, y, clean, clean_y, labels)
    assert (apart.trusted.argmax(axis=1) == clean_y).mean() < 1 / labels + 0.1
    both, _ = pooled([Judged(found.predicted, apart.trusted)], clean_y)
    believed, _ = settled(both.train, y)
    assert (believed.argmax(axis=1) != y).mean() <= 0.02
    # As it is without the pool: this is what the folds are for.
    assert (found.posterior.argmax(axis=1) != y).mean() > 0.1


def test_labels_of_a_fold_change_nothing_that_is_said_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    (x, y), (clean, clean_y) = noise(80, 2, rng), noise(40, 2, rng)
    parts = [(np.arange(20, 40), np.arange(20)), (np.arange(20), np.arange(20, 40))]
    monkeypatch.setattr("tracemend.trace.apart.folds_of", lambda *_: parts)
    first = judged_apart(x, y, clean, clean_y, 2)
    turned = np.where(np.arange(40) < 20, 1 - clean_y, clean_y)
    second = judged_apart(x, y, clean, turned, 2)
    np.testing.assert_allclose(second.trusted[:20], first.trusted[:20])
    np.testing.assert_allclose(second.believed[0], first.believed[0])
    assert not np.allclose(second.trusted[20:], first.trusted[20:])


def test_one_example_of_a_label_does() -> None:
    rng = np.random.default_rng(0)
    (x, y), (clean, clean_y) = noise(40, 2, rng), noise(10, 2, rng)
    clean_y[:] = 0
    clean_y[3] = 1
    found = judged_apart(x, y, clean, clean_y, 2)
    np.testing.assert_allclose(found.trusted.sum(axis=1), 1)
    assert any(np.array_equal(of, np.eye(2)[y]) for of in found.believed)


def test_trusted_examples_are_not_vouched_for_by_their_group() -> None:
    """Texts of a group are alike, and their label says nothing of other groups: only a fold with mates knows it."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    centre, label = rng.normal(size=(40, 30)), rng.integers(2, size=40)
    x = centre[groups] + 0.01 * rng.normal(size=(200, 30))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = label[groups]
    other, other_y = rng.normal(size=(50, 30)) / 5, rng.integers(2, size=50)

    def right(of: list[int] | None) -> float:
        found = judged_apart(other, other_y, x, y, 2, groups=of)
        return float((found.trusted.argmax(axis=1) == y).mean())

    assert right(None) > 0.9 and right(groups.tolist()) < 0.75
