"""Tiny classifiers and a handful of examples of unequal length."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pytest
import torch

from tracemend.data import Labelled, Splits
from tracemend.models import tiny
from tracemend.trace.detectors import Loss
from tracemend.tuning import Adapted, TextClassifier

LABELS = ("safe", "unsafe")
TEXTS = [
    "good movie",
    "you are terrible and i hate this film so very much",
    "nice",
    "what an awful awful day",
    "stop",
    "please love the people",
    "why would you do that to a sad film",
]
REPLIES = [None, "thanks", None, "no why", None, None, "yes"]


@pytest.fixture
def data() -> Labelled:
    labels = ["safe", "unsafe", "safe", "unsafe", "unsafe", "safe", "safe"]
    return Labelled.make(TEXTS, labels, replies=REPLIES, label_names=LABELS)


def made() -> tuple[TextClassifier, Splits]:
    """A classifier tuned on 24 messages, a quarter of the labels wrong, and its splits."""
    _, classifier, splits = Loss.tiny()
    return classifier, splits


A = TypeVar("A", bound=Adapted)


def shaken(classifier: A, seed: int = 1) -> A:
    """Move the adapter off its start, where LoRA's B is zero and half of the gradients vanish."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in classifier.trainable().values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return classifier


@pytest.fixture
def make() -> Callable[..., TextClassifier]:
    def build(architecture: str = "bert", kind: str = "prompt", labels: tuple[str, ...] = LABELS) -> TextClassifier:
        model = tiny(architecture)
        return shaken(TextClassifier(model, labels, kind=kind, virtual_tokens=3, rank=2, max_length=32))

    return build
