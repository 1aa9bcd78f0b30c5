"""Suspicion by G-BAIR's vote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tracemend.progress import Progress
from tracemend.trace.candidates import candidates, driver_weights
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion
from tracemend.trace.tracin import TracIn


@dataclass(frozen=True, kw_only=True)
class Gbair(Detector):
    """Rank training labels by how many validation errors have them among their strongest opponents.

    G-BAIR (Mozes et al. 2023, arXiv 2302.06598) as reconstructed: cosine of soft-prompt gradients at the last state,
    misclassified validation examples vote for their ``top`` opponents. An adapter without a prompt is traced whole.

    Attributes:
        top: opponents an error may vote for.
        project: numbers kept of a matrix's long side, see :class:`tracemend.trace.TracIn`; what full tuning needs.
    """

    name = "trace.gbair"
    capabilities: ClassVar[frozenset[str]] = Detector.capabilities | {"gradients", "validation"}

    top: int = 20
    project: int | None = None

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Votes; the fraction after the point breaks ties by the summed score.

        Raises:
            TraceError: no validation example is misclassified.
        """
        validation = subject.splits.validation
        prompt = subject.classifier.kind in ("prompt", "p-tuning")
        logits = subject.classifier.predict(validation.pairs, precision=subject.precision, progress=progress)
        weights = driver_weights(logits, validation.y, "misclassified")
        tracin = TracIn(parts=("prompt",) if prompt else (), project=self.project, precision=subject.precision)
        found = tracin.influence(subject.classifier, subject.splits.train, validation, progress=progress)
        ranked = candidates(found.scores, weights=weights, top=self.top)
        position = np.empty(len(ranked.order))
        position[ranked.order] = np.arange(len(ranked.order))
        errors = int(weights.sum())
        evidence = [f"among the {self.top} strongest opponents of {int(v)} of {errors} errors" for v in ranked.votes]
        return Suspicion(ranked.votes + 1 - (position + 1) / len(position), evidence)
