from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

from tracemend.errors import TracemendError
from tracemend.evaluate import average_precision, predictions, scores, threshold


def classifier(n: int, labels: int, seed: int, skill: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = rng.integers(labels, size=n)
    logits = rng.normal(size=(n, labels)) + skill * np.eye(labels)[y]
    return y, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_ap_is_that_of_the_positive_label_whichever_column_it_is() -> None:
    y, p = classifier(200, 2, seed=1)
    assert scores(y, p, 1)["ap"] == pytest.approx(average_precision_score(y == 1, p[:, 1]))
    assert scores(y, p, 0)["ap"] == pytest.approx(average_precision_score(y == 0, p[:, 0]))
    assert scores(y, p, 0)["ap"] != scores(y, p, 1)["ap"]


def test_ap_of_more_labels_is_macro_and_skips_absent_ones() -> None:
    y, p = classifier(300, 4, seed=2)
    y[y == 3] = 0
    expected = np.mean([average_precision_score(y == c, p[:, c]) for c in range(3)])
    assert average_precision(y, p, 0) == pytest.approx(expected)


def test_one_label_only_gives_nan_not_a_crash() -> None:
    found = scores([0, 0], [[0.9, 0.1], [0.4, 0.6]], 1)
    assert np.isnan(found["ap"]) and np.isnan(found["auroc"])
    assert found["accuracy"] == 0.5


def test_a_classifier_that_knows_nothing_gets_the_base_rate() -> None:
    y = np.array([1] * 30 + [0] * 70)
    assert average_precision(y, np.full((100, 2), 0.5), 1) == pytest.approx(0.30)


def test_threshold_moves_accuracy_but_not_ap() -> None:
    y, p = classifier(200, 2, seed=3)
    shifted = np.column_stack([1 - p[:, 1] / 3, p[:, 1] / 3])
    cut = threshold(y, shifted, 1)
    assert cut is not None and cut < 0.34
    plain, moved = scores(y, shifted, 1), scores(y, shifted, 1, threshold=cut)
    assert plain["ap"] == moved["ap"]
    assert moved["accuracy"] > plain["accuracy"] + 0.1


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([0.1, 0.2, 0.4, 0.5, 0.7, 0.9])), min_size=2, max_size=25),
    st.sampled_from([0, 1]),
    st.sampled_from(["accuracy", "macro_f1"]),
)
def test_no_cut_beats_the_threshold(rows: list[tuple[bool, float]], positive: int, metric: str) -> None:
    y = np.array([positive if is_positive else 1 - positive for is_positive, _ in rows])
    p = np.zeros((len(rows), 2))
    p[:, positive] = [value for _, value in rows]
    p[:, 1 - positive] = 1 - p[:, positive]

    def value(cut: float) -> float:
        predicted = predictions(p, positive, cut)
        if metric == "accuracy":
            return float(accuracy_score(y, predicted))
        return float(f1_score(y, predicted, average="macro", labels=[0, 1], zero_division=0))

    chosen = threshold(y, p, positive, metric=metric)
    assert chosen is not None
    cuts = [0.15, 0.3, 0.45, 0.5, 0.6, 0.8]
    assert value(chosen) >= max(value(cut) for cut in cuts) - 1e-9


def test_more_labels_need_no_threshold() -> None:
    y, p = classifier(50, 3, seed=0)
    assert threshold(y, p, 0) is None
    assert predictions(p, 0, 0.9).tolist() == p.argmax(axis=1).tolist()


@pytest.mark.parametrize(
    ("y", "p", "message"),
    [
        ([0, 1], [[0.5, 0.5]], r"expected \[n\] and \[n, C\]"),
        ([], np.zeros((0, 2)), "no examples"),
        ([0], [[float("nan"), 0.5]], "not finite"),
        ([2], [[0.5, 0.5]], "valid ones are 0 to 1"),
    ],
)
def test_bad_input_says_what_was_expected(y: list[int], p: object, message: str) -> None:
    with pytest.raises(TracemendError, match=message):
        scores(y, p, 1)
