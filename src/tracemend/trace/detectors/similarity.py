"""Suspicion by similarity to the validation set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tracemend.errors import TraceError
from tracemend.progress import Progress
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion
from tracemend.trace.similarity import nearest_opposite, similarity_scores


@dataclass(frozen=True, kw_only=True)
class Similarity(Detector):
    """Rank training labels by minus their mean label-signed similarity to the validation set.

    The rule of TracIn's cosine with sentence embeddings of the untuned model in place of gradients.
    """

    name = "trace.similarity"
    capabilities: ClassVar[frozenset[str]] = Detector.capabilities | {"validation"}

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Minus the mean of the signed cosines.

        Raises:
            TraceError: there is no validation example.
        """
        train, validation = subject.splits.train, subject.splits.validation
        if not len(validation):
            raise TraceError(f"{self.name} compares with validation examples, of which there is none; give --valid.")
        ours, theirs = subject.embedded("train", progress), subject.embedded("validation", progress)
        signed = similarity_scores(ours, train.y, theirs, validation.y)
        where, cosine = nearest_opposite(ours, train.y, among=theirs, among_y=validation.y)
        text, label = list(validation.frame["text"]), list(validation.frame["label"])
        evidence = [
            "no validation example has another label"
            if at < 0
            else f"cosine {near:.2f} with {text[at][:80]!r}, which is {label[at]}"
            for at, near in zip(where, cosine, strict=True)
        ]
        return Suspicion(-signed.mean(axis=1), evidence)
