"""Suspicion by the place on the data map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tracemend.progress import Progress
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion


@dataclass(frozen=True, kw_only=True)
class DataMaps(Detector):
    r"""Rank training labels by how little the model believed them, on average over the tuning.

    .. math:: \mu_i = \frac{1}{T} \sum_t p^t(y_i | x_i), \qquad \sigma_i = \sqrt{\frac{1}{T} \sum_t (p^t - \mu_i)^2}

    Data maps (Swayamdipta et al. 2020, arXiv 2009.10795) place an example by confidence :math:`\mu` and variability
    :math:`\sigma`; wrong labels gather where both are low ("hard to learn"). The score is :math:`1 - \mu`.

    Attributes:
        by: ``confidence``, or ``variability``, which ranks by :math:`\sigma` alone: the "ambiguous" examples, which the
            paper finds good to train on rather than wrong.

    Example:
        >>> DataMaps().run(tuned, splits).table()[["label", "score", "evidence"]]
    """

    name = "trace.data-maps"

    by: Literal["confidence", "variability"] = "confidence"

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """One less the mean probability of the label, or its spread."""
        found = subject.dynamics(progress)
        p = found.probability
        confidence, variability, right = p.mean(axis=0), p.std(axis=0), found.right.sum(axis=0)
        evidence = [
            f"over {len(found)} checkpoints the label has a mean probability of {mean:.2f} (spread {spread:.2f}) and "
            f"is predicted at {hits}"
            for mean, spread, hits in zip(confidence, variability, right, strict=True)
        ]
        return Suspicion(1 - confidence if self.by == "confidence" else variability, evidence)
