"""Suspicion by the labels of the others, where none can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tracemend.progress import Progress
from tracemend.trace.cross import cross_posterior
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion
from tracemend.trace.detectors.em import judged
from tracemend.trace.groups import groups_of


@dataclass(frozen=True, kw_only=True)
class OthersLabels(Detector):
    r"""Rank training labels by the probability that another one is true, where any label may be wrong.

    .. math:: P(t \mid x, y) \propto P(t \mid x) \, P(y \mid t), \qquad score = -\log P(y \mid x, y)

    Training and validation examples are cut into folds together, and each is judged by a fit to the others' labels on
    frozen states, whose noise the confident joint tells; an author whose labels are denied again and again is believed
    less. See :func:`tracemend.trace.cross_posterior`. It is what ``tracemend repair`` decides by where no label is
    trusted.

    Attributes:
        layers: of the network whose states are the features, see :func:`tracemend.trace.embed`.
        folds: at most.
        steps: of the alternation between posterior and fit.
    """

    name = "trace.others-labels"

    layers: int = 4
    folds: int = 5
    steps: int = 3

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Minus the log of the given label's posterior; the same for all where texts do not tell their labels."""
        train, validation = subject.splits.train, subject.splits.validation
        features = [subject.embedded(part, progress, layers=self.layers) for part in ("train", "validation")]
        grouped = groups_of(train) is not None
        found = cross_posterior(
            np.concatenate(features),
            np.concatenate([train.y, validation.y]),
            len(train.labels),
            groups=[*train.frame["group"], *validation.frame["group"]] if grouped else None,
            folds=self.folds,
            steps=self.steps,
            seed=self.seed,
        )
        n = len(train)
        if not found.told:
            why = "out of fold, the texts tell the labels no better than chance does"
            progress.note("the labels carry no signal", reason=why)
            said = ["nothing can be said of this label: the others' texts do not tell theirs"] * n
            return Suspicion(np.zeros(n), said, found.given[:n], nothing=why)
        return judged(found.posterior[:n], found.given[:n], train, "a fit to the others' labels, knowing how they err,")
