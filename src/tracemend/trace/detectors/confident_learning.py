"""Suspicion by confident learning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracemend.progress import Progress
from tracemend.trace.confident import Quality, label_quality, pruned
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion


@dataclass(frozen=True, kw_only=True)
class ConfidentLearning(Detector):
    r"""Rank training labels by confident learning: those that it prunes first, the least supported ones on top.

    .. math:: score = 1 - quality + [\, \text{pruned} \,]

    Northcutt, Jiang and Chuang 2021 (arXiv 1911.00068), on out-of-fold probabilities of logistic regression on frozen
    sentence embeddings. The confident joint estimates how many examples labelled i are truly j; "prune by noise rate"
    takes as many, by the margin of j over i.

    Attributes:
        quality: what ranks within the pruned and within the others, see :func:`tracemend.trace.label_quality`.
        prune: put the pruned first; else the quality ranks alone.
        folds: at most; fewer where a label has fewer examples.

    Example:
        >>> found = ConfidentLearning().run(classifier, splits).table()
        >>> found[found["score"] >= 1]  # what the confident joint counts as wrong
    """

    name = "trace.confident-learning"

    quality: Quality = "normalised-margin"
    prune: bool = True
    folds: int = 5

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """One less the quality of the label, plus one where it is pruned.

        Raises:
            TraceError: a label has one example alone, or all examples have one label.
        """
        train = subject.splits.train
        p = subject.out_of_fold(self.folds, self.seed, progress)
        poor = 1 - label_quality(train.y, p, self.quality)
        issue = pruned(train.y, p) if self.prune else np.zeros(len(train), dtype=bool)
        likeliest = p.argmax(axis=1)
        evidence = [
            f"a model that has not seen it gives the label {p[i, train.y[i]]:.2f} and {train.labels[likeliest[i]]} "
            f"{p[i, likeliest[i]]:.2f}{'; among those that the confident joint counts as wrong' if issue[i] else ''}"
            for i in range(len(train))
        ]
        return Suspicion(poor + issue, evidence, p)
