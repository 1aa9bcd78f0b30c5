"""Labelled text in one shape, and prompts with completions: readers that name the bad rows, and exporters.

Also splits without leaks, label noise made on purpose, reference data sets, and the embedded demo set.
"""

from __future__ import annotations

from tracemend.data.completions import Completions, CompletionSplits
from tracemend.data.demo import demo
from tracemend.data.export import write
from tracemend.data.noise import KINDS, Noise, corrupt
from tracemend.data.parlai import bot_adversarial_dialogue, multi_turn_safety, single_turn_safety
from tracemend.data.readers import read, read_completions, read_texts, read_unlabelled
from tracemend.data.reference import REFERENCES, available, reference
from tracemend.data.schema import Examples, Labelled, Splits
from tracemend.data.splits import make_splits, sample

__all__ = [
    "KINDS",
    "REFERENCES",
    "CompletionSplits",
    "Completions",
    "Examples",
    "Labelled",
    "Noise",
    "Splits",
    "available",
    "bot_adversarial_dialogue",
    "corrupt",
    "demo",
    "make_splits",
    "multi_turn_safety",
    "read",
    "read_completions",
    "read_texts",
    "read_unlabelled",
    "reference",
    "sample",
    "single_turn_safety",
    "write",
]
