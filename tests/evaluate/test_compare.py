from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.errors import TracemendError
from tracemend.evaluate import holm, paired_difference

FIGURES = st.lists(st.floats(0, 1, allow_nan=False), min_size=2, max_size=12)
P = st.lists(st.floats(0, 1, allow_nan=False), min_size=1, max_size=12)


def by_hand(p: list[float]) -> list[float]:
    """Holm's rule as the paper states it: reject in ascending order while p <= alpha / (hypotheses left)."""
    adjusted = []
    for mine in range(len(p)):
        # The smallest level at which the step-down test rejects this one: every one up to it must pass.
        order = sorted(range(len(p)), key=lambda i: (p[i], i))
        upto = order[: order.index(mine) + 1]
        adjusted.append(min(1.0, max(p[i] * (len(p) - k) for k, i in enumerate(upto))))
    return adjusted


@given(P)
def test_holm_agrees_with_the_step_down_rule(p):
    np.testing.assert_allclose(holm(p), by_hand(p))


@given(P)
def test_holm_never_lowers_a_p_and_keeps_the_order(p):
    found = holm(p)
    assert (found >= np.array(p) - 1e-15).all()
    assert (found <= np.minimum(1, np.array(p) * len(p)) + 1e-15).all()  # never worse than Bonferroni
    order = np.argsort(p, kind="stable")
    assert (np.diff(found[order]) >= 0).all()


def test_holm_by_a_worked_example():
    np.testing.assert_allclose(holm([0.01, 0.02, 0.03, 0.005]), [0.03, 0.04, 0.04, 0.02])


def test_holm_leaves_out_what_was_not_tested():
    found = holm([0.01, float("nan"), 0.04])
    np.testing.assert_allclose(found, [0.02, np.nan, 0.04])
    assert not len(holm([]))


@pytest.mark.parametrize("p", [[-0.1], [1.1], [[0.5]]])
def test_holm_refuses_what_is_no_p_value(p):
    with pytest.raises(TracemendError, match="numbers from 0 to 1"):
        holm(p)


@given(FIGURES, st.sampled_from(["clusters", "within"]), st.booleans())
@settings(max_examples=30)
def test_identical_arms_differ_by_nothing(figures, spread, clustered):
    clusters = [i % 3 for i in range(len(figures))] if clustered else None
    found = paired_difference(figures, figures, clusters=clusters, spread=spread)
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert not found.shown


@given(FIGURES, st.randoms(use_true_random=False), st.sampled_from(["clusters", "within"]))
@settings(max_examples=30)
def test_the_order_of_the_runs_does_not_matter(figures, random, spread):
    rng = np.random.default_rng(0)
    rows = [(a, a - b, f"set-{i % 3}") for i, (a, b) in enumerate(zip(figures, rng.random(len(figures)), strict=True))]

    def of(rows):
        first, second, clusters = zip(*rows, strict=True)
        return paired_difference(first, second, clusters=clusters, spread=spread)

    shuffled = list(rows)
    random.shuffle(shuffled)
    before, after = of(rows), of(shuffled)
    assert before.difference == pytest.approx(after.difference)
    assert (before.low, before.high, before.p) == pytest.approx((after.low, after.high, after.p), nan_ok=True)


@given(FIGURES, FIGURES)
@settings(max_examples=30)
def test_swapping_the_arms_turns_the_sign(first, second):
    size = min(len(first), len(second))
    there = paired_difference(first[:size], second[:size])
    back = paired_difference(second[:size], first[:size])
    assert there.difference == pytest.approx(-back.difference)
    assert (there.low <= there.difference + 1e-9 and there.high >= there.difference - 1e-9) or there.runs < 4


def test_interval_and_p_agree():
    rng = np.random.default_rng(1)
    for shift in (0.0, 0.02, 0.05, 0.2):
        second = rng.random(20)
        found = paired_difference(second + shift + rng.normal(0, 0.05, 20), second)
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_the_interval_covers_as_often_as_it_says():
    # 400 experiments of 20 runs.
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(400):
        gaps = rng.normal(0.1, 1, 20)
        found = paired_difference(gaps, np.zeros(20))
        covered.append(found.low <= 0.1 <= found.high)
    assert 0.88 <= np.mean(covered) <= 0.98


def test_runs_that_stand_alone_have_students_t():
    from scipy import stats

    one, other = np.array([0.81, 0.84, 0.80, 0.79]), np.array([0.70, 0.71, 0.72, 0.74])
    told = stats.ttest_rel(one, other)
    for clusters in (None, ["a"] * 4):
        found = paired_difference(one, other, clusters=clusters)
        assert found.p == pytest.approx(told.pvalue)
        assert (found.low, found.high) == pytest.approx(tuple(told.confidence_interval()))


def test_three_small_differences_of_one_sign_show_nothing():
    found = paired_difference([0.701, 0.702, 0.709], [0.7, 0.7, 0.7])
    assert found.low < 0 < found.high and found.p > 0.05 and not found.shown


@pytest.mark.parametrize(("runs", "shown"), [(3, False), (5, False), (6, True)])
def test_equal_differences_are_told_by_their_signs(runs, shown):
    found = paired_difference([0.75] * runs, [0.5] * runs)
    assert found.p == 2.0 ** (1 - runs) and found.shown == shown
    assert (found.low, found.high) == ((0.25, 0.25) if shown else (-np.inf, np.inf))


def test_several_clusters_have_students_t_over_their_means():
    from scipy import stats

    gaps = np.array([0.04, 0.06, 0.02, 0.01, 0.03, 0.02, 0.09, 0.07])
    clusters = ["a", "a", "a", "b", "b", "c", "d", "d"]
    told = stats.ttest_1samp([0.04, 0.02, 0.02, 0.08], 0.0)
    found = paired_difference(gaps, np.zeros(8), clusters=clusters)
    assert found.difference == pytest.approx(0.04) and (found.runs, found.clusters) == (8, 4)
    assert found.p == pytest.approx(told.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(told.confidence_interval()))


def test_within_two_clusters_it_is_welchs_test():
    # Mean of the clusters' means = half the difference of one cluster and the other turned about.
    from scipy import stats

    one, other = np.array([0.2, 0.25, 0.21, 0.28]), np.array([0.1, 0.0, 0.05])
    told = stats.ttest_ind(one, -other, equal_var=False)
    gaps, clusters = np.concatenate([one, other]), ["a"] * 4 + ["b"] * 3
    found = paired_difference(gaps, np.zeros(7), clusters=clusters, spread="within")
    assert found.p == pytest.approx(told.pvalue)
    assert (2 * found.low, 2 * found.high) == pytest.approx(tuple(told.confidence_interval()))


def test_every_cluster_counts_alike_and_further_clusters_are_less_certain():
    gaps = np.array([1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 0.1, -0.1])
    clusters = ["a"] * 6 + ["b"] * 2
    within = paired_difference(gaps, np.zeros(8), clusters=clusters, spread="within")
    further = paired_difference(gaps, np.zeros(8), clusters=clusters)
    assert within.difference == pytest.approx(0.5) == further.difference
    assert further.low < within.low < within.high < further.high
    assert further.clusters == 2 and further.runs == 8 and not further.shown


@pytest.mark.parametrize("gaps", [[0.1, 0.2, 0.3], [0.1, 0.1, 0.3, 0.3]], ids=["one run of b", "no spread"])
def test_within_clusters_nothing_is_claimed_where_nothing_tells_the_spread(gaps):
    found = paired_difference(gaps, np.zeros(len(gaps)), clusters=["a", "a", "b", "b"][: len(gaps)], spread="within")
    assert np.isnan([found.low, found.high, found.p]).all() and not found.shown


@pytest.mark.parametrize(
    ("spread", "draws", "between", "within"),
    [("clusters", 4, 0.03, 0.02), ("clusters", 1, 0.03, 0.02), ("clusters", 4, 0.0, 0.02), ("within", 3, 0.0, 0.02)],
)
def test_four_sets_that_differ_by_chance_are_rarely_called_different(spread, draws, between, within):
    # A bootstrap of four sets says p < 0.05 of 17 to 20 % of these.
    rng = np.random.default_rng(1)
    clusters = np.repeat(np.arange(4), draws).tolist()
    found = []
    for _ in range(600):
        gaps = rng.normal(0, between, 4)[:, None] + rng.normal(0, within, (4, draws))
        found.append(paired_difference(gaps.ravel(), np.zeros(gaps.size), clusters=clusters, spread=spread))
    assert 0.02 <= np.mean([one.p < 0.05 for one in found]) <= 0.07
    assert 0.005 <= np.mean([one.shown for one in found]) <= 0.045


def test_one_run_has_no_interval():
    found = paired_difference([0.5], [0.4])
    assert found.difference == pytest.approx(0.1)
    assert np.isnan([found.low, found.high, found.p]).all() and not found.shown


@pytest.mark.parametrize(
    ("first", "second", "clusters", "said"),
    [
        ([0.1, 0.2], [0.1], None, "one figure a run"),
        ([], [], None, "one figure a run"),
        ([0.1, float("nan")], [0.1, 0.1], None, "not finite"),
        ([0.1, 0.2], [0.1, 0.1], ["a"], "1 clusters for 2 runs"),
    ],
)
def test_bad_input(first, second, clusters, said):
    with pytest.raises(TracemendError, match=said):
        paired_difference(first, second, clusters=clusters)


def test_spread_is_one_of_two():
    with pytest.raises(TracemendError, match="not one of: clusters, within; did you mean 'clusters'"):
        paired_difference([0.1, 0.2], [0.1, 0.1], spread="cluster")
