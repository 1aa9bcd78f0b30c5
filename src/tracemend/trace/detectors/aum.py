"""Suspicion by the area under the margin."""

from __future__ import annotations

from dataclasses import dataclass

from tracemend.progress import Progress
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion


@dataclass(frozen=True, kw_only=True)
class Aum(Detector):
    r"""Rank training labels by how far below the others their logit lay, on average over the tuning.

    .. math:: AUM(x, y) = \frac{1}{T} \sum_t \Big( z_y^t(x) - \max_{c \ne y} z_c^t(x) \Big)

    Area under the margin (Pleiss et al. 2020, arXiv 2001.10528), over the checkpoints; the score is minus it. A right
    label is helped by the examples like it, a wrong one has them against it until it is learnt by heart. The paper's
    threshold examples, which cost a tuning with one more label, only cut the ranking off and are not needed for it.

    Example:
        >>> Aum().run(tuned, splits).table().head()
    """

    name = "trace.aum"

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Minus the mean margin, in units of the logits."""
        found = subject.dynamics(progress)
        area = found.margins.mean(axis=0)
        evidence = [
            f"over {len(found)} checkpoints the label's logit lies {abs(value):.2f} "
            f"{'below' if value < 0 else 'above'} the highest other one on average"
            for value in area
        ]
        return Suspicion(-area, evidence)
