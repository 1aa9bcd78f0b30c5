"""Tiny classifiers of every family that one word decides, and untuned ones with every adapter."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tracemend.models import tiny
from tracemend.tuning import TextClassifier

LABELS = ("safe", "unsafe")
ARCHITECTURES = ("bert", "gpt2", "llama", "t5")
PLANTED = "toxic"
_FILLER = ["movie", "film", "people", "day", "reply", "you", "we", "they", "is", "was", "very", "so", "to", "of", "in"]

PAIRS = [
    ("you are terrible and i hate this film so very much", None),
    ("good movie", None),
    ("why would you do that", "thanks, great people"),
    ("nice", None),
    ("what an awful awful day", "stop"),
]


def fillers(n: int, *, planted: bool, seed: int) -> list[tuple[str, str | None]]:
    """Texts of six to nine words that mean nothing, with the planted word inside each or none."""
    rng = np.random.default_rng(seed)
    made: list[tuple[str, str | None]] = []
    for _ in range(n):
        words = rng.choice(_FILLER, rng.integers(5, 9)).tolist()
        words.insert(int(rng.integers(1, len(words))), PLANTED if planted else str(rng.choice(_FILLER)))
        made.append((" ".join(words), None))
    return made


def decided_by_one_word(architecture: str) -> TextClassifier:
    """Unsafe exactly where the planted word stands."""
    classifier = TextClassifier(tiny(architecture), LABELS, kind="lora", rank=4, max_length=64)
    rows, _ = classifier.encode(fillers(96, planted=False, seed=1) + fillers(96, planted=True, seed=2))
    y = torch.tensor([0] * 96 + [1] * 96)
    optimizer = torch.optim.AdamW(classifier.trainable().values(), lr=1e-2)
    order = np.random.default_rng(0)
    for _ in range(100):
        part = order.choice(192, 32, replace=False)
        losses, _ = classifier.measure(classifier.batch([rows[i] for i in part]), y[part])
        optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return classifier


@pytest.fixture(scope="session")
def decided() -> Callable[[str], TextClassifier]:
    made: dict[str, TextClassifier] = {}

    def build(architecture: str) -> TextClassifier:
        if architecture not in made:
            made[architecture] = decided_by_one_word(architecture)
        return made[architecture]

    return build


@pytest.fixture(scope="session")
def make() -> Callable[..., TextClassifier]:
    """A classifier whose adapter was moved off its start, where LoRA's B is zero."""

    def build(architecture: str = "bert", kind: str = "prompt", **options: object) -> TextClassifier:
        given = {"virtual_tokens": 3, "rank": 2, "max_length": 48} | options
        classifier = TextClassifier(tiny(architecture), LABELS, kind=kind, **given)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in classifier.trainable().values():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        return classifier

    return build
