"""Suspicion by the posterior of the true label."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tracemend.arrays import Doubles
from tracemend.data import Labelled
from tracemend.progress import Progress
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion
from tracemend.trace.em import check_labels, true_labels


@dataclass(frozen=True, kw_only=True)
class Em(Detector):
    r"""Rank training labels by the probability that another one is true.

    .. math:: P(t \mid x, y) \propto P(t \mid x) \, P(y \mid t), \qquad score = -\log P(y \mid x, y)

    Both factors are estimated by expectation and maximisation from the noisy labels and the clean validation set, out
    of fold, on frozen sentence embeddings; noise rates are estimated, not given. See
    :func:`tracemend.trace.true_labels`.

    Attributes:
        layers: of the network whose states are the embeddings, see :func:`tracemend.trace.embed`.
        rounds: fits after the first.
        folds: at most.
        weight: of a validation example beside a training example.
    """

    name = "trace.em"
    capabilities: ClassVar[frozenset[str]] = Detector.capabilities | {"validation"}

    layers: int = 1
    rounds: int = 4
    folds: int = 5
    weight: float = 3.0

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Minus the log of the given label's posterior."""
        train, validation = subject.splits.train, subject.splits.validation
        check_labels(train, validation)
        ours, theirs = (subject.embedded(part, progress, layers=self.layers) for part in ("train", "validation"))
        found = true_labels(
            ours,
            train.y,
            theirs,
            validation.y,
            len(train.labels),
            rounds=self.rounds,
            folds=self.folds,
            weight=self.weight,
            seed=self.seed,
        )
        return judged(found.posterior, found.predicted, train, "a model that has not seen it, knowing how labels err,")


def judged(posterior: npt.NDArray[np.floating[Any]], predicted: Doubles, train: Labelled, who: str) -> Suspicion:
    """A suspicion from the probabilities of the true labels, with a sentence that a person can check.

    The order is theirs. How sure they are is another matter: a fit to few labels is surer than it may be, so that the
    probability that a label is wrong is left to :func:`tracemend.trace.calibrated`.
    """
    rows = np.arange(len(train))
    own = posterior[rows, train.y]
    evidence = [
        f"{who} gives {label!r} a probability of {p:.2f}; from the text alone {likeliest!r} is the likeliest ({q:.2f})"
        for label, p, likeliest, q in zip(
            train.frame["label"],
            own,
            (train.labels[c] for c in predicted.argmax(axis=1)),
            predicted.max(axis=1),
            strict=True,
        )
    ]
    return Suspicion(np.log(1 / np.maximum(own, 1e-12)), evidence, posterior)  # -log(1) would be -0
