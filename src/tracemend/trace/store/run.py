"""The store of a run: the gradients of what its classifier was tuned on, in ``RUN/store``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from tracemend.data.examples import read_examples
from tracemend.errors import TraceError
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.trace.run import tuned_on
from tracemend.trace.store.store import Dtype, GradientStore
from tracemend.tuning import Checkpoint
from tracemend.tuning.predictor import Predictor

NAME = "store"


def build_run(
    run: Path | str,
    *,
    dtype: Dtype = "bfloat16",
    checkpoints: Literal["all", "last"] = "all",
    shard_rows: int | None = None,
    batch_size: int = 16,
    project: int | None = None,
    model: LanguageModel | None = None,
    progress: Progress = Progress(),
) -> GradientStore:
    """Build ``RUN/store``, or what it lacks.

    Args:
        run: a finished tune, repair, detect or demo. Of a repair, its recommended classifier is traced, on the training
            set that it was tuned on; its one state counts with weight one.
        checkpoints: ``all`` that led to the classifier, or the ``last`` alone.
        dtype, shard_rows, batch_size, project: see :meth:`GradientStore.build`.
        model: the run's model, where it is at hand.

    Raises:
        RunError: the run is not finished.
        TraceError: the run's store holds something else.

    Example:
        >>> build_run("runs/mine").width  # doctest: +SKIP
        4226
    """
    if checkpoints not in ("all", "last"):
        raise TraceError(f"checkpoints is {checkpoints!r}; it must be all or last.")
    splits = read_examples(run)
    predictor = Predictor.load(run, model=model)
    train, steps = tuned_on(Path(run), predictor, splits)
    used: Sequence[Checkpoint] = steps if checkpoints == "all" else steps[-1:]
    classifier = predictor.classifier
    return GradientStore.build(
        Path(run) / NAME,
        classifier,
        train,
        used or [Checkpoint(step=0, lr_sum=1.0, state=classifier.state(), moments={})],
        dtype=dtype,
        shard_rows=shard_rows,
        batch_size=batch_size,
        project=project,
        progress=progress,
    )
