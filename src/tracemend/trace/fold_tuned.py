"""What models tuned on the other folds say of each example: evidence that a frozen embedding does not have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import softmax

from tracemend.data import Labelled
from tracemend.errors import TraceError
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.trace.apart import Apart
from tracemend.trace.folds import folds_of
from tracemend.trace.pool import Judged
from tracemend.tuning import Tuning, tune

# A label that is believed less than this is not taught.
_SURE = 0.6
# How often a trusted example is seen for each time another one is.
_REPEATS = 2


def fold_tuned(
    model: LanguageModel,
    train: Labelled,
    trusted: Labelled,
    apart: Apart,
    tuning: Tuning,
    *,
    seed: int = 0,
    out: Path | None = None,
    progress: Progress = Progress(),
) -> Judged:
    """Tune a model for each fold on the others, with the labels that are believed, and let it judge its fold.

    A model learns neither the labels of the trusted examples that it judges nor beliefs that were come to with their
    help, so that what the models say of them is as far from what they were taught as what they say of the others.

    Args:
        train: the examples in question; of their labels only beliefs are looked at.
        trusted: examples whose labels are right.
        apart: the folds of the trusted examples, as many as models are tuned, and the beliefs without each, see
            :func:`tracemend.trace.apart.judged_apart`. The likeliest label is taught where it is likelier than 0.6.
        tuning: of each fold's model; a few epochs are enough.
        seed: of the folds of ``train``.
        out: folder of their checkpoints, with which a stopped tuning goes on; None keeps none.

    Raises:
        TraceError: shapes differ, or ``train`` cannot be cut into as many folds.
        TuningError: a fold cannot be tuned on.

    Example:
        >>> found = fold_tuned(model, splits.train, splits.validation, apart, Tuning(epochs=3))
        >>> found.train.shape
        (500, 2)
    """
    shape = (len(train), len(train.labels))
    if any(believed.shape != shape for believed in apart.believed):
        raise TraceError(f"beliefs have shapes {[of.shape for of in apart.believed]}; expected {shape} of each fold.")
    cut = folds_of(train.y, len(apart.parts), seed)
    if len(cut) != len(apart.parts):
        raise TraceError(f"the examples make {len(cut)} folds and the trusted ones {len(apart.parts)}; take fewer.")
    found = Judged(np.zeros(shape), np.zeros((len(trusted), len(trusted.labels))))
    uid = train.uid
    rounds = list(zip(cut, apart.parts, apart.believed, strict=True))
    for number, ((learn, judge), (known, asked), believed) in enumerate(
        progress.track(rounds, task="tune on the other folds")
    ):
        sure = learn[believed[learn].max(axis=1) > _SURE]
        told = {uid[i]: train.labels[believed[i].argmax()] for i in sure}
        held = trusted.take(known)
        lesson = _together(train.take(sure).relabelled(told), held)
        once = replace(tuning, patience=0, seed=tuning.seed + seed)
        # By what it is taught: beliefs that a resumed run comes to otherwise, in the last digit, teach another lesson.
        kept = None if out is None else out / f"fold-{number}-{lesson.fingerprint[:8]}"
        tuned = tune(model, lesson, held, once, out=kept, curve=False, progress=progress)
        for target, rows, data in ((found.train, judge, train), (found.trusted, asked, trusted)):
            logits = tuned.classifier.predict(data.take(rows).pairs, progress=progress)
            target[rows] = softmax(logits.astype(np.float64), axis=1)
    return found


def _together(taught: Labelled, held: Labelled) -> Labelled:
    """Both, the second so often that it counts double; ids are made anew, for a text may stand in it twice."""
    frames = [taught.frame, *[held.frame] * _REPEATS]
    texts, replies, labels = (
        [value for frame in frames for value in frame[column]] for column in ("text", "reply", "label")
    )
    return Labelled.make(texts, labels, replies=replies, label_names=taught.labels, positive=taught.positive)
