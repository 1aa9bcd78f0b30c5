from __future__ import annotations

import numpy as np
import pytest

from tracemend.errors import TracemendError
from tracemend.evaluate import detection


def test_a_perfect_order_and_its_control() -> None:
    found = detection([0.9, 0.8, 0.2, 0.1], [True, True, False, False])
    assert found.metrics == {"detection_ap": 1.0, "detection_auroc": 1.0, "precision_at_k": 1.0}
    assert found.controls == {"detection_ap": 0.5, "detection_auroc": 0.5, "precision_at_k": 0.5}
    assert found.k == 2


def test_a_random_order_is_at_chance() -> None:
    rng = np.random.default_rng(0)
    wrong = rng.random(5000) < 0.3
    found = detection(rng.random(5000), wrong)
    assert found.ap == pytest.approx(found.chance, abs=0.03)
    assert found.auroc == pytest.approx(0.5, abs=0.03)
    assert found.precision_at_k == pytest.approx(found.chance, abs=0.04)


def test_one_score_for_all_is_exactly_chance_in_any_row_order() -> None:
    for wrong in ([True, False, False, False], [False, False, False, True]):
        found = detection([1.0] * 4, wrong)
        assert found.ap == found.precision_at_k == found.chance == 0.25


def test_never_scored_ranks_last_and_infinite_first() -> None:
    found = detection([float("nan"), float("inf"), -5.0], [False, True, False])
    assert found.ap == 1.0 and found.auroc == 1.0


def test_nothing_wrong_is_nan() -> None:
    found = detection([0.3, 0.4], [False, False])
    assert np.isnan(found.ap) and np.isnan(found.auroc) and found.precision_at_k == 0.0


def test_bad_input() -> None:
    with pytest.raises(TracemendError, match="expected"):
        detection([0.1], [True, False])
    with pytest.raises(TracemendError, match="k is 3"):
        detection([0.1, 0.2], [True, False], k=3)
