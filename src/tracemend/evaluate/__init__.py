"""How good a classifier is, whether it got better, and how well wrong labels were found.

Every comparison is paired and carries its interval; what the interval does not show is not claimed.
"""

from __future__ import annotations

from tracemend.evaluate.bootstrap import Comparison, Share, paired_bootstrap, recovered_share
from tracemend.evaluate.compare import Difference, holm, paired_difference
from tracemend.evaluate.curve import curve_figure
from tracemend.evaluate.detection import Detection, detection
from tracemend.evaluate.er_test import Axes, ErTest, compared, er_test
from tracemend.evaluate.intervals import gap_interval, mean_interval
from tracemend.evaluate.metrics import METRICS, average_precision, predictions, scores, threshold

__all__ = [
    "METRICS",
    "Axes",
    "Comparison",
    "Detection",
    "Difference",
    "ErTest",
    "Share",
    "average_precision",
    "compared",
    "curve_figure",
    "detection",
    "er_test",
    "gap_interval",
    "holm",
    "mean_interval",
    "paired_bootstrap",
    "paired_difference",
    "predictions",
    "recovered_share",
    "scores",
    "threshold",
]
