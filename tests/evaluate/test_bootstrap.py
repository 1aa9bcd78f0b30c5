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


def test_the_ends_of_the_share_are_where_a_paired_t_test_turns() -> None:
    from scipy import stats

    clean, corrupted = np.array([0.90, 0.93, 0.91, 0.95]), np.array([0.70, 0.78, 0.74, 0.72])
    repaired = np.array([0.86, 0.87, 0.88, 0.84])
    found = recovered_share(clean, corrupted, repaired)
    for end in (found.low, found.high):
        left = (repaired - corrupted) - end * (clean - corrupted)
        assert stats.ttest_1samp(left, 0.0).pvalue == pytest.approx(0.05)
    assert found.low < found.share < found.high
    np.testing.assert_allclose(
        (found.gap_low, found.gap_high), stats.ttest_1samp(clean - corrupted, 0.0).confidence_interval()
    )


def test_the_interval_of_few_seeds_covers_as_often_as_it_says() -> None:
    # The percentile bootstrap of five seeds covered 85 %.
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(600):
        gap, noise = rng.normal(0.15, 0.03, 5), rng.normal(0, 0.03, 5)
        found = recovered_share(0.7 + gap, np.full(5, 0.7), 0.7 + 0.6 * gap + noise)
        covered.append(found.low <= 0.6 <= found.high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_seeds_of_several_sets_are_averaged_within_them_first() -> None:
    clean, corrupted = np.array([0.9, 0.92, 0.94, 0.8, 0.85]), np.array([0.7, 0.71, 0.72, 0.65, 0.6])
    repaired, sets = np.array([0.85, 0.87, 0.86, 0.75, 0.8]), ["a", "a", "a", "b", "c"]
    found = recovered_share(clean, corrupted, repaired, clusters=sets)
    means = [np.array([part[:3].mean(), part[3], part[4]]) for part in (clean, corrupted, repaired)]
    by_means = recovered_share(*means)
    assert (found.share, found.low, found.high) == pytest.approx((by_means.share, by_means.low, by_means.high))
    assert (found.seeds, found.sets) == (5, 3)
    one = recovered_share(clean, corrupted, repaired, clusters=["a"] * 5)
    assert one == recovered_share(clean, corrupted, repaired) and one.sets == 1
    with pytest.raises(TracemendError, match="2 groups for 5 seeds"):
        recovered_share(clean, corrupted, repaired, clusters=["a", "b"])


def test_a_gap_within_the_noise_of_sets_says_so() -> None:
    found = recovered_share([0.9, 0.9, 0.8, 0.8], [0.7, 0.7, 0.79, 0.79], [0.8] * 4, clusters=["a", "a", "b", "b"])
    assert np.isnan(found.share) and found.reason is not None and "over 2 sets" in found.reason


def test_one_seed_has_a_share_but_no_interval() -> None:
    found = recovered_share([0.9], [0.7], [0.8])
    assert found.share == pytest.approx(0.5) and np.isnan(found.low)
    assert found.reason is not None and "one seed" in found.reason
    assert np.isnan(recovered_share([0.7], [0.7], [0.8]).share)


def test_share_needs_paired_seeds() -> None:
    with pytest.raises(TracemendError, match="one figure a seed"):
        recovered_share([0.9, 0.9], [0.7], [0.8])


@pytest.mark.parametrize("authors", [1, 2, 3, 8])
def test_few_authors_show_no_difference_where_there_is_none(authors: int) -> None:
    """The percentile bootstrap shows one in 45, 27 and 10 % of cases with two, three and eight groups."""
    shown = 0
    for seed in range(150):
        y, before, _ = pair(120, seed, 1.0, 1.0)
        rng = np.random.default_rng([seed, 1])
        logits = np.exp(rng.normal(size=(120, 2)) + np.eye(2)[y])
        groups = [f"author {g}" for g in rng.integers(authors, size=120)]
        after = logits / logits.sum(1, keepdims=True)
        shown += paired_bootstrap("ap", y, before, after, groups=groups, n=200, seed=seed).shown
    assert shown <= 14


def test_of_one_author_nothing_is_shown_and_of_eight_a_real_gain_is() -> None:
    y, before, after = pair(400, 0, 0.5, 3.0)
    one = paired_bootstrap("ap", y, before, after, groups=["Ada"] * 400)
    assert (one.low, one.high, one.shown) == (-1, 1, False) and one.difference > 0.1
    eight = paired_bootstrap("ap", y, before, after, groups=[f"author {i % 8}" for i in range(400)])
    assert eight.shown and eight.low < eight.difference < eight.high


def test_an_author_of_half_the_examples_makes_few_of_many() -> None:
    y, before, after = pair(400, 0, 1.0, 1.3)
    half = [*["Ada"] * 200, *[None] * 200]
    many = paired_bootstrap("accuracy", y, before, after)
    few = paired_bootstrap("accuracy", y, before, after, groups=half)
    assert few.high - few.low > 1.1 * (many.high - many.low)


def test_a_rare_label_that_a_resample_lacks_leaves_the_mean_of_the_others() -> None:
    y, before, _ = pair(90, 2, 0.5, 1.5, labels=3)
    y = np.where(y == 2, 1, y)
    y[0] = 2
    figure = _weighted("ap", y, before, 0, None)
    weights = np.ones((2, 90))
    weights[1, 0] = 0
    assert np.isfinite(figure(weights)).all()
    held = [average_precision_score(y[1:] == c, before[1:, c]) for c in (0, 1)]
    assert figure(weights)[1] == pytest.approx(np.mean(held))
