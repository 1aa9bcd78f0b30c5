"""Texts of unequal length with labels that a tiny model can learn, and every adapter on every family."""

from __future__ import annotations

import numpy as np
import pytest

from tracemend.data import Labelled
from tracemend.tuning import Tuning

WORDS = {"safe": ["love", "great", "nice", "happy", "thanks"], "unsafe": ["hate", "awful", "terrible", "bad", "stop"]}
CASES = [
    (architecture, kind)
    for architecture in ("bert", "gpt2", "llama", "t5")
    for kind in ("prompt", "p-tuning", "prefix", "lora", "ia3", "head")
    if kind != "head" or architecture == "bert"
]
PAIRS: list[tuple[str, str | None]] = [
    ("good movie", None),
    ("you are terrible and i hate this film", "thanks"),
    ("nice", None),
    ("stop", "no why"),
    ("why would you do that to a sad film", None),
]


def learnable(n: int, seed: int = 0) -> Labelled:
    rng = np.random.default_rng(seed)
    labels = [("safe", "unsafe")[i % 2] for i in range(n)]
    texts = [f"{' '.join(rng.choice(WORDS[y], rng.integers(1, 5)))} {i}" for i, y in enumerate(labels)]
    return Labelled.make(texts, labels, label_names=("safe", "unsafe"), positive="unsafe")


@pytest.fixture(scope="session")
def train() -> Labelled:
    return learnable(28)


@pytest.fixture(scope="session")
def validation() -> Labelled:
    return learnable(12, seed=1)


@pytest.fixture
def tuning() -> Tuning:
    return Tuning(epochs=4, batch_size=8, patience=0, precision="fp32", max_length=16, virtual_tokens=2, rank=2)
