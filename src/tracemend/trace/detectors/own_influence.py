"""Suspicion by self-influence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tracemend.progress import Progress
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion


@dataclass(frozen=True, kw_only=True)
class SelfInfluence(Detector):
    r"""Rank training labels by how much training on them lowers their own loss.

    .. math:: \sum_c w_c |g_i^c|^2

    Pruthi et al. 2020 (arXiv 2002.08484), section 4.1: examples that only themselves explain are memorised, and wrong
    labels are among those.
    """

    name = "trace.self-influence"
    capabilities: ClassVar[frozenset[str]] = Detector.capabilities | {"gradients"}

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Squared gradient norms, summed over the checkpoints by their learning rates."""
        found = subject.own_influence(progress)
        return Suspicion(found, [f"self-influence {value:.3g}" for value in found])
