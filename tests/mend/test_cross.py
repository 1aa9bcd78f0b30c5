"""Cross-scoring: no label speaks for itself, a wrong validation set is seen through, trolls give themselves away."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.errors import TraceError
from tracemend.evaluate import detection
from tracemend.mend.cross import by_group, cross_posterior, shifted, soft_logistic
from tracemend.mend.decide import suggest


def blobs(n: int = 300, labels: int = 2, seed: int = 0, spread: float = 0.8) -> tuple[Any, Any]:
    """Features around a centre for each label, which overlap."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % labels
    return np.eye(labels, 8)[truth] * 2 + rng.normal(scale=spread, size=(n, 8)), truth


def flipped(truth: Any, rate: float, labels: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    wrong = np.zeros(len(truth), dtype=bool)
    wrong[rng.choice(len(truth), round(rate * len(truth)), replace=False)] = True
    return np.where(wrong, (truth + rng.integers(1, labels, len(truth))) % labels, truth), wrong


@pytest.mark.parametrize("labels", [2, 5])
def test_it_finds_the_wrong_labels_and_how_many_there_are(labels: int) -> None:
    x, truth = blobs(400, labels)
    y, wrong = flipped(truth, 0.25, labels)
    found = cross_posterior(x, y, labels)
    assert detection(found.wrong, wrong).ap > 0.85
    assert found.wrong.mean() == pytest.approx(0.25, abs=0.05)
    np.testing.assert_allclose(found.posterior.sum(axis=1), 1.0)
    np.testing.assert_allclose(found.wrong, 1 - found.posterior[np.arange(len(y)), y])
    assert (suggest(found.posterior, y) == truth)[wrong].mean() > 0.75
    assert (found.wrong > 0.5)[wrong].mean() > 0.5 > 0.05 > (found.wrong > 0.5)[~wrong].mean()
    control = detection(np.random.default_rng(1).random(len(y)), wrong).ap
    assert control < 0.4


def test_a_part_whose_labels_are_all_wrong_is_seen_through() -> None:
    """Every validation label wrong: judged by the training labels they are denied, and the training labels stand."""
    x, truth = blobs(300)
    y = truth.copy()
    y[250:] = 1 - truth[250:]
    found = cross_posterior(x, y, 2)
    assert (found.wrong[250:] > 0.5).mean() > 0.7
    assert (found.wrong[:250] < 0.5).mean() > 0.9


def test_no_example_judges_itself() -> None:
    """What a fit is given never holds the examples it judges."""
    x, truth = blobs(60)
    x[:, -1] = np.arange(60)  # names each row
    seen: list[Any] = []

    def fit(features: Any, shares: Any, judged: Any) -> Any:
        assert not set(features[:, -1]) & set(judged[:, -1])
        seen.extend(judged[:, -1])
        return soft_logistic(features[:, :-1], shares, judged[:, :-1])

    cross_posterior(x, truth, 2, steps=1, fit=fit)
    assert sorted(seen) == sorted([*range(60), *range(60)])


def test_folds_keep_an_author_together() -> None:
    x, truth = blobs(60)
    x[:, -1] = np.arange(60) // 6

    def fit(features: Any, shares: Any, judged: Any) -> Any:
        assert not set(features[:, -1]) & set(judged[:, -1])
        return soft_logistic(features[:, :-1], shares, judged[:, :-1])

    cross_posterior(x, truth, 2, groups=(np.arange(60) // 6).tolist(), fit=fit, steps=0)
    # One author of all is judged all the same, if by the own labels.
    assert (cross_posterior(x, truth, 2, groups=["me"] * 60, steps=0).wrong < 0.5).mean() > 0.8


@pytest.mark.slow
def test_trolls_give_themselves_away() -> None:
    """Half the authors flip four of five labels, in every part: the author tells more than the example alone."""
    gains = []
    for seed in range(5):
        x, truth = blobs(400, seed=seed, spread=1.4)
        rng = np.random.default_rng(seed)
        author = np.repeat(np.arange(40), 10)
        wrong = (rng.permutation(40) < 20)[author] & (rng.random(400) < 0.75)
        y = np.where(wrong, 1 - truth, truth)
        alone = cross_posterior(x, y, 2, seed=seed)
        together = cross_posterior(x, y, 2, groups=author.tolist(), seed=seed)
        gains.append(detection(together.wrong, wrong).ap - detection(alone.wrong, wrong).ap)
        assert math.isfinite(together.strength)
    assert np.mean(gains) > 0.05


def test_groups_of_one_fall_back_to_the_example() -> None:
    wrong = np.random.default_rng(0).random(30)
    alone, strength = by_group(wrong, list(range(30)))
    np.testing.assert_array_equal(alone, wrong)
    assert math.isinf(strength)
    # One member beside larger groups, too, and an example without a group.
    groups: list[Any] = [*["a"] * 10, *["b"] * 10, *["c"] * 8, "one", None]
    found, _ = by_group(np.r_[np.full(10, 0.9), np.full(18, 0.1), 0.7, 0.7], groups, strength=2.0)
    np.testing.assert_array_equal(found[-2:], [0.7, 0.7])
    assert (found[:10] > 0.9).all() and (found[10:28] < 0.1).all()


def test_groups_that_differ_by_chance_alone_shift_nothing() -> None:
    calm = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        wrong = np.where(rng.random(200) < 0.3, 0.9, 0.1)
        found, strength = by_group(wrong, (np.arange(200) // 10).tolist())
        calm += math.isinf(strength)
        if math.isinf(strength):
            np.testing.assert_array_equal(found, wrong)
    assert calm >= 16


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 30), st.integers(1, 6), st.integers(0, 10_000))
def test_groups_in_another_order_give_the_same(n: int, several: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    wrong, groups = rng.random(n), rng.integers(0, several, n)
    found, strength = by_group(wrong, groups.tolist())
    turn = rng.permutation(n)
    again, other = by_group(wrong[turn], groups[turn].tolist())
    assert other == pytest.approx(strength)
    np.testing.assert_allclose(again, found[turn])
    assert ((found >= 0) & (found <= 1)).all()


def test_two_of_a_group_by_hand() -> None:
    """Against the moments of the Beta distribution; the third example gives the mean its value."""
    p, s = np.array([0.8, 0.4, 0.3]), 3.0
    found, _ = by_group(p, ["a", "a", "b"], strength=s)
    e = p.mean()
    one, two = (p / (1 - p) * (1 - e) / e)[:2]
    a, b = s * e, s * (1 - e)
    both, first, second, none = a * (a + 1) * one * two, a * b * one, a * b * two, b * (b + 1)
    total = both + first + second + none
    np.testing.assert_allclose(found, [(both + first) / total, (both + second) / total, 0.3], atol=1e-3)


def test_a_shift_keeps_the_proportions_of_the_others() -> None:
    found = shifted([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0]], [0, 0], [0.8, 0.4])
    np.testing.assert_allclose(found, [[0.2, 0.48, 0.32], [0.6, 0.2, 0.2]])


def test_the_same_data_give_the_same_posterior() -> None:
    x, truth = blobs(80)
    y, _ = flipped(truth, 0.2, 2)
    one, other = (cross_posterior(x, y, 2, seed=3).posterior for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_bad_input() -> None:
    x, truth = blobs(20)
    with pytest.raises(TraceError, match="expected"):
        cross_posterior(x, truth[:5], 2)
    with pytest.raises(TraceError, match="n groups"):
        cross_posterior(x, truth, 2, groups=["a"])
    with pytest.raises(TraceError, match="one example"):
        cross_posterior(x, np.r_[2, truth[1:]], 3)
    with pytest.raises(TraceError, match="above 0"):
        by_group([0.5], ["a"], strength=0)
    with pytest.raises(TraceError, match="one an example"):
        by_group([0.5], ["a", "b"])
