"""Probing via prompting: a prefix is tuned before a frozen decoder until it says the labels' words."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tracemend.arrays import Floats
from tracemend.data import Labelled
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.tuning import Checkpoint, Tuning, tune


def prefix_hits(
    model: LanguageModel,
    parts: Mapping[str, Labelled],
    words: Mapping[str, str],
    *,
    tokens: int,
    epochs: int,
    learning_rate: float = 1e-2,
    batch_size: int = 16,
    seed: int = 0,
    progress: Progress = Progress(),
) -> Floats:
    r"""Whether a tuned prefix gets each test text right (Li et al. 2022, arXiv 2207.01736).

    The model stays as it is, and there is no classifier beside it: what is trained are keys and values of virtual
    tokens, :math:`\min_P -\sum_i \log p(w_{y_i} | P, x_i)` over the labels' words w. So whatever answers is the model's
    own way to the next word, which has fewer ways to learn the task by itself than a probe on top. The paper adapts
    GPT-2 with 200 virtual tokens; here :func:`tracemend.tuning.tune` does it with PEFT's prefix tuning, and dev chooses
    the epoch.

    Args:
        model: a decoder; its weights are not touched.
        parts: train, dev and test.
        words: a word for each label.
        tokens: virtual ones.
        epochs: over train.
        learning_rate: the highest; a prefix that has not moved after some epochs wants a larger one.
        batch_size: texts of a step.
        seed: of the prefix and the order.
        progress: where events go.

    Returns:
        1 for a text that is right, else 0 [n].

    Raises:
        TuningError: dev lacks a label, words collide, or the window has no room.

    Example:
        >>> prefix_hits(load("smollm2"), parts, {"0": "negative", "1": "positive"}, tokens=10, epochs=5).mean()
    """
    tuning = Tuning(
        adapter="prefix", virtual_tokens=tokens, epochs=epochs, learning_rate=learning_rate, batch_size=batch_size,
        patience=0, words=dict(words), seed=seed,
    )  # fmt: skip
    tuned = tune(model, parts["train"], parts["dev"], tuning, progress=progress)

    def hits(part: str, checkpoint: Checkpoint) -> Floats:
        tuned.classifier.restore(checkpoint.load_state())
        said = tuned.classifier.predict(parts[part].pairs, batch_size=batch_size).argmax(1)
        found: Floats = (said == parts[part].y).astype(np.float64)
        return found

    # By accuracy, as everything here, not by the average precision that a tuning stops by: which of two words is said
    # hangs on where their threshold lies as well.
    best = max(tuned.checkpoints, key=lambda checkpoint: (hits("dev", checkpoint).mean(), checkpoint.step))
    return hits("test", best)
