"""Votes count opponents of the errors, and the rules rank as they say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tracemend.errors import TraceError
from tracemend.trace import candidates, driver_weights

SCORES = np.array(
    [
        [-3.0, -1.0, 0.5],  # opponent of two
        [-2.0, 4.0, -5.0],  # opponent of two, stronger in sum
        [1.0, -0.5, 0.1],
        [2.0, 0.2, -1.0],
    ]
)


def test_votes_count_top_opponents_and_ties_go_to_the_stronger_sum() -> None:
    found = candidates(SCORES, top=2)
    assert found.votes.tolist() == [2, 2, 1, 1]
    assert found.order.tolist() == [1, 0, 3, 2]
    assert found.evidence(1)[["query", "score", "rank"]].to_numpy().tolist() == [[2, -5.0, 1], [0, -2.0, 2]]
    assert len(found.evidence(1, top=1)) == 1


def test_only_opponents_get_votes() -> None:
    found = candidates(SCORES, top=4)
    assert len(found.pushed) == (SCORES < 0).sum()
    assert (found.pushed["score"] < 0).all()


def test_weights_choose_and_weigh_the_queries() -> None:
    found = candidates(SCORES, weights=np.array([0.0, 0.0, 1.0]), top=2)
    assert found.order[0] == 1
    assert set(found.pushed["query"]) == {2}
    assert candidates(SCORES, weights=np.array([5.0, 1.0, 1.0]), top=1).votes.tolist() == [6, 1, 0, 0]


def test_mean_and_weighted_sum_rank_by_the_scores() -> None:
    mean = candidates(SCORES, rule="mean")
    np.testing.assert_allclose(mean.harm, -SCORES.mean(axis=1))
    weights = np.array([1.0, 0.0, 2.0])
    weighted = candidates(SCORES, weights=weights, rule="weighted")
    np.testing.assert_allclose(weighted.harm, -(SCORES @ weights))
    assert weighted.order[0] == 1


def test_drivers_are_the_errors_all_or_the_residuals() -> None:
    logits, y = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]), np.array([0, 1, 1])
    assert driver_weights(logits, y, "misclassified").tolist() == [0, 0, 1]
    assert driver_weights(logits, y, "all").tolist() == [1, 1, 1]
    np.testing.assert_allclose(driver_weights(logits, y, "residual"), [0.1192, 0.2689, 0.9526], atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scores": np.zeros(3)}, "expected"),
        ({"scores": SCORES, "weights": np.zeros(3)}, "drivers='all'"),
        ({"scores": SCORES, "weights": np.ones(2)}, "2 weights for 3 queries"),
        ({"scores": SCORES, "rule": "vote"}, "did you mean 'votes'"),
    ],
)
def test_what_cannot_be_ranked_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        candidates(**arguments)


def test_an_unknown_driver_is_refused() -> None:
    with pytest.raises(TraceError, match="did you mean 'all'"):
        driver_weights(np.zeros((1, 2)), np.zeros(1, dtype=int), "al")


matrices = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 8), st.integers(1, 6)), elements=st.floats(-5, 5, allow_nan=False)
)


@given(matrices, st.integers(1, 5), st.randoms(use_true_random=False))
def test_the_ranking_is_a_permutation_and_does_not_depend_on_the_order_of_queries(scores, top, random) -> None:
    found = candidates(scores, top=top)
    assert sorted(found.order) == list(range(len(scores)))
    assert found.votes.sum() == len(found.pushed) <= top * scores.shape[1]
    assert (np.diff(found.votes[found.order]) <= 0).all()
    columns = list(range(scores.shape[1]))
    random.shuffle(columns)
    np.testing.assert_array_equal(candidates(scores[:, columns], top=top).votes, found.votes)
