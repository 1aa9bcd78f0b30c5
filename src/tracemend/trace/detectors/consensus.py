"""Suspicion by everything a clean validation set makes possible, put together as probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from tracemend.progress import Progress
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion
from tracemend.trace.detectors.em import judged
from tracemend.trace.em import settled, true_labels
from tracemend.trace.fold_tuned import Judged, fold_tuned, pooled
from tracemend.tuning import Kind, Tuning


@dataclass(frozen=True, kw_only=True)
class Consensus(Detector):
    r"""Rank training labels by the probability that another one is true, on frozen and tuned evidence together.

    1. The posterior of the true labels by expectation and maximisation on frozen states of several layers
       (:class:`Em`).
    2. A model tuned for each fold on the labels believed in the others and on the validation labels judges its fold
       (:func:`tracemend.trace.fold_tuned.fold_tuned`).
    3. Both predictions in a logarithmic opinion pool whose weights are learnt on validation examples out of fold.
    4. With the noise rates that agree with it, the posterior of each given label:
       :math:`score = -\log P(y \mid x, y)`.

    Attributes:
        layers: whose states are the frozen evidence, see :func:`tracemend.trace.embed`.
        folds: at most.
        epochs: of each fold's tuning; 0 leaves the tuned evidence out, and with it nearly all of the time.
        adapter: of the folds' models, whichever the classifier itself has.
    """

    name = "trace.consensus"
    capabilities: ClassVar[frozenset[str]] = Detector.capabilities | {"validation"}

    layers: int = 4
    folds: int = 5
    epochs: int = 3
    adapter: Kind = "lora"

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """As the others, with less of the tuning."""
        return cls(folds=2, epochs=1), *super().tiny()[1:]

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Minus the log of the given label's posterior."""
        train, validation = subject.splits.train, subject.splits.validation
        ours, theirs = (subject.embedded(part, progress, layers=self.layers) for part in ("train", "validation"))
        frozen = true_labels(ours, train.y, theirs, validation.y, len(train.labels), folds=self.folds, seed=self.seed)
        sources = [Judged(frozen.predicted, frozen.trusted)]
        if self.epochs:
            classifier = subject.classifier
            tuning = Tuning(
                adapter=self.adapter,
                epochs=self.epochs,
                max_length=classifier.max_length,
                seed=self.seed,
            )
            sources.append(
                fold_tuned(
                    classifier.language_model,
                    train,
                    validation,
                    frozen.posterior,
                    tuning,
                    folds=self.folds,
                    seed=self.seed,
                    progress=progress,
                )
            )
        both, weights = pooled(sources, validation.y)
        progress.note("consensus", **dict(zip(("frozen", "tuned"), (float(w) for w in weights), strict=False)))
        posterior, _ = settled(both.train, train.y)
        return judged(
            posterior, both.train, train, f"{len(sources)} models that have not seen it, knowing how labels err,"
        )
