"""Nobody is judged by what learnt it, nor by what learnt its author where that can be had."""

from __future__ import annotations

import numpy as np
import pytest

from tracemend.errors import TraceError
from tracemend.trace import out_of_fold_probabilities
from tracemend.trace.folds import folds_of

Y = np.arange(60) % 2
AUTHORS = [f"author {i // 6}" for i in range(60)]


def test_one_fold_is_refused() -> None:
    for folds in (1, 0, -1):
        with pytest.raises(TraceError, match=f"folds is {folds}; it must be at least 2"):
            folds_of(Y, folds, 0)


def test_a_label_with_one_example_is_refused_where_none_may_be() -> None:
    y = np.array([0, 0, 0, 1])
    assert sorted(np.concatenate([judge for _, judge in folds_of(y, 3, 0)])) == [0, 1, 2, 3]
    with pytest.raises(TraceError, match="a label with one example cannot be judged"):
        folds_of(y, 3, 0, alone=False)


def test_no_author_is_cut() -> None:
    for folds, authors in ((5, AUTHORS), (2, ["a" if i < 30 else "b" for i in range(60)])):
        found = folds_of(Y, 5, 0, authors)
        assert len(found) == folds
        for learn, judge in found:
            assert not {authors[i] for i in learn} & {authors[i] for i in judge} and set(Y[learn]) == {0, 1}
        assert sorted(np.concatenate([judge for _, judge in found])) == list(range(60))


def test_an_author_is_cut_where_nobody_else_knows_a_label() -> None:
    plain = folds_of(Y, 5, 0)
    alone: list[str | None] = [None] * 60
    owner = ["ann" if label else f"author {i // 6}" for i, label in enumerate(Y)]
    for authors in (alone, list(range(60)), ["ann"] * 60, owner):
        assert all(np.array_equal(a[1], b[1]) for a, b in zip(folds_of(Y, 5, 0, authors), plain, strict=True))


def test_who_has_read_an_author_believes_the_author() -> None:
    """Each author has a style and flips all labels or none: the style gives the label away to who may learn it."""
    rng = np.random.default_rng(0)
    author = np.repeat(np.arange(20), 10)
    truth = rng.integers(0, 2, 200)
    wrong = author < 6
    content = np.where(truth[:, None] == 1, 1.0, -1.0) * 0.4 + rng.normal(size=(200, 4)) * 0.3
    x = np.concatenate([content, 1.5 * np.eye(20)[author] * (2 * (truth ^ wrong) - 1)[:, None]], axis=1)
    y = (truth ^ wrong).astype(np.int64)
    own = [
        out_of_fold_probabilities(x, y, 2, groups=groups)[np.arange(200), y]
        for groups in (None, [f"author {a}" for a in author])
    ]
    seen, unseen = (float(p[wrong].mean() - p[~wrong].mean()) for p in own)
    assert unseen < seen - 0.2
