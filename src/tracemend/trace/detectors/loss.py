"""Suspicion by the tuned model's own loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from tracemend.progress import Progress
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion


@dataclass(frozen=True, kw_only=True)
class Loss(Detector):
    r"""Rank training labels by the loss of the classifier that was tuned on them.

    .. math:: -\log p_y \quad \text{in nats}

    The cheapest signal, and one that fades as the model learns the wrong labels by heart.
    """

    name = "trace.loss"

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Cross-entropy of each example under its own label."""
        train = subject.splits.train
        p = softmax(subject.logits(progress).astype(np.float64), axis=1)
        own = p[np.arange(len(train)), train.y]
        evidence = [f"the tuned model gives the label a probability of {value:.2f}" for value in own]
        return Suspicion(-np.log(np.maximum(own, 1e-12)), evidence)
