"""Suspicion by influence under EK-FAC's curvature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tracemend.progress import Progress
from tracemend.trace.detectors.curvature import mean_influence
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion
from tracemend.trace.scoring.ekfac import EkFac


@dataclass(frozen=True, kw_only=True)
class EkFacInfluence(Detector):
    r"""Rank training labels by minus their mean EK-FAC influence on the validation set.

    .. math:: score_i = - \frac{1}{m} \sum_v \langle g_i, H^{-1} q_v \rangle

    Grosse et al. 2023 (arXiv 2308.03296): influence functions with eigenvalue-corrected Kronecker factors, block by
    block of the adapter. See :class:`tracemend.trace.EkFac` for the formula, and for where the factors come from. The
    head and LoRA's matrices are what it is made for; a soft prompt is taken as a matrix of tokens by dimensions.

    Attributes:
        damping: of the curvature, as a share of the mean eigenvalue.

    Example:
        >>> EkFacInfluence().run(tuned, splits).table().head()
    """

    name = "trace.ekfac"
    capabilities: ClassVar[frozenset[str]] = Detector.capabilities | {"gradients", "validation"}

    damping: float = 0.1

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Minus the mean score over the validation set.

        Raises:
            TraceError: ``damping`` is not positive, or the validation set is empty.
        """
        return mean_influence(subject, EkFac(damping=self.damping), progress)
