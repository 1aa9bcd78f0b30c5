"""What several say becomes one probability, as sure as it proves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.errors import TraceError
from tracemend.trace.pool import Judged, pooled


def said(p: np.ndarray) -> np.ndarray:
    return np.stack([1 - p, p], axis=1)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_a_source_that_says_nothing_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 80)
    good = Judged(said(rng.uniform(0.02, 0.98, 40)), said(np.where(y == 1, 0.8, 0.2)))
    # Who says of everybody how often each label is true.
    shares = (np.bincount(y, minlength=2) + 1) / 82
    nothing = Judged(np.tile(shares, (40, 1)), np.tile(shares, (80, 1)))
    (both, weights), (alone, _) = pooled([good, nothing], y), pooled([good], y)
    assert weights[0] > 0.5
    np.testing.assert_allclose(both.train, alone.train, atol=0.05)


def test_the_better_source_weighs_more_and_two_are_better_than_one() -> None:
    rng = np.random.default_rng(0)
    y, asked = rng.integers(0, 2, 400), rng.integers(0, 2, 400)

    def source(noise: float) -> Judged:
        odds = [(2 * truth - 1) * 1.5 + noise * rng.normal(size=400) for truth in (asked, y)]
        return Judged(*(said(1 / (1 + np.exp(-o))) for o in odds))

    sources = [source(1.5), source(3.0)]
    both, weights = pooled(sources, y)
    assert weights[0] > weights[1] > 0

    def loss(p: np.ndarray) -> float:
        return float(-np.log(p[np.arange(400), asked]).mean())

    assert loss(both.train) < min(loss(source.train) for source in sources)


def test_nothing_to_pool() -> None:
    with pytest.raises(TraceError, match="nothing to pool"):
        pooled([], np.zeros(3, dtype=np.int64))
