"""Consensus without tuned models: what pooling, noise and groups make of frozen states."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from tracemend.data import Labelled
from tracemend.models import tiny
from tracemend.trace.consensus import consensus


def parts(rng: Any) -> tuple[Any, Any, Any, Any]:
    """Two hundred examples in question, a hundred trusted ones, and states that tell their labels apart."""
    truth, clean = np.arange(200) % 2, np.arange(100) % 2
    states = [rng.normal(size=(len(y), 8)) + 1.6 * np.eye(2, 8)[y] for y in (truth, clean)]
    names = ("safe", "unsafe")

    def made(y: Any, first: int) -> Labelled:
        return Labelled.make([f"text {first + i}" for i in range(len(y))], [names[c] for c in y], label_names=names)

    return truth, states, made(clean, 1000), made


def test_wrong_labels_are_likelier_and_the_noise_is_seen() -> None:
    rng = np.random.default_rng(0)
    truth, states, trusted, made = parts(rng)
    wrong = rng.random(200) < 0.3
    train = made(np.where(wrong, 1 - truth, truth), 0)
    found = consensus(tiny("bert"), train, trusted, (states[0], states[1]), None)
    p = 1 - found.posterior[np.arange(200), train.y]
    assert average_precision_score(wrong, p) > 0.8
    assert abs(p.mean() - wrong.mean()) < 0.06
    assert found.weights.shape == (1,) and math.isinf(found.strength)
    np.testing.assert_allclose(found.posterior.sum(axis=1), 1)
    np.testing.assert_allclose(found.predicted.sum(axis=1), 1)


def test_a_group_that_errs_is_believed_less() -> None:
    rng = np.random.default_rng(1)
    truth, states, trusted, made = parts(rng)
    author = np.arange(200) // 10
    wrong = (author < 7) & (rng.random(200) < 0.8)
    train = made(np.where(wrong, 1 - truth, truth), 0)
    told = replace(train, frame=train.frame.assign(group=[f"author {a}" for a in author]))
    alone, together = (consensus(tiny("bert"), t, trusted, (states[0], states[1]), None) for t in (train, told))
    ap = [average_precision_score(wrong, 1 - found.posterior[np.arange(200), train.y]) for found in (alone, together)]
    assert math.isinf(alone.strength) and math.isfinite(together.strength)
    assert ap[1] > ap[0] + 0.03


def test_groups_that_the_models_misread_are_no_evidence_against_their_labels() -> None:
    """The first five groups' states point to the other label, in both parts; no label is wrong."""
    rng = np.random.default_rng(2)
    truth, states, trusted, made = parts(rng)
    train = made(truth, 0)
    told = []
    for part, x in ((train, states[0]), (trusted, states[1])):
        group = np.arange(len(part)) // 10
        misread = group < len(part) // 40
        x[misread] = x[misread][:, [1, 0, *range(2, 8)]]
        told.append(replace(part, frame=part.frame.assign(group=[f"{len(part)}-{g}" for g in group])))
    found = consensus(tiny("bert"), told[0], told[1], (states[0], states[1]), None)
    blind = replace(told[1], frame=told[1].frame.assign(group=None))
    misled = consensus(tiny("bert"), told[0], blind, (states[0], states[1]), None)
    denied, without = (1 - f.posterior[np.arange(200), train.y] for f in (found, misled))
    assert math.isinf(found.strength) and math.isfinite(misled.strength)
    assert denied.mean() < without.mean()
