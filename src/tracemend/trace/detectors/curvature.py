"""Mean influence on the validation set under a score with curvature, from a store that lives as long as it is read."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tracemend.errors import TraceError
from tracemend.progress import Progress
from tracemend.trace.detectors.detector import Subject, Suspicion
from tracemend.trace.detectors.mean_influence import opposed
from tracemend.trace.scoring.queries import TracedQueries
from tracemend.trace.scoring.score import Score
from tracemend.trace.scoring.stream import score
from tracemend.trace.store.store import GradientStore
from tracemend.tuning import Checkpoint


def mean_influence(subject: Subject, how: Score, progress: Progress) -> Suspicion:
    """Minus the mean score of each training example over the validation set, at the last state.

    The training gradients go to a temporary folder, float32, and are read back in passes: 4 bytes for each example and
    trainable parameter.

    Raises:
        TraceError: the validation set is empty.
    """
    classifier, splits = subject.classifier, subject.splits
    if not len(splits.validation):
        raise TraceError("the validation set is empty; influence on it needs an example at least.")
    # Second moments play no part in these scores, so those of a checkpoint are not copied.
    state = Checkpoint(step=0, lr_sum=1.0, state=classifier.state(), moments={})
    with TemporaryDirectory(prefix="tracemend-") as folder:
        store = GradientStore.build(
            Path(folder) / "store",
            classifier,
            splits.train,
            [state],
            dtype="float32",
            precision=subject.precision,
            progress=progress,
        )
        queries = TracedQueries(
            classifier, splits.validation, [state], method=store.manifest["way"], precision=subject.precision
        )
        found = score(store, queries, how, top=1, dense=Path(folder) / "scores.npy", progress=progress)
        scores = np.array(found.matrix())
    return Suspicion(-scores.mean(axis=1).astype(np.float64), opposed(scores, splits.validation))
