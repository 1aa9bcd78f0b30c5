"""Suspicion by forgetting events."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracemend.progress import Progress
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion


@dataclass(frozen=True, kw_only=True)
class Forgetting(Detector):
    r"""Rank training labels by how often the model learnt and lost them during the tuning.

    .. math:: f_i = \sum_t [\, \hat y_i^t = y_i, \; \hat y_i^{t+1} \ne y_i \,]

    Forgetting events (Toneva et al. 2019, arXiv 1812.05159), counted between checkpoints; the paper counts them between
    the steps that use an example. One that is never learnt counts as many as there are checkpoints, more than any
    other. It needs many checkpoints: with few of them most examples tie. With one, or with a classifier alone, only
    "never learnt" remains.

    Example:
        >>> Forgetting().run(tuned, splits).table().head()
    """

    name = "trace.forgetting"

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """The number of events."""
        right = subject.dynamics(progress).right
        events = (right[:-1] & ~right[1:]).sum(axis=0)
        never = right.sum(axis=0) == 0
        evidence = [
            f"predicted at none of {len(right)} checkpoints"
            if unlearnt
            else f"forgotten {count} times, predicted at {hits} of {len(right)} checkpoints"
            for count, unlearnt, hits in zip(events, never, right.sum(axis=0), strict=True)
        ]
        return Suspicion(np.where(never, len(right), events).astype(np.float64), evidence)
