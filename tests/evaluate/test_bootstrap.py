from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score

from tracemend.errors import TracemendError
from tracemend.evaluate import METRICS, paired_bootstrap, recovered_share, scores
from tracemend.evaluate.bootstrap import _weighted


def pair(n: int, seed: int, before: float, after: float, labels: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(labels, size=n)
    noise = rng.normal(size=(n, labels))
    soft = [np.exp(noise + skill * np.eye(labels)[y]) for skill in (before, after)]
    return y, soft[0] / soft[0].sum(1, keepdims=True), soft[1] / soft[1].sum(1, keepdims=True)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("labels", [2, 3])
def test_weighted_figures_are_those_of_scikit_learn(metric: str, labels: int) -> None:
    y, p, _ = pair(60, 5, 1.0, 1.0, labels)
    p = p.round(1)  # ties
    weights = np.random.default_rng(0).integers(0, 4, size=(5, 60)).astype(float)
    found = _weighted(metric, y, p, 1, None)(weights)
    for w, value in zip(weights, found, strict=True):
        drawn = np.repeat(np.arange(60), w.astype(int))
        assert value == pytest.approx(scores(y[drawn], p[drawn] + 1e-15, 1)[metric])
    if metric == "ap" and labels == 2:
        assert found[0] == pytest.approx(average_precision_score(y, p[:, 1], sample_weight=weights[0]))
    if metric == "macro_f1":
        predicted = p.argmax(axis=1)
        assert found[0] == pytest.approx(f1_score(y, predicted, average="macro", sample_weight=weights[0]))


@pytest.mark.parametrize("metric", METRICS)
def test_a_real_gain_is_shown_and_its_interval_holds_the_difference(metric: str) -> None:
    y, before, after = pair(400, 1, 0.5, 2.0)
    found = paired_bootstrap(metric, y, before, after)
    assert found.shown and found.low > 0
    assert found.low < found.difference < found.high
    assert found.difference == pytest.approx(found.after - found.before)
    assert found.before == pytest.approx(scores(y, before, 1)[metric])
    assert found.n == 400


def test_a_loss_is_shown_as_a_loss() -> None:
    y, before, after = pair(400, 1, 2.0, 0.5)
    found = paired_bootstrap("ap", y, before, after)
    assert found.shown and found.high < 0


def test_the_same_classifier_twice_shows_nothing() -> None:
    y, before, _ = pair(100, 2, 1.0, 1.0)
    found = paired_bootstrap("ap", y, before, before)
    assert not found.shown
    assert (found.difference, found.low, found.high) == (0, 0, 0)


def test_coverage_under_no_difference_is_near_the_level() -> None:
    shown = 0
    for seed in range(100):
        y, before, _ = pair(120, seed, 1.0, 1.0)
        _, after, _ = pair(120, seed + 10_000, 1.0, 1.0)
        rng = np.random.default_rng(seed + 20_000)
        logits = np.exp(rng.normal(size=(120, 2)) + np.eye(2)[y])
        after = logits / logits.sum(1, keepdims=True)
        shown += paired_bootstrap("accuracy", y, before, after, n=300, seed=seed).shown
    assert shown <= 14


def test_groups_widen_the_interval_where_examples_repeat() -> None:
    y, before, after = pair(60, 3, 0.8, 1.2)
    y, before, after = np.tile(y, 8), np.tile(before, (8, 1)), np.tile(after, (8, 1))
    groups = [f"author {i % 60}" for i in range(480)]
    alone = paired_bootstrap("ap", y, before, after)
    together = paired_bootstrap("ap", y, before, after, groups=groups)
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_examples_without_a_group_stand_alone() -> None:
    y, before, after = pair(80, 3, 0.8, 1.2)
    alone = paired_bootstrap("accuracy", y, before, after)
    assert paired_bootstrap("accuracy", y, before, after, groups=[None] * 40 + [float("nan")] * 40) == alone


def test_thresholds_belong_to_each_side() -> None:
    y, before, _ = pair(200, 4, 1.0, 1.0)
    shifted = np.column_stack([1 - before[:, 1] / 2, before[:, 1] / 2])
    assert paired_bootstrap("accuracy", y, before, shifted).difference < 0
    assert paired_bootstrap("accuracy", y, before, shifted, thresholds=(0.5, 0.25)).difference == pytest.approx(0)


def test_seeded_and_fast() -> None:
    y, before, after = pair(1000, 6, 1.0, 1.1)
    start = time.perf_counter()
    first = paired_bootstrap("ap", y, before, after)
    assert time.perf_counter() - start < 5  # about 0.2 s alone; room for a busy machine
    assert first == paired_bootstrap("ap", y, before, after)
    assert first != paired_bootstrap("ap", y, before, after, seed=1)


def test_bad_input() -> None:
    y, p, _ = pair(10, 0, 1.0, 1.0)
    with pytest.raises(TracemendError, match="not one of: ap, accuracy, macro_f1; did you mean 'accuracy'"):
        paired_bootstrap("acuracy", y, p, p)
    with pytest.raises(TracemendError, match="give the same"):
        paired_bootstrap("ap", y, p, np.column_stack([p, p[:, 0]]))
    with pytest.raises(TracemendError, match="3 groups for 10 examples"):
        paired_bootstrap("ap", y, p, p, groups=["a", "b", "c"])


def test_share_is_the_ratio_of_sums() -> None:
    found = recovered_share([0.9, 0.9, 0.9], [0.7, 0.8, 0.72], [0.85, 0.85, 0.86])
    assert found.share == pytest.approx((0.15 + 0.05 + 0.14) / (0.2 + 0.1 + 0.18))
    assert found.low <= found.share <= found.high
    assert found.reason is None and found.seeds == 3


def test_share_below_zero_and_above_one_are_kept() -> None:
    clean, corrupted = np.array([0.9, 0.91, 0.92]), np.array([0.7, 0.7, 0.71])
    assert recovered_share(clean, corrupted, corrupted - 0.05).share < 0
    assert recovered_share(clean, corrupted, clean + 0.02).share > 1


def test_share_is_not_claimed_within_seed_noise() -> None:
    found = recovered_share([0.80, 0.74, 0.78], [0.79, 0.76, 0.75], [0.80, 0.76, 0.78])
    assert np.isnan(found.share) and np.isnan(found.low)
    assert found.reason is not None and "within seed noise" in found.reason
    assert found.gap_low < 0 < found.gap_high


def test_one_seed_has_a_share_but_no_interval() -> None:
    found = recovered_share([0.9], [0.7], [0.8])
    assert found.share == pytest.approx(0.5) and np.isnan(found.low)
    assert found.reason is not None and "one seed" in found.reason
    assert np.isnan(recovered_share([0.7], [0.7], [0.8]).share)


def test_share_needs_paired_seeds() -> None:
    with pytest.raises(TracemendError, match="one figure a seed"):
        recovered_share([0.9, 0.9], [0.7], [0.8])
