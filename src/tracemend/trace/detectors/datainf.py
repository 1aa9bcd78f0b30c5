"""Suspicion by influence under DataInf's curvature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tracemend.progress import Progress
from tracemend.trace.detectors.curvature import mean_influence
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion
from tracemend.trace.scoring.datainf import DataInf


@dataclass(frozen=True, kw_only=True)
class DataInfInfluence(Detector):
    r"""Rank training labels by minus their mean DataInf influence on the validation set.

    .. math:: score_i = - \frac{1}{m} \sum_v \langle g_i, H^{-1} q_v \rangle

    Kwon et al. 2024 (arXiv 2310.00902), whose own use this is: the averaged gradient of clean validation examples,
    weighed by an inverse of the curvature in closed form, against each training gradient. See
    :class:`tracemend.trace.DataInf` for the formula. Made for LoRA; every adapter whose gradients can be had is taken.

    Attributes:
        damping: of the curvature, as a share of the mean squared gradient entry.

    Example:
        >>> DataInfInfluence().run(tuned, splits).table().head()
    """

    name = "trace.datainf"
    capabilities: ClassVar[frozenset[str]] = Detector.capabilities | {"gradients", "validation"}

    damping: float = 0.1

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Minus the mean score over the validation set.

        Raises:
            TraceError: ``damping`` is not positive, or the validation set is empty.
        """
        return mean_influence(subject, DataInf(damping=self.damping), progress)
