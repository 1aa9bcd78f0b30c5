"""Suspicion by influence on the validation set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from tracemend.data import Labelled
from tracemend.progress import Progress
from tracemend.trace.candidates import Drivers, candidates, driver_weights
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion
from tracemend.trace.tracin import TracIn

Kernel = Literal["cosine", "dot", "renormalised"]
# Which side is divided by its norm: training, query.
_NORMALISED: Mapping[Kernel, tuple[bool, bool]] = {
    "cosine": (True, True),
    "dot": (False, False),
    "renormalised": (True, False),
}


@dataclass(frozen=True, kw_only=True)
class MeanInfluence(Detector):
    r"""Rank training labels by minus their mean TracIn score on the validation set.

    .. math:: score_i = - \sum_v w_v \sum_c \eta_c \langle g_i^c, q_v^c \rangle \Big/ \sum_v w_v

    Pruthi et al. 2020 (arXiv 2002.08484). Plain products follow the few examples with a large loss, on either side;
    Hammoudeh and Lowd 2022 (arXiv 2201.10055) divide by the norms. With both sides divided that is their gradient
    aggregated similarity (GAS), here ``cosine``.

    Attributes:
        driver: validation examples that count, see :func:`tracemend.trace.driver_weights`.
        kernel: ``cosine`` divides both gradients by their norms; ``renormalised`` the training example's alone, so that
            a validation example counts the more, the more wrong the model is on it; ``dot`` neither.
        project: numbers kept of a matrix's long side, see :class:`tracemend.trace.TracIn`; what full tuning needs.

    Example:
        >>> MeanInfluence(kernel="renormalised").run(tuned, splits).table().head()
    """

    name = "trace.tracin"
    capabilities: ClassVar[frozenset[str]] = Detector.capabilities | {"gradients", "validation"}

    driver: Drivers = "all"
    kernel: Kernel = "cosine"
    project: int | None = None

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Minus the weighted mean of the scores.

        Raises:
            TraceError: no validation example counts.
        """
        of_train, of_query = _NORMALISED[self.kernel]
        validation = subject.splits.validation
        tracin = TracIn(normalise_train=of_train, normalise_query=of_query, project=self.project)
        found = subject.influence(tracin, progress)
        weights = driver_weights(found.query_logits, validation.y, self.driver)
        ranked = candidates(found.scores, weights=weights, rule="weighted")
        return Suspicion(ranked.harm / max(float(np.sum(weights)), 1e-12), opposed(found.scores, validation))


def opposed(scores: npt.NDArray[np.floating], validation: Labelled) -> list[str]:
    """A sentence a training example about the validation examples that it opposes.

    Args:
        scores: influence [n, m], negative for opponents.
    """
    against = (scores < 0).sum(axis=1)
    strongest, text = scores.argmin(axis=1), list(validation.frame["text"])
    return [
        f"opposes {count} of {len(validation)} validation examples, most of all {text[query][:80]!r}"
        for count, query in zip(against, strongest, strict=True)
    ]
