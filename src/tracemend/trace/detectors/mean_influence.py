"""Suspicion by influence on the validation set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tracemend.progress import Progress
from tracemend.trace.candidates import Drivers, candidates, driver_weights
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion
from tracemend.trace.tracin import TracIn


@dataclass(frozen=True, kw_only=True)
class MeanInfluence(Detector):
    """Rank training labels by minus their mean TracIn score on the validation set.

    Attributes:
        driver: validation examples that count, see :func:`tracemend.trace.driver_weights`.
        cosine: normalise both gradients.

    Example:
        >>> MeanInfluence().run(tuned, splits).table().head()
    """

    name = "trace.tracin"
    capabilities: ClassVar[frozenset[str]] = Detector.capabilities | {"gradients", "validation"}

    driver: Drivers = "all"
    cosine: bool = True

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Minus the weighted mean of the scores."""
        tracin = TracIn(normalise_train=self.cosine, normalise_query=self.cosine)
        validation = subject.splits.validation
        found = tracin.influence(
            subject.classifier, subject.splits.train, validation, checkpoints=subject.checkpoints, progress=progress
        )
        weights = driver_weights(found.query_logits, validation.y, self.driver)
        ranked = candidates(found.scores, weights=weights, rule="weighted")
        against = (found.scores < 0).sum(axis=1)
        strongest, text = found.scores.argmin(axis=1), list(validation.frame["text"])
        evidence = [
            f"opposes {count} of {len(validation)} validation examples, most of all {text[query][:80]!r}"
            for count, query in zip(against, strongest, strict=True)
        ]
        return Suspicion(ranked.harm / max(float(np.sum(weights)), 1e-12), evidence)
