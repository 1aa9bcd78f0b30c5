"""The confident joint, what it prunes and the qualities of labels are cleanlab's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tracemend.trace import confident_joint, label_quality, noise_estimate, pruned

count = pytest.importorskip("cleanlab.count", reason="cleanlab is the oracle here")
find = pytest.importorskip("cleanlab.filter").find_label_issues
rank = pytest.importorskip("cleanlab.rank")


def noisy(classes: int, n: int, rate: float, seed: int, strength: float) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes)) + strength * np.eye(classes)[truth]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    flip = rng.random(n) < rate
    return np.where(flip, (truth + rng.integers(1, classes, n)) % classes, truth), p


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("strength", [1.0, 3.0])
def test_the_joint_agrees_with_cleanlab(classes: int, rate: float, strength: float) -> None:
    y, p = noisy(classes, 400, rate, seed=classes, strength=strength)
    theirs = count.compute_confident_joint(y, p, calibrate=True)
    ours = confident_joint(y, p)
    # Cleanlab rounds its calibrated counts to whole examples.
    np.testing.assert_allclose(ours * len(y), theirs, atol=1.0)
    issues = count.num_label_issues(y, p, estimation_method="off_diagonal_calibrated")
    assert min(0.5, issues / len(y)) == pytest.approx(noise_estimate(y, p), abs=classes / len(y))


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3])
def test_what_is_pruned_agrees_with_cleanlab(classes: int, rate: float) -> None:
    y, p = noisy(classes, 600, rate, seed=7 + classes, strength=2.0)
    theirs = find(y, p, filter_by="prune_by_noise_rate", n_jobs=1)
    ours = pruned(y, p)
    assert theirs.any()
    # Their counts are rounded so that rows add up: each cell of the joint may differ by one example.
    assert (theirs != ours).sum() <= classes * (classes - 1)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("self-confidence", "self_confidence"), ("normalised-margin", "normalized_margin")]
)
def test_qualities_are_cleanlabs(ours: Any, theirs: str) -> None:
    y, p = noisy(4, 200, 0.2, seed=3, strength=2.0)
    expected = rank.get_label_quality_scores(y, p, method=theirs)
    np.testing.assert_allclose(label_quality(y, p, ours), expected, rtol=1e-9)
