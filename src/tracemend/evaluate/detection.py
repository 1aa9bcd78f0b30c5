"""How well suspicion scores find the labels that are wrong, where the truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from tracemend.errors import TracemendError


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Figures of a ranking by suspicion, and those of a ranking by chance.

    Attributes:
        ap: average precision of "the label is wrong"; NaN where no label is wrong.
        auroc: chance that a wrong label ranks above a right one; NaN where all labels are one or the other.
        precision_at_k: share of wrong labels among the ``k`` most suspicious.
        k: how many examples that is.
        chance: share of wrong labels: what ``ap`` and ``precision_at_k`` are for a random order.
        n: examples ranked.
    """

    ap: float
    auroc: float
    precision_at_k: float
    k: int
    chance: float
    n: int

    @property
    def metrics(self) -> dict[str, float]:
        """The figures, named as in result.json."""
        return {"detection_ap": self.ap, "detection_auroc": self.auroc, "precision_at_k": self.precision_at_k}

    @property
    def controls(self) -> dict[str, float]:
        """The same figures for a random order."""
        return {"detection_ap": self.chance, "detection_auroc": 0.5, "precision_at_k": self.chance}


def detection(suspicion: npt.ArrayLike, wrong: npt.ArrayLike, *, k: int | None = None) -> Detection:
    """Compare suspicion scores with which labels are wrong.

    Args:
        suspicion: one score an example [n], higher is more suspicious; NaN (never scored) ranks last.
        wrong: whether the label differs from the truth [n].
        k: how many of the most suspicious count for the precision (default: as many as labels are wrong).

    Raises:
        TracemendError: the shapes differ, there is no example, or ``k`` is not in 1..n.

    Example:
        >>> found = detection([0.9, 0.1, 0.8, 0.2], [True, False, False, False])
        >>> found.ap, found.chance
        (1.0, 0.25)
    """
    score = np.asarray(suspicion, dtype=np.float64)
    is_wrong = np.asarray(wrong, dtype=bool)
    if score.ndim != 1 or score.shape != is_wrong.shape or not len(score):
        raise TracemendError(
            f"suspicion scores have shape {score.shape} and wrong labels {is_wrong.shape}; expected [n] twice, n >= 1."
        )
    n, count = len(score), int(is_wrong.sum())
    k = max(1, count) if k is None else k
    if not 1 <= k <= n:
        raise TracemendError(f"k is {k}; expected 1 to {n}, the number of examples.")
    # Scikit-learn refuses NaN and infinities: ranks keep the order and the ties, and 0 lies below every rank.
    known = ~np.isnan(score)
    rank = np.zeros(n)
    rank[known] = np.unique(score[known], return_inverse=True)[1] + 1
    return Detection(
        ap=float(average_precision_score(is_wrong, rank)) if count else float("nan"),
        auroc=float(roc_auc_score(is_wrong, rank)) if 0 < count < n else float("nan"),
        precision_at_k=_precision_at(rank, is_wrong, k),
        k=k,
        chance=count / n,
        n=n,
    )


def _precision_at(rank: npt.NDArray[np.float64], wrong: npt.NDArray[np.bool_], k: int) -> float:
    """Precision of the top k; a tie at the cut counts by its share, so that the order of the rows does not."""
    cut = np.sort(rank)[-k]
    above, tied = rank > cut, rank == cut
    return float((wrong[above].sum() + (k - above.sum()) * wrong[tied].mean()) / k)
