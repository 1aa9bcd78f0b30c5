"""Suspicion by being an outlier among the gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from sklearn.ensemble import IsolationForest

from tracemend.progress import Progress
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion
from tracemend.trace.gradients import per_example_gradients

_BLOCK = 64  # rows


@dataclass(frozen=True, kw_only=True)
class OutlierGradients(Detector):
    """Rank training labels by how far out their gradient lies among those of all training examples.

    Outlier gradient analysis (Chhabra et al. 2025, arXiv 2405.03869): detrimental examples are a minority that pulls in
    directions of its own, so an outlier detector on the gradients finds what influence functions would, without a
    Hessian and without a validation set. The gradients are those of the last state.

    Attributes:
        rule: ``forest``: an isolation forest, score: how few random cuts isolate the gradient; ``l1``, ``l2``: the
            gradient's norm.
        parts: groups of parameters to look at, as for :class:`tracemend.trace.TracIn`; none means the head where there
            is one (the paper takes the last layer) and the whole adapter where a model classifies by words.
        trees: of the forest.
        project: width that the gradients are projected to, as for :class:`tracemend.trace.TracIn`; None keeps them
            whole.

    Example:
        >>> OutlierGradients(rule="l1").run(classifier, splits).table().head()
    """

    name = "trace.outlier-gradients"
    capabilities: ClassVar[frozenset[str]] = Detector.capabilities | {"gradients"}

    at_least: ClassVar = {"trees": 1, "project": 1}

    rule: Literal["forest", "l1", "l2"] = "forest"
    parts: tuple[str, ...] = ()
    trees: int = 100
    project: int | None = None

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """The isolation forest's anomaly score (0 to 1), or the norm.

        Raises:
            TraceError: no such part.
        """
        head = ("head",) if subject.classifier.verbaliser is None else ()
        found = per_example_gradients(
            subject.classifier,
            subject.splits.train,
            parts=self.parts or head,
            precision=subject.precision,
            project=self.project,
            progress=progress,
        )
        if self.rule == "forest":
            grads = found.grads.numpy()
            scores = -IsolationForest(n_estimators=self.trees, random_state=self.seed).fit(grads).score_samples(grads)
        else:
            order = 1 if self.rule == "l1" else 2
            # Row blocks: the sum is taken in double precision, and a copy of all would be twice the gradients.
            blocks = found.grads.split(_BLOCK)
            scores = torch.cat([torch.linalg.vector_norm(rows.double(), order, dim=1) for rows in blocks]).numpy()
        middle = float(np.median(scores))
        what = "anomaly score" if self.rule == "forest" else f"{self.rule.upper()} norm"
        evidence = [f"{what} of the gradient {value:.3g}; the median example has {middle:.3g}" for value in scores]
        return Suspicion(scores, evidence)
