"""Decisions by expected gain: the derivation by brute force, and what must hold for any posterior."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.errors import TraceError
from tracemend.mend.acts import choose_by_gain
from tracemend.mend.gain import by_gain


def posteriors(labels: int, n: int, seed: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(labels, 0.5), n), rng.integers(0, labels, n)


cases = given(st.integers(2, 6), st.integers(1, 30), st.integers(0, 10_000))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(0, 10_000), st.floats(0, 4), st.floats(0, 2))
def test_no_other_act_has_a_higher_expected_utility(labels: int, seed: int, cost: float, price: float) -> None:
    """The expectation is taken over the true label, act by act."""
    p, y = posteriors(labels, 12, seed)
    found = by_gain(p, y, cost=cost, price=price)
    for i in range(len(y)):
        trained = [sum(p[i, t] * (1.0 if t == k else -cost) for t in range(labels)) for k in range(labels)]
        worth = {
            "keep": trained[y[i]],
            "label": max(trained[k] for k in range(labels) if k != y[i]),
            "remove": 0.0,
            "ask": sum(p[i, t] * 1.0 for t in range(labels)) - price,
        }
        assert worth[found.kind[i]] >= max(worth.values()) - 1e-9
        if found.kind[i] == "label":
            assert worth["label"] == pytest.approx(trained[found.label[i]])
        with_price = found.gain[i] - (price if found.kind[i] == "ask" else 0.0)
        assert with_price == pytest.approx(worth[found.kind[i]] - worth["keep"])


@settings(max_examples=60, deadline=None)
@cases
def test_the_new_label_is_never_the_given_one(labels: int, n: int, seed: int) -> None:
    p, y = posteriors(labels, n, seed)
    found = by_gain(p, y)
    assert (found.suggested != y).all()
    relabelled = np.array(found.kind) == "label"
    assert (found.label[relabelled] == found.suggested[relabelled]).all() and (found.label[~relabelled] == -1).all()
    assert (found.gain >= 0).all()


@settings(max_examples=60, deadline=None)
@cases
def test_a_perfect_posterior_relabels_exactly_the_wrong_ones(labels: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, y = rng.integers(0, labels, n), rng.integers(0, labels, n)
    found = by_gain(np.eye(labels)[truth], y, questions=n)
    assert found.kind == ["label" if t != g else "keep" for t, g in zip(truth, y, strict=True)]
    assert (np.where(found.label >= 0, found.label, y) == truth).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(2, 30), st.integers(0, 10_000), st.integers(0, 5))
def test_the_order_of_examples_and_labels_does_not_matter(labels: int, n: int, seed: int, questions: int) -> None:
    p, y = posteriors(labels, n, seed)
    rng = np.random.default_rng(seed + 1)
    rows, names = rng.permutation(n), rng.permutation(labels)
    plain = by_gain(p, y, questions=questions)
    back = np.empty(labels, dtype=int)
    back[names] = np.arange(labels)  # label k stands in column back[k] of p[:, names]
    turned = by_gain(p[rows][:, names], back[y[rows]], questions=questions)
    assert turned.kind == [plain.kind[i] for i in rows]
    new = np.where(turned.label >= 0, names[turned.label], -1)
    np.testing.assert_array_equal(new, plain.label[rows])
    np.testing.assert_allclose(turned.gain, plain.gain[rows])


def test_when_to_remove_is_a_matter_of_cost() -> None:
    p, y = [[0.25, 0.75], [0.2, 0.8], [0.75, 0.25], [0.6, 0.4]], [0, 0, 0, 0]
    assert by_gain(p, y, cost=1).kind == ["label", "label", "keep", "keep"]
    # Three to one: 0.75 just reaches it, and a tie changes the least.
    assert by_gain(p, y, cost=3).kind == ["label", "label", "keep", "remove"]
    assert by_gain(p, y, cost=3, policy="relabel").kind == ["label", "label", "keep", "keep"]
    assert by_gain(p, y, cost=1, policy="remove").kind == ["remove", "remove", "keep", "keep"]


def test_a_person_is_asked_where_the_answer_is_worth_its_price() -> None:
    p, y = [[0.5, 0.5], [0.1, 0.9], [0.99, 0.01]], [0, 0, 0]
    assert "ask" not in by_gain(p, y).kind
    # Without an answer these are worth 0, 0.8 and 0.98; with one, 1.
    assert by_gain(p, y).value.tolist() == pytest.approx([1.0, 0.2, 0.02])
    assert by_gain(p, y, price=0.5).kind == ["ask", "label", "keep"]
    assert by_gain(p, y, price=0.1).kind == ["ask", "ask", "keep"]
    assert by_gain(p, y, questions=2).kind == ["ask", "ask", "keep"]
    assert by_gain(p, y, questions=2, price=0.5).kind == ["ask", "label", "keep"]
    assert by_gain(p, y, questions=0).kind == by_gain(p, y).kind


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.integers(1, 30), st.integers(0, 10_000), st.integers(0, 40))
def test_a_number_of_questions_is_a_price(labels: int, n: int, seed: int, questions: int) -> None:
    p, y = posteriors(labels, n, seed)
    found = by_gain(p, y, questions=questions)
    asked = np.array(found.kind) == "ask"
    assert asked.sum() == min(questions, int((found.value > 1e-12).sum()))
    if asked.any() and not asked.all():
        assert found.value[asked].min() >= found.value[~asked].max() - 1e-9


def test_ties_go_to_what_changes_least_and_then_to_the_earlier() -> None:
    even = [[0.5, 0.5]] * 4
    assert by_gain(even, [0, 1, 0, 1]).kind == ["keep"] * 4
    assert by_gain(even, [0, 1, 0, 1], questions=2).kind == ["ask", "ask", "keep", "keep"]
    third = by_gain([[1 / 3, 1 / 3, 1 / 3]] * 2, [0, 2])
    assert third.kind == ["remove", "remove"] and third.suggested.tolist() == [1, 0]
    found = choose_by_gain([[0.2, 0.8]] * 5, [0] * 5, [True] * 5, most=2)
    assert found.rows == [0, 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(1, 40), st.integers(0, 10_000), st.floats(0, 1), st.floats(0, 1))
def test_choosing_keeps_to_every_bound(labels: int, n: int, seed: int, low: float, high: float) -> None:
    p, y = posteriors(labels, n, seed)
    low, high = min(low, high), max(low, high)
    free = np.random.default_rng(seed).random(n) < 0.8
    few, many = (choose_by_gain(p, y, free, most=n, fdr=fdr, questions=2) for fdr in (low, high))
    assert few.rows == many.rows[: len(few.rows)]
    assert len(choose_by_gain(p, y, free, most=3, questions=2).rows) <= 3
    for found, fdr in ((few, low), (many, high)):
        assert free[found.rows].all() and free[found.asked].all() and not set(found.rows) & set(found.asked)
        assert len(found.asked) <= 2
        if found.rows:
            assert p[found.rows, y[found.rows]].mean() <= fdr + 1e-9
    assert choose_by_gain(p, y, np.zeros(n, dtype=bool), most=n, questions=2).rows == []


def test_a_budget_larger_than_the_set_takes_the_suspects_alone() -> None:
    p, y = [[0.1, 0.9], [0.9, 0.1], [0.3, 0.7]], [0, 0, 0]
    found = choose_by_gain(p, y, [True] * 3, most=100, questions=0)
    assert found.rows == [0, 2] and found.asked == []
    assert sorted(choose_by_gain(p, y, [True] * 3, most=100, questions=100).asked) == [0, 1, 2]
    assert choose_by_gain(p, y, [True] * 3, most=-5).rows == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"policy": "drop"}, "not one of: remove, relabel, auto"),
        ({"cost": -1.0}, "at least 0"),
        ({"cost": math.inf}, "at least 0"),
        ({"price": -1.0}, "at least 0"),
        ({"price": math.nan}, "at least 0"),
        ({"questions": -1}, "at least 0"),
    ],
)
def test_bad_options(options: dict[str, Any], said: str) -> None:
    with pytest.raises(TraceError, match=said):
        by_gain([[0.5, 0.5]], [0], **options)


def test_logits_are_no_posterior() -> None:
    with pytest.raises(TraceError, match="no logits"):
        by_gain([[2.0, -1.0]], [0])
