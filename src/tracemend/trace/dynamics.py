"""Training dynamics: what the classifier said of each example at each checkpoint of its tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tracemend.data import Labelled
from tracemend.progress import Progress
from tracemend.trace.gradients.collect import Precision
from tracemend.trace.tracin import at
from tracemend.tuning import Checkpoint, TextClassifier


@dataclass(frozen=True, eq=False)
class Dynamics:
    """Predictions on the same examples over the checkpoints, earliest first.

    Attributes:
        logits: [k, n, C].
        y: label indices [n].
    """

    logits: npt.NDArray[np.float32]
    y: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def probability(self) -> npt.NDArray[np.float64]:
        """Probability of each example's own label [k, n]."""
        shifted = self.logits.astype(np.float64)
        shifted -= shifted.max(axis=2, keepdims=True)
        own = np.take_along_axis(shifted, self.y[None, :, None], axis=2)[..., 0]
        return np.asarray(np.exp(own) / np.exp(shifted).sum(axis=2))

    @property
    def margins(self) -> npt.NDArray[np.float64]:
        """Logit of each example's own label less the highest other logit [k, n]."""
        logits = self.logits.astype(np.float64)
        own = np.take_along_axis(logits, self.y[None, :, None], axis=2)[..., 0]
        np.put_along_axis(logits, np.broadcast_to(self.y[None, :, None], (*logits.shape[:2], 1)), -np.inf, axis=2)
        return np.asarray(own - logits.max(axis=2))

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether the likeliest label is the example's own [k, n]."""
        return np.asarray(self.logits.argmax(axis=2) == self.y[None, :])


def dynamics(
    classifier: TextClassifier,
    data: Labelled,
    checkpoints: Sequence[Checkpoint] = (),
    *,
    precision: Precision = "fp32",
    progress: Progress = Progress(),
) -> Dynamics:
    """Predict the examples at every checkpoint: one forward pass over the data each, one checkpoint at a time.

    Args:
        classifier: its parameters are the same afterwards, bit for bit.
        data: usually what it was tuned on.
        checkpoints: of its tuning; none takes the classifier as it is.
        precision: of the passes.

    Example:
        >>> dynamics(tuned.classifier, splits.train, tuned.until_best()).logits.shape
        (5, 500, 2)
    """
    states: Sequence[Checkpoint | None] = list(checkpoints) or [None]
    found = np.zeros((len(states), len(data), len(classifier.labels)), dtype=np.float32)
    for number, checkpoint in enumerate(states):
        with at(classifier, checkpoint):
            task = f"predict at checkpoint {number + 1}/{len(states)}"
            found[number] = classifier.predict(data.pairs, precision=precision, progress=progress, task=task)
    return Dynamics(found, data.y)
