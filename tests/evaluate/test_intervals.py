from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tracemend.errors import TracemendError
from tracemend.evaluate import gap_interval, mean_interval


def test_it_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = mean_interval(rng.normal(0.3, 1, size=80), seed=trial, n=400)
        covered += int(low <= 0.3 <= high)
    assert 180 <= covered <= 199


def test_groups_that_agree_widen_it():
    values = np.repeat(np.arange(20) % 2, 50)
    alone_low, alone_high = mean_interval(values)
    low, high = mean_interval(values, groups=np.repeat(np.arange(20), 50).tolist())
    assert high - low > 4 * (alone_high - alone_low)


def test_rows_share_their_resamples():
    rng = np.random.default_rng(1)
    first = rng.random(100)
    rows = np.stack([first, first + 0.25])
    low, _ = mean_interval(rows)
    np.testing.assert_allclose(low[1] - low[0], 0.25)
    np.testing.assert_allclose(mean_interval(rows[1] - rows[0]), (0.25, 0.25))


def test_what_does_not_fit_is_refused():
    with pytest.raises(TracemendError, match="no examples"):
        mean_interval([])
    with pytest.raises(TracemendError, match="2 groups for 3"):
        mean_interval([1, 2, 3], groups=["a", "b"])


def test_a_gap_counts_the_uncertainty_of_both_means():
    rng = np.random.default_rng(0)
    one, other = rng.normal(0.3, 1, 400), rng.normal(0, 1, 9)
    low, high = gap_interval(one, other)
    own_low, own_high = mean_interval(one)
    # The mean of one alone is shown to be above the other's; their gap is not.
    assert own_low > other.mean() and high - low > 3 * (own_high - own_low)
    covered = 0
    for trial in range(200):
        low, high = gap_interval(rng.normal(1, 1, 40), rng.normal(0, 2, 60), n=400, seed=trial)
        covered += int(low <= 1 <= high)
    assert 178 <= covered <= 199


def test_a_gap_needs_examples_on_both_sides():
    with pytest.raises(TracemendError, match="no examples"):
        gap_interval([1.0], [])


@pytest.mark.parametrize("groups", [2, 4, 10])
def test_few_groups_cover_as_often_as_they_say(groups: int) -> None:
    rng = np.random.default_rng(0)
    of = np.repeat(np.arange(groups), 20).tolist()
    values = rng.normal(size=(400, 20 * groups)) + np.repeat(rng.normal(size=(400, groups)), 20, axis=1)
    low, high = mean_interval(values, of)
    assert 0.92 < ((low < 0) & (high > 0)).mean() < 0.98


def ends(values: list[float], groups: list[Any] | None = None) -> list[float]:
    return [float(end) for end in mean_interval(values, groups)]


def test_what_few_groups_cannot_tell_is_anything_that_it_may_be() -> None:
    assert ends([1.0] * 9, ["one"] * 9) == [0, 1]
    assert ends([1.0, 1.0, 1.0]) == [0, 1]
    assert ends([-0.5] * 4, [0, 0, 1, 1]) == [-1, 1]
    assert ends([2.0] * 4, [0, 0, 1, 1]) == [-np.inf, np.inf]
    assert ends([1.0] * 6) == [1, 1] and ends([0.0] * 3) == [0, 0]


def test_examples_without_a_group_stand_alone() -> None:
    values = np.random.default_rng(1).normal(size=80).tolist()
    assert ends(values, [None] * 40 + [float("nan")] * 40) == ends(values)
