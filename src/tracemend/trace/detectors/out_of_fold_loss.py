"""Suspicion by out-of-fold loss on frozen embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracemend.progress import Progress
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion


@dataclass(frozen=True, kw_only=True)
class OutOfFoldLoss(Detector):
    r"""Rank training labels by the loss of a model that has not seen them.

    .. math:: -\log p_y \quad \text{in nats}

    Chong, Hong and Manning 2022 (arXiv 2205.12702), here with logistic regression on frozen sentence embeddings.
    Authors are not cut between folds where they are known: one who has a style would vouch for himself.

    Attributes:
        folds: at most; fewer where a label has fewer examples.
    """

    name = "trace.out-of-fold-loss"

    folds: int = 5

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Cross-entropy of each example under its own label, out of fold."""
        train = subject.splits.train
        p = subject.out_of_fold(self.folds, self.seed, progress)
        own = p[np.arange(len(train)), train.y]
        evidence = [f"a model that has not seen it gives the label a probability of {value:.2f}" for value in own]
        return Suspicion(-np.log(np.maximum(own, 1e-12)), evidence, p)
