"""Small fits take one thread of BLAS, and leave the rest as it was."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from tracemend.threads import one_thread
from tracemend.trace import em, out_of_fold, trusted


def threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_inside_the_block_it_is_one() -> None:
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        with one_thread():
            assert threads() == {1}
        assert threads() == before


def test_the_fits_that_judge_labels_take_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    fit = LogisticRegression.fit

    def watched(self, *given, **named):
        seen.append(threads())
        return fit(self, *given, **named)

    monkeypatch.setattr(LogisticRegression, "fit", watched)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 4)), np.arange(20) % 2
    with threadpool_limits(2, user_api="blas"):
        em.soft_fit(x, np.eye(2)[y], np.ones(20), 1.0, x)
        out_of_fold.out_of_fold_probabilities(x, y, 2)
        trusted.fitted_probabilities(x, x, y, 2)
    assert len(seen) > 2 and all(found == {1} for found in seen)
