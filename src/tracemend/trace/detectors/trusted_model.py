"""Suspicion by a classifier that has seen the validation set alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tracemend.progress import Progress
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion
from tracemend.trace.detectors.em import judged
from tracemend.trace.em import check_labels, true_labels


@dataclass(frozen=True, kw_only=True)
class TrustedModel(Detector):
    r"""Rank training labels by their loss under a classifier fitted on the validation set and nothing else.

    .. math:: -\log P(y \mid x) \quad \text{in nats}

    Logistic regression on frozen sentence embeddings. What a clean validation set gives by itself: a detector that
    uses one should be better.

    Attributes:
        layers: of the network whose states are the embeddings, see :func:`tracemend.trace.embed`.
    """

    name = "trace.trusted-model"
    capabilities: ClassVar[frozenset[str]] = Detector.capabilities | {"validation"}

    layers: int = 1

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Cross-entropy under the fit; its own probabilities are the evidence."""
        train, validation = subject.splits.train, subject.splits.validation
        check_labels(train, validation)
        ours, theirs = (subject.embedded(part, progress, layers=self.layers) for part in ("train", "validation"))
        found = true_labels(ours, train.y, theirs, validation.y, len(train.labels), rounds=0)
        return judged(found.predicted, found.predicted, train, f"a model of the {len(validation)} validation labels")
