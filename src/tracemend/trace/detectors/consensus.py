"""Suspicion by everything a clean validation set makes possible, put together as probabilities."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np

from tracemend.progress import Progress
from tracemend.trace.consensus import consensus
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion
from tracemend.trace.detectors.em import judged
from tracemend.tuning import Kind, Tuning


@dataclass(frozen=True, kw_only=True)
class Consensus(Detector):
    r"""Rank training labels by the probability that another one is true, on frozen and tuned evidence together.

    The posterior of the given label under :func:`tracemend.trace.consensus.consensus`: expectation and maximisation on
    frozen states of several layers and models tuned on the other folds, pooled, with the noise that is likeliest, and
    with what the groups of examples tell: :math:`score = -\log P(y \mid x, y)`.

    Attributes:
        layers: whose states are the frozen evidence, see :func:`tracemend.trace.embed`.
        folds: of the frozen states, at most.
        tuned_folds: of the tuned models, at most; each costs a tuning.
        epochs: of each fold's tuning; 0 leaves the tuned evidence out, and with it nearly all of the time.
        adapter: of the folds' models, whichever the classifier itself has.
    """

    name = "trace.consensus"
    capabilities: ClassVar[frozenset[str]] = Detector.capabilities | {"validation"}

    layers: int = 4
    folds: int = 5
    tuned_folds: int = 3
    epochs: int = 3
    adapter: Kind = "lora"

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """As the others, with less of the tuning."""
        return cls(folds=2, tuned_folds=2, epochs=1), *super().tiny()[1:]

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Minus the log of the given label's posterior."""
        train, validation = subject.splits.train, subject.splits.validation
        features = tuple(subject.embedded(part, progress, layers=self.layers) for part in ("train", "validation"))
        classifier = subject.classifier
        tuning = None
        if self.epochs:
            tuning = Tuning(
                adapter=self.adapter,
                epochs=self.epochs,
                max_length=classifier.max_length,
                words=classifier.words,
                seed=self.seed,
            )
        found = consensus(
            classifier.language_model,
            train,
            validation,
            (features[0], features[1]),
            tuning,
            folds=self.folds,
            tuned_folds=self.tuned_folds,
            seed=self.seed,
            progress=progress,
        )
        sources = "a fit to frozen states and models tuned on other folds" if self.epochs else "a fit to frozen states"
        who = f"the pool of {sources}, knowing how labels err,"
        # Its beliefs are toned down to what trusted examples bear out.
        wrong = 1.0 - found.posterior[np.arange(len(train)), train.y]
        return replace(judged(found.posterior, found.predicted, train, who), wrong=wrong)
