"""Distillation into a student that is told to be less sure of examples a shortcut decides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tracemend.arrays import Doubles
from tracemend.data import Labelled
from tracemend.errors import TuningError
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.runs import fingerprint
from tracemend.tuning import Tuning
from tracemend.tuning.own_loss import tune_on
from tracemend.tuning.tune import Tuned, class_weights


def softened(p: npt.ArrayLike, degree: npt.ArrayLike) -> Doubles:
    r"""Probabilities made the flatter the higher an example's shortcut degree (Du et al. 2021).

    .. math:: s_{ij} = p_{ij}^{1 - b_i} / \textstyle\sum_k p_{ik}^{1 - b_i}

    Args:
        p: probabilities [n, C].
        degree: b, from 0 (p stays as it is) to 1 (all labels become equally probable) [n].

    Raises:
        TuningError: a degree is out of range, or there are not as many as rows.

    Example:
        >>> softened([[0.9, 0.1]], [1.0])
        array([[0.5, 0.5]])
    """
    of, b = np.asarray(p, dtype=np.float64), np.asarray(degree, dtype=np.float64)
    if b.shape != of.shape[:1] or not ((b >= 0) & (b <= 1)).all():
        raise TuningError(f"{b.size} degrees for {len(of)} rows; give one a row, from 0 to 1.")
    raised = np.clip(of, 1e-12, None) ** (1 - b)[:, None]
    found: Doubles = raised / raised.sum(axis=1, keepdims=True)
    return found


def distil(
    model: LanguageModel,
    train: Labelled,
    validation: Labelled,
    targets: Doubles,
    tuning: Tuning,
    *,
    alpha: float = 0.8,
    out: Path | None = None,
    progress: Progress = Progress(),
) -> Tuned:
    r"""Tune a fresh classifier on labels and on a teacher's probabilities at once.

    .. math:: L = (1 - \alpha) H(y, p) + \alpha H(s, p)

    Args:
        model: what the student is made from.
        train: examples with their labels y.
        validation: whose average precision each checkpoint records; it chooses none.
        targets: the teacher's probabilities s, as they shall be learnt [n, C].
        tuning: of the student, to its last epoch, in float32.
        alpha: share of the teacher.
        out: folder for the checkpoints.

    Raises:
        TuningError: alpha is out of range, or the targets are not one a label and example.
    """
    if not 0 <= alpha <= 1:
        raise TuningError(f"alpha is {alpha}; it is the teacher's share, from 0 to 1.")
    if targets.shape != (len(train), len(train.labels)):
        raise TuningError(
            f"the targets are {targets.shape}; expected one row an example and one column a label, "
            f"({len(train)}, {len(train.labels)})."
        )
    classifier = tuning.classifier(model, train.labels)
    rows, cut = classifier.encode(train.pairs)
    y = torch.tensor(train.y, device=classifier.device)
    soft = torch.tensor(targets, dtype=torch.float32, device=classifier.device)
    weights = class_weights(train).to(classifier.device) if tuning.class_weights else None
    entropy = torch.nn.functional.cross_entropy

    def loss(part: npt.NDArray[np.int64]) -> Tensor:
        logits, at = classifier.logits(classifier.batch([rows[i] for i in part])), torch.as_tensor(part)
        return (1 - alpha) * entropy(logits, y[at], weight=weights) + alpha * entropy(logits, soft[at])

    work = {"alpha": alpha, "targets": fingerprint(targets)}
    return tune_on(loss, classifier, rows, train, validation, tuning, work=work, cut=cut, out=out, progress=progress)
