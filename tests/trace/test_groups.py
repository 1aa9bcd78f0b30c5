"""What a group tells of its members: by hand, at the ends, and what must hold for any."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.data.schema import members
from tracemend.errors import TraceError
from tracemend.trace.groups import by_group, shifted


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


def test_who_has_no_group_stands_alone() -> None:
    assert members(["a", None, "a", None, float("nan")]).tolist() == [0, 1, 0, 2, 3]


def test_bad_input() -> None:
    with pytest.raises(TraceError, match="above 0"):
        by_group([0.5], ["a"], strength=0)
    with pytest.raises(TraceError, match="one an example"):
        by_group([0.5], ["a", "b"])
