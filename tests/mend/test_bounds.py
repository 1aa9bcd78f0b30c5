"""How many may be acted on: false discoveries, and the noise there is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.errors import TraceError
from tracemend.mend.bounds import NoiseRate, fdr_prefix, noise_rate, refuse_noise, refuse_one_label

probabilities = st.lists(st.floats(0, 1), max_size=40)


@settings(max_examples=100, deadline=None)
@given(probabilities, st.floats(0, 1), st.floats(0, 1))
def test_the_prefix_grows_with_the_rate_and_is_the_longest(wrong: list[float], one: float, other: float) -> None:
    p = np.array(wrong)
    low, high = (fdr_prefix(p, fdr) for fdr in sorted((one, other)))
    assert low.tolist() == high[: len(low)].tolist()
    assert (np.diff(p[high]) <= 0).all()
    order = fdr_prefix(p, None)
    fdr = max(one, other)
    if len(high):
        assert (1 - p[high]).mean() <= fdr + 1e-9
    if len(high) < len(p):
        assert (1 - p[order[: len(high) + 1]]).mean() > fdr - 1e-9


def test_the_prefix_by_hand() -> None:
    assert fdr_prefix([0.9, 0.9, 0.7, 0.2], 0.1).tolist() == [0, 1]
    assert fdr_prefix([0.9, 0.9, 0.7, 0.2], 0.17).tolist() == [0, 1, 2]
    assert fdr_prefix([0.9, 0.9, 0.7, 0.2], 1.0).tolist() == [0, 1, 2, 3]
    assert fdr_prefix([0.9], 0.0).tolist() == [] and fdr_prefix([1.0], 0.0).tolist() == [0]
    assert fdr_prefix([], 0.1).tolist() == []
    with pytest.raises(TraceError, match="from 0 to 1"):
        fdr_prefix([0.5], 1.5)
    with pytest.raises(TraceError, match="probabilities"):
        fdr_prefix([1.5], 0.1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=30), st.floats(0, 1), st.integers(1, 10))
def test_round_by_round_the_prefix_is_that_of_one_round(wrong: list[float], fdr: float, budget: int) -> None:
    """What an earlier round left of the bound is there for the later ones."""
    left, acted = sorted(wrong, reverse=True), list[float]()
    for _ in range(len(wrong) + 1):
        now = fdr_prefix(left, fdr, acted)[:budget]
        acted += [left[i] for i in now]
        left = left[len(now) :]
    assert acted == sorted(wrong, reverse=True)[: len(fdr_prefix(wrong, fdr))]


def test_with_calibrated_probabilities_the_bound_holds() -> None:
    rng = np.random.default_rng(0)
    p = rng.beta(0.4, 0.8, 20_000)
    wrong = rng.random(len(p)) < p
    for fdr in (0.05, 0.1, 0.2):
        chosen = fdr_prefix(p, fdr)
        assert len(chosen) > 100
        assert 1 - wrong[chosen].mean() == pytest.approx(fdr, abs=0.02)


def of(rate: float, **changes: Any) -> NoiseRate:
    return NoiseRate(**{"rate": rate, "low": rate - 0.1, "high": rate + 0.1, "joint": rate, "n": 100, **changes})


def test_the_interval_covers_and_narrows() -> None:
    rng = np.random.default_rng(1)
    widths = []
    for n in (100, 1600):
        hits, width = 0, 0.0
        for seed in range(20):
            wrong = rng.beta(0.3, 0.7, n)
            y = rng.integers(0, 2, n)
            found = noise_rate(wrong, y, np.eye(2)[y] * 0.8 + 0.1, resamples=200, seed=seed)
            hits += found.low <= 0.3 <= found.high
            assert found.rate == pytest.approx(wrong.mean()) and found.joint == 0.0 and found.n == n
            width = found.high - found.low
        assert hits >= 16
        widths.append(width)
    assert widths[1] < 0.4 * widths[0]


def test_labels_of_one_author_are_wrong_together() -> None:
    wrong, y = np.repeat([0.9, 0.1, 0.1, 0.1], 25), np.tile([0, 1], 50)
    p = np.full((100, 2), 0.5)
    alone = noise_rate(wrong, y, p)
    grouped = noise_rate(wrong, y, p, groups=np.repeat(list("abcd"), 25).tolist())
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_the_most_is_the_upper_end_and_never_more_than_there_are() -> None:
    assert of(0.2).most == 30
    assert of(0.95, high=1.2).most == 100
    assert of(0.0, low=0.0, high=0.0).most == 0
    assert NoiseRate.of(of(0.2).facts) == of(0.2)
    assert "20.0% " in of(0.2).sentence and "at most 30 of 100" in of(0.2).sentence
    given = of(0.2).sentence_given(1.0, 100)
    assert "20.0% " in given and "100.0%, holds" in given and "at most 100 of 100" in given


def test_noise_above_one_half_is_refused_with_a_remedy() -> None:
    refuse_noise(of(0.5), trusted=True)
    with pytest.raises(TraceError, match=r"61% of 100 .*carry no signal.*--validation noisy"):
        refuse_noise(of(0.61), trusted=True)
    with pytest.raises(TraceError, match=r"carry no signal.*Check that the label column"):
        refuse_noise(of(0.61), trusted=False)


def test_one_label_left_is_refused() -> None:
    refuse_one_label([1, 0, 3], ["a", "b", "c"], "this")
    with pytest.raises(TraceError, match=r"this would leave 'c' alone of 3 labels.*lower --fdr"):
        refuse_one_label([0, 0, 3], ["a", "b", "c"], "this")
    with pytest.raises(TraceError, match="no label"):
        refuse_one_label([0, 0], ["a", "b"], "this")


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(TraceError, match="one for each of 2"):
        noise_rate([0.5], [0, 1], [[0.5, 0.5]] * 2)
