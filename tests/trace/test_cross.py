"""Cross-scoring: no label speaks for itself, a wrong validation set is seen through, trolls give themselves away."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tracemend.errors import TraceError
from tracemend.evaluate import detection
from tracemend.mend.decide import suggest
from tracemend.trace.cross import cross_posterior, soft_logistic, trusted_posterior


def blobs(n: int = 300, labels: int = 2, seed: int = 0, spread: float = 0.8) -> tuple[Any, Any]:
    """Features around a centre for each label, which overlap."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % labels
    return np.eye(labels, 8)[truth] * 2 + rng.normal(scale=spread, size=(n, 8)), truth


def flipped(truth: Any, rate: float, labels: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    wrong = np.zeros(len(truth), dtype=bool)
    wrong[rng.choice(len(truth), round(rate * len(truth)), replace=False)] = True
    return np.where(wrong, (truth + rng.integers(1, labels, len(truth))) % labels, truth), wrong


@pytest.mark.parametrize("labels", [2, 5])
def test_it_finds_the_wrong_labels_and_how_many_there_are(labels: int) -> None:
    x, truth = blobs(400, labels)
    y, wrong = flipped(truth, 0.25, labels)
    found = cross_posterior(x, y, labels)
    assert detection(found.wrong, wrong).ap > 0.85
    assert found.wrong.mean() == pytest.approx(0.25, abs=0.05)
    np.testing.assert_allclose(found.posterior.sum(axis=1), 1.0)
    np.testing.assert_allclose(found.wrong, 1 - found.posterior[np.arange(len(y)), y])
    assert (suggest(found.posterior, y) == truth)[wrong].mean() > 0.75
    assert (found.wrong > 0.5)[wrong].mean() > 0.5 > 0.05 > (found.wrong > 0.5)[~wrong].mean()
    control = detection(np.random.default_rng(1).random(len(y)), wrong).ap
    assert control < 0.4


def test_a_part_whose_labels_are_all_wrong_is_seen_through() -> None:
    """Every validation label wrong: judged by the training labels they are denied, and the training labels stand."""
    x, truth = blobs(300)
    y = truth.copy()
    y[250:] = 1 - truth[250:]
    found = cross_posterior(x, y, 2)
    assert (found.wrong[250:] > 0.5).mean() > 0.7
    assert (found.wrong[:250] < 0.5).mean() > 0.9


def test_no_example_judges_itself() -> None:
    """What a fit is given never holds the examples it judges."""
    x, truth = blobs(60)
    x[:, -1] = np.arange(60)  # names each row
    seen: list[Any] = []

    def fit(features: Any, shares: Any, judged: Any) -> Any:
        assert not set(features[:, -1]) & set(judged[:, -1])
        seen.extend(judged[:, -1])
        return soft_logistic(features[:, :-1], shares, judged[:, :-1])

    cross_posterior(x, truth, 2, steps=1, fit=fit)
    assert sorted(seen) == sorted([*range(60), *range(60)])


def test_folds_keep_an_author_together() -> None:
    x, truth = blobs(60)
    x[:, -1] = np.arange(60) // 6

    def fit(features: Any, shares: Any, judged: Any) -> Any:
        assert not set(features[:, -1]) & set(judged[:, -1])
        return soft_logistic(features[:, :-1], shares, judged[:, :-1])

    cross_posterior(x, truth, 2, groups=(np.arange(60) // 6).tolist(), fit=fit, steps=0)
    # One author of all is judged all the same, if by the own labels.
    assert (cross_posterior(x, truth, 2, groups=["me"] * 60, steps=0).wrong < 0.5).mean() > 0.8


@pytest.mark.slow
def test_trolls_give_themselves_away() -> None:
    """Half the authors flip four of five labels, in every part: the author tells more than the example alone."""
    gains = []
    for seed in range(5):
        x, truth = blobs(400, seed=seed, spread=1.4)
        rng = np.random.default_rng(seed)
        author = np.repeat(np.arange(40), 10)
        wrong = (rng.permutation(40) < 20)[author] & (rng.random(400) < 0.75)
        y = np.where(wrong, 1 - truth, truth)
        alone = cross_posterior(x, y, 2, seed=seed)
        together = cross_posterior(x, y, 2, groups=author.tolist(), seed=seed)
        gains.append(detection(together.wrong, wrong).ap - detection(alone.wrong, wrong).ap)
        assert math.isfinite(together.strength)
    assert np.mean(gains) > 0.05


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1), (0.5, 0.3, 0.2)])
def test_where_texts_tell_nothing_labels_stay(shares: tuple[float, ...]) -> None:
    rng = np.random.default_rng(0)
    y, x = rng.choice(len(shares), 300, p=shares), rng.normal(size=(300, 100))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    for groups in (None, np.repeat(np.arange(60), 5).tolist()):
        found = cross_posterior(x, y, len(shares), groups=groups)
        assert not found.told and not found.wrong.any() and (found.posterior.argmax(axis=1) == y).all()
    told, truth = blobs(300)
    assert cross_posterior(told, flipped(truth, 0.3, 2)[0], 2).told


def test_the_same_data_give_the_same_posterior() -> None:
    x, truth = blobs(80)
    y, _ = flipped(truth, 0.2, 2)
    one, other = (cross_posterior(x, y, 2, seed=3).posterior for _ in range(2))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("mostly", [40, 35])
def test_a_label_that_one_author_mostly_uses_is_not_denied(mostly: int) -> None:
    """Folds that leave the author out hardly know the label: they would deny what is right."""
    rng = np.random.default_rng(0)
    y = np.repeat([1, 0], [40, 260])
    author = [f"author {i // 10}" for i in range(300)]
    author[:40] = ["a"] * mostly + ["b"] * (40 - mostly)
    x = rng.normal(size=(300, 32)) + 3 * np.outer(y, np.eye(32)[0])
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    assert cross_posterior(x, y, 2, groups=author).wrong[:40].mean() < 0.1


def test_mates_of_a_trusted_author_do_not_vouch_for_it() -> None:
    """Near-copies of one author are told from each other, and nothing else is: then no label is denied."""
    rng = np.random.default_rng(0)

    def authored(authors: int) -> tuple[Any, Any, Any]:
        author = np.repeat(np.arange(authors), 5)
        x = rng.normal(size=(authors, 64))[author] + 0.3 * rng.normal(size=(5 * authors, 64))
        return x / np.linalg.norm(x, axis=1, keepdims=True), rng.permutation(np.arange(authors) % 2)[author], author

    (x, y, _), (trusted, right, author) = authored(60), authored(30)
    given = (x @ trusted.T, trusted @ trusted.T, right, y, 2)
    denied = {
        known: (trusted_posterior(*given, trusted_groups=groups)[np.arange(300), y] < 0.5).mean()
        for known, groups in (("known", author.tolist()), ("unknown", None))
    }
    assert denied["known"] < 0.05 < 0.3 < denied["unknown"]


def test_bad_input() -> None:
    x, truth = blobs(20)
    with pytest.raises(TraceError, match="expected"):
        cross_posterior(x, truth[:5], 2)
    with pytest.raises(TraceError, match="n groups"):
        cross_posterior(x, truth, 2, groups=["a"])
    with pytest.raises(TraceError, match="one example"):
        cross_posterior(x, np.r_[2, truth[1:]], 3)


@pytest.mark.parametrize("spread", [1.0, 3.0])
def test_authors_who_differ_by_nature_do_not_deny_the_rarer_label(spread: float) -> None:
    """Who writes more of one label than others has not labelled wrong: groups sharpen what texts tell, or nothing."""
    denied = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        author = np.repeat(np.arange(30), 15)
        share = rng.beta(0.3 * spread, 0.7 * spread, size=30)
        y = (rng.random(450) < share[author]).astype(int)
        x = rng.normal(size=(450, 32))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        denied.append(cross_posterior(x, y, 2, groups=author.tolist()).wrong.mean())
    assert max(denied) == 0.0
