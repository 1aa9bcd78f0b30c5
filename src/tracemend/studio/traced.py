"""Influence of the training set on validation: from the run's store of gradients where it is of this model."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tracemend.data import Labelled
from tracemend.errors import RunError, TraceError
from tracemend.progress import Progress
from tracemend.trace import Influence, TracedQueries, TracIn, TracInScore, score
from tracemend.trace.store import GradientStore
from tracemend.tuning import Checkpoint, TextClassifier


class Traced:
    """Takes the place of :class:`TracIn` in a ranking.

    Args:
        store: folder of a store, which may be missing or of another model.
        direct: how influence is taken where there is no such store: cosines of gradients, as from the store.
        steps: checkpoints that the store may have been built from.

    Attributes:
        from_store: whether the last influence came from the store.
    """

    def __init__(self, store: Path, direct: TracIn, steps: Sequence[Checkpoint] = ()) -> None:
        self.store, self.direct, self.steps = store, direct, list(steps)
        self.from_store = False

    def influence(
        self,
        classifier: TextClassifier,
        train: Labelled,
        queries: Labelled,
        *,
        checkpoints: Sequence[Checkpoint],
        progress: Progress = Progress(),
    ) -> Influence:
        """Cosines of gradients at the last checkpoint, see :meth:`TracIn.influence`."""
        last = checkpoints[-1:]
        opened = self._open(classifier, train, last, progress)
        self.from_store = opened is not None
        if opened is None:
            return self.direct.influence(classifier, train, queries, checkpoints=last, progress=progress)
        store, used = opened
        among = self.direct.influence(classifier, queries, queries, checkpoints=last, progress=progress)
        scores = _scores(store, classifier, queries, used, progress)
        losses = np.zeros(len(train), dtype=np.float32)
        return replace(
            among,
            scores=scores,
            query_scores=among.scores,
            self_influence=losses,
            losses=losses,
            logits=classifier.predict(train.pairs, progress=progress, task="predict train"),
            train=train,
        )

    def _open(
        self, classifier: TextClassifier, train: Labelled, last: Sequence[Checkpoint], progress: Progress
    ) -> tuple[GradientStore, list[Checkpoint]] | None:
        """The store, completed, where it is of this classifier and these labels."""
        if not (self.store / "manifest.json").exists():
            return None
        try:
            there = GradientStore.open(self.store)
            kept = {checkpoint["step"] for checkpoint in there.manifest["checkpoints"]}
            used = [c for c in self.steps if c.step in kept] or list(last)
            store = GradientStore.build(self.store, classifier, train, used, **there.options, progress=progress)
        except (TraceError, RunError) as error:
            progress.note("store not used", reason=str(error))
            return None
        return store, used


def _scores(
    store: GradientStore,
    classifier: TextClassifier,
    queries: Labelled,
    used: Sequence[Checkpoint],
    progress: Progress,
) -> npt.NDArray[np.float32]:
    manifest = store.manifest
    asked = TracedQueries(classifier, queries, used, method=manifest["way"], precision=manifest["precision"])
    how = TracInScore(checkpoints="last", normalise_train=True, normalise_query=True)
    weight = float(manifest["checkpoints"][-1]["lr_sum"])
    with tempfile.TemporaryDirectory(prefix="tracemend-") as folder:
        found = score(store, asked, how, top=1, dense=Path(folder) / "scores.npy", progress=progress)
        scores: npt.NDArray[np.float32] = np.array(found.matrix(), dtype=np.float32) / np.float32(weight)
    return scores
