"""Rankings: what is suspect, what it would be instead, and who may be acted on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.mend.conftest import planted, quick
from tracemend.data import Labelled, Splits
from tracemend.mend.ranking import Ranking, by_chance, by_influence, by_similarity
from tracemend.models import tiny
from tracemend.trace import embed
from tracemend.tuning import Tuned, tune

Floats = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def case(splits: Splits) -> tuple[Tuned, Splits, tuple[Floats, Floats]]:
    model = tiny("bert")
    tuned = tune(model, splits.train, splits.validation, quick().tuning)
    return tuned, splits, (embed(model, splits.train.pairs), embed(model, splits.validation.pairs))


def checked(found: Ranking, train: Labelled, validation: Labelled) -> None:
    n, m = len(train), len(validation)
    assert found.suspicion.shape == found.suggestion.shape == found.certainty.shape == found.eligible.shape == (n,)
    assert found.signed.shape == (n, m) and found.drivers.shape == (m,)
    assert (found.suggestion != train.y).all()
    assert (found.certainty >= 0).all() and (found.certainty <= 1).all()


def lift(found: Ranking, train: Labelled) -> float:
    """How much more often the most suspicious are wrong than anybody."""
    top = np.argsort(-found.suspicion)[: int(train.wrong.sum())]
    return float(train.wrong[top].mean() - train.wrong.mean())


@pytest.mark.parametrize("rank", ["trusted", "votes", "mean", "weighted"])
def test_influence_points_to_wrong_labels(rank: Any, case: tuple[Tuned, Splits, tuple[Floats, Floats]]) -> None:
    tuned, splits, embedded = case
    found, p = by_influence(quick(rank=rank, drivers="all"), tuned, splits.train, splits.validation, embedded)
    checked(found, splits.train, splits.validation)
    assert lift(found, splits.train) > 0.15
    expected = tuned.classifier.probabilities(splits.train.pairs)
    np.testing.assert_allclose(p, expected, rtol=1e-3, atol=1e-4)


def test_only_what_the_rule_denies_may_be_acted_on(case: tuple[Tuned, Splits, tuple[Floats, Floats]]) -> None:
    tuned, splits, embedded = case
    trusted, _ = by_influence(quick(), tuned, splits.train, splits.validation, embedded)
    # Suspicion is -log p(label) of the trusted fit.
    np.testing.assert_array_equal(trusted.eligible, np.exp(-trusted.suspicion) < 0.5)
    assert 0 < trusted.eligible.sum() < len(splits.train)
    mean, _ = by_influence(quick(rank="mean"), tuned, splits.train, splits.validation, embedded)
    np.testing.assert_array_equal(mean.eligible, mean.signed[:, mean.drivers > 0].mean(axis=1) < 0)
    votes, _ = by_influence(quick(rank="votes", top_k=3), tuned, splits.train, splits.validation, embedded)
    opposes = votes.signed[:, votes.drivers > 0] < 0
    assert opposes[votes.eligible].any(axis=1).all()
    assert 0 < votes.eligible.sum() <= 3 * votes.drivers.sum()


def test_the_trusted_fit_does_not_look_at_the_training_label(
    case: tuple[Tuned, Splits, tuple[Floats, Floats]],
) -> None:
    tuned, splits, embedded = case
    train = splits.train
    flipped = train.relabelled({uid: train.labels[1 - y] for uid, y in zip(train.uid, train.y, strict=True)})
    one, _ = by_influence(quick(), tuned, train, splits.validation, embedded)
    other, _ = by_influence(quick(), tuned, flipped, splits.validation, embedded)
    # What it gave to the one label it gives to the same label still: p(y) becomes 1 - p(y).
    np.testing.assert_allclose(np.exp(-other.suspicion), 1 - np.exp(-one.suspicion), atol=1e-4)


def test_without_validation_errors_the_vote_acts_on_nobody(
    case: tuple[Tuned, Splits, tuple[Floats, Floats]],
) -> None:
    tuned, splits, embedded = case
    right = np.flatnonzero(tuned.classifier.predict(splits.validation.pairs).argmax(1) == splits.validation.y)
    easy = splits.validation.take(right)
    found, _ = by_influence(quick(rank="votes"), tuned, splits.train, easy, (embedded[0], embedded[1][right]))
    assert not found.drivers.any() and not found.eligible.any()


@pytest.mark.parametrize("rank", ["trusted", "votes"])
def test_similarity_keeps_the_same_rule(rank: Any, case: tuple[Tuned, Splits, tuple[Floats, Floats]]) -> None:
    tuned, splits, embedded = case
    p = tuned.classifier.probabilities(splits.train.pairs)
    logits = tuned.classifier.predict(splits.validation.pairs)
    found = by_similarity(quick(rank=rank), embedded, splits.train, splits.validation, p, logits)
    checked(found, splits.train, splits.validation)
    same = splits.train.y[:, None] == splits.validation.y[None, :]
    assert found.signed[same].mean() > 0 > found.signed[~same].mean()


def test_chance_is_chance(splits: Splits) -> None:
    p = np.full((len(splits.train), 2), 0.5)
    one, again, later, other = (
        by_chance(quick(seed=seed), number, splits.train, splits.validation, p)
        for seed, number in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    checked(one, splits.train, splits.validation)
    assert one.eligible.all() and not one.signed.any()
    np.testing.assert_array_equal(one.suspicion, again.suspicion)
    assert not np.array_equal(one.suspicion, later.suspicion) and not np.array_equal(one.suspicion, other.suspicion)
    assert abs(lift(one, splits.train)) < 0.2


def test_with_three_labels_the_suggestion_is_sure_only_so_far() -> None:
    splits, model = planted(120, labels=3), tiny("bert")
    tuned = tune(model, splits.train, splits.validation, quick().tuning)
    embedded = embed(model, splits.train.pairs), embed(model, splits.validation.pairs)
    found, _ = by_influence(quick(), tuned, splits.train, splits.validation, embedded)
    checked(found, splits.train, splits.validation)
    assert (found.certainty < 1).any()
    assert lift(found, splits.train) > 0.1
