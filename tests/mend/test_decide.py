from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tracemend.errors import TraceError
from tracemend.mend.decide import candidates_per_round, decide, gains, suggest


def softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def linear(n: int = 40, classes: int = 2, seed: int = 0) -> tuple[Any, ...]:
    """A linear softmax model and per-example gradients of its loss for any label [n, C, P]."""
    rng = np.random.default_rng(seed)
    x, weights = rng.normal(size=(n, 6)), rng.normal(size=(6, classes))
    y = rng.integers(0, classes, n)
    p = softmax(x @ weights)
    residuals = [p - np.eye(classes)[k] for k in range(classes)]
    gradients = np.stack([(r[:, :, None] * x[:, None, :]).reshape(n, -1) for r in residuals], axis=1)
    return x, weights, y, p, gradients


def test_suggest_is_the_likeliest_other_label() -> None:
    p = [[0.7, 0.1, 0.2], [0.3, 0.6, 0.1], [0.2, 0.2, 0.6]]
    assert suggest(p, [0, 0, 0]).tolist() == [2, 1, 2]
    assert suggest([[0.9, 0.1], [0.1, 0.9]], [0, 0]).tolist() == [1, 1]


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_two_label_gains_are_what_the_flipped_gradients_give(similarity: Any) -> None:
    _, _, y, p, gradients = linear()
    query = np.random.default_rng(1).normal(size=gradients.shape[-1])
    rows = np.arange(len(y))

    def influence(g: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        lengths = np.linalg.norm(g, axis=1) * np.linalg.norm(query) if similarity == "cosine" else 1.0
        return np.asarray(g @ query / lengths)

    now, flipped = influence(gradients[rows, y]), influence(gradients[rows, 1 - y])
    remove, relabel = gains(p, y, now, similarity=similarity)
    np.testing.assert_allclose(remove, -now, atol=1e-12)
    np.testing.assert_allclose(relabel, -now + flipped, atol=1e-9)
    if similarity == "cosine":
        np.testing.assert_allclose(relabel, -2 * now, atol=1e-9)
    else:
        np.testing.assert_allclose(relabel, -now / (1 - p[rows, y]), rtol=1e-6)


def test_the_sign_is_that_of_a_real_step() -> None:
    """Removing an opponent from a gradient step lowers the validation loss, flipping it lowers it more."""
    _, weights, y, p, gradients = linear()
    query, label = np.random.default_rng(2).normal(size=6), 1

    def loss(step: np.ndarray[Any, Any]) -> float:
        moved = weights - 1e-4 * step.reshape(2, 6).T
        return float(-np.log(softmax(query @ moved)[label]))

    at = softmax(query @ weights) - np.eye(2)[label]
    influence = gradients[np.arange(len(y)), y] @ np.outer(at, query).ravel()
    remove, relabel = gains(p, y, influence, similarity="dot")
    total = gradients[np.arange(len(y)), y].sum(axis=0)
    for i in range(len(y)):
        without = total - gradients[i, y[i]]
        flipped = without + gradients[i, 1 - y[i]]
        assert (loss(total) - loss(without)) / 1e-4 == pytest.approx(remove[i], abs=2e-2)
        assert (loss(total) - loss(flipped)) / 1e-4 == pytest.approx(relabel[i], abs=2e-2)
        assert np.sign(loss(total) - loss(without)) == np.sign(remove[i])


def test_auto_with_two_labels_flips_opponents_and_keeps_proponents() -> None:
    p, y, influence = [[0.4, 0.6], [0.9, 0.1], [0.5, 0.5]], [0, 0, 1], [-0.5, 0.5, 0.0]
    for similarity in ("dot", "cosine"):
        found = decide(p, y, influence, policy="auto", similarity=similarity)
        assert found.kind == ["label", "keep", "keep"]
        assert found.label.tolist() == [1, -1, -1]
        assert found.suggested.tolist() == [1, 1, 0]


def test_auto_with_more_labels_removes_where_no_other_label_is_likely() -> None:
    p, y = [[0.2, 0.7, 0.1], [0.2, 0.4, 0.4]], [0, 0]
    assert decide(p, y, [-1, -1], policy="auto").kind == ["label", "remove"]
    # For dot products the bar is r = 0.8: s is 0.875 in the first case and 0.5 in the second.
    assert decide(p, y, [-1, -1], policy="auto", similarity="dot").kind == ["label", "remove"]
    assert decide(p, y, [-1, -1], policy="auto", certainty=[0.4, 0.9]).kind == ["remove", "label"]


def test_plain_policies_act_on_all_and_evidence_overrides_the_model() -> None:
    p, y, influence = [[0.2, 0.7, 0.1], [0.6, 0.3, 0.1]], [0, 0], [-1.0, 1.0]
    assert decide(p, y, influence).kind == ["remove", "remove"]
    found = decide(p, y, influence, policy="relabel", suggested=[2, 2])
    assert found.kind == ["label", "label"] and found.label.tolist() == [2, 2]


def test_a_saturated_model_gives_finite_gains() -> None:
    remove, relabel = gains([[1.0, 0.0], [0.0, 1.0]], [0, 0], [0.0, -2.0], similarity="dot")
    assert relabel.tolist() == [0.0, 2.0] and remove.tolist() == [0.0, 2.0]


def test_bad_input() -> None:
    good = [[0.5, 0.5]]
    with pytest.raises(TraceError, match="expected"):
        suggest([0.5, 0.5], [0])
    with pytest.raises(TraceError, match="no logits"):
        suggest([[2.0, -1.0]], [0])
    with pytest.raises(TraceError, match="from 0 to 1"):
        suggest(good, [2])
    with pytest.raises(TraceError, match="1 finite numbers"):
        gains(good, [0], [float("nan")])
    with pytest.raises(TraceError, match="did you mean 'cosine'"):
        gains(good, [0], [0.1], similarity="cosin")
    with pytest.raises(TraceError, match="remove, relabel, auto"):
        decide(good, [0], [0.1], policy="drop")
    with pytest.raises(TraceError, match="already has"):
        decide(good, [0], [0.1], suggested=[0])
    with pytest.raises(TraceError, match="0 to 1"):
        gains(good, [0], [0.1], certainty=[1.5])


def test_candidates_per_round() -> None:
    assert candidates_per_round(0.3, 500, 5) == 30
    assert candidates_per_round(0.0, 500, 5) == 1
    with pytest.raises(TraceError, match="at least 1"):
        candidates_per_round(0.3, 500, 0)
