"""Tuning on a loss of one's own, to the last epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tracemend.data import Labelled
from tracemend.evaluate import average_precision
from tracemend.progress import Progress
from tracemend.tuning.adapted import Adapted
from tracemend.tuning.classifier import TextClassifier
from tracemend.tuning.tune import Tuned, Tuning, fit


def tune_on(
    loss: Callable[[npt.NDArray[np.int64]], Tensor],
    classifier: TextClassifier,
    rows: Sequence[Sequence[int]],
    train: Labelled,
    validation: Labelled,
    tuning: Tuning,
    *,
    work: Mapping[str, Any],
    cut: int = 0,
    notes: Sequence[str] = (),
    model: Adapted | None = None,
    out: Path | None = None,
    progress: Progress = Progress(),
) -> Tuned:
    """Tune a classifier on a loss, in float32 and to the last epoch: validation chooses nothing.

    Args:
        loss: of the training examples at these positions, a mean, with autograd.
        classifier: fresh; it is the tuned one afterwards.
        rows: token ids of each training example.
        train: the examples.
        validation: whose average precision each checkpoint records.
        tuning: of all but the loss.
        work: what tells this loss from others, as JSON values; checkpoints of another are refused.
        cut: how many training texts were cut to the classifier's length.
        notes: further sentences for a person.
        model: what is tuned, where it is more than the classifier.
        out: folder for the checkpoints; those that are there are not tuned again.

    Raises:
        TuningError: see :func:`tracemend.tuning.tune.fit`.

    Example:
        >>> tune_on(loss, classifier, rows, train, validation, Tuning(), work={"strength": 10.0})  # doctest: +SKIP
    """
    began = time.monotonic()

    def validate() -> dict[str, float]:
        p = classifier.probabilities(validation.pairs, progress=progress, task="validate")
        return {"ap": average_precision(validation.y, p, validation.positive_index)}

    prints = {
        "model": classifier.language_model.fingerprint,
        "train": train.fingerprint,
        "validation": validation.fingerprint,
        "loss": dict(work),
    }
    last = replace(tuning, patience=0, precision="fp32")
    lengths = [len(row) for row in rows]
    done, best = fit(
        model or classifier, lengths, loss, validate, last, figure="ap", out=out, prints=prints, progress=progress
    )
    said = [f"{cut} of {len(rows)} training texts were cut to {classifier.max_length} tokens."] if cut else []
    return Tuned(classifier, last, done, best, time.monotonic() - began, (*notes, *said))
