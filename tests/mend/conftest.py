"""Texts whose words give their label away, some of them labelled wrong on purpose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tracemend.data import Labelled, Splits, corrupt, make_splits
from tracemend.mend import Repair
from tracemend.tuning import Tuning

WORDS = {
    "good": ["love", "great", "nice", "happy", "thanks"],
    "bad": ["hate", "awful", "terrible", "sad", "stop"],
    "neutral": ["movie", "film", "people", "text", "answer"],
}


def planted(n: int = 200, *, labels: int = 2, wrong: float = 0.25, seed: int = 0) -> Splits:
    """``n`` examples over all parts; a share of the training labels is wrong, the other parts are right."""
    rng = np.random.default_rng(seed)
    names = list(WORDS)[:labels]
    truth = [names[i % labels] for i in range(n)]
    # The number tells near-duplicates apart, without saying anything of the label.
    texts = [f"{' '.join(rng.choice(WORDS[y], 3))} {rng.integers(10**9)}" for y in truth]
    splits = make_splits(Labelled.make(texts, truth), seed=seed)
    return splits.with_train(corrupt(splits.train, rate=wrong, seed=seed)) if wrong else splits


def quick(**changes: Any) -> Repair:
    """A repair that takes a second on a tiny model."""
    tuning = {
        "adapter": "head", "epochs": 4, "batch_size": 8, "patience": 0, "precision": "fp32", "max_length": 20,
        "virtual_tokens": 2, "rank": 2, "learning_rate": 2e-2, **changes.pop("tuning", {}),
    }  # fmt: skip
    return Repair(**{"rank": "trusted", "rounds": 2, "warm_epochs": 2, "tuning": Tuning(**tuning), **changes})


@pytest.fixture(scope="session")
def splits() -> Splits:
    return planted()
