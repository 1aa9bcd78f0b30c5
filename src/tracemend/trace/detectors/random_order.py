"""Suspicion by chance: what every other detector must beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracemend.progress import Progress
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion

# A stream of its own: who makes wrong labels with the same seed draws from the seed alone, and an order by those very
# numbers would know which labels are wrong.
_ORDER = 13


@dataclass(frozen=True, kw_only=True)
class RandomOrder(Detector):
    """Rank training labels at random."""

    name = "trace.random"

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Uniform numbers in [0, 1), independent of a noise of the same seed."""
        n = len(subject.splits.train)
        return Suspicion(np.random.default_rng([self.seed, _ORDER]).random(n), ["drawn at random"] * n)
