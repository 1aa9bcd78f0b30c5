"""Suspicion by chance: what every other detector must beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracemend.progress import Progress
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion


@dataclass(frozen=True, kw_only=True)
class RandomOrder(Detector):
    """Rank training labels at random."""

    name = "trace.random"

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Uniform numbers in [0, 1)."""
        n = len(subject.splits.train)
        return Suspicion(np.random.default_rng(self.seed).random(n), ["drawn at random"] * n)
