"""Checkpoints that a trace can use, from a Hugging Face ``Trainer`` of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tracemend.errors import TuningError
from tracemend.tuning.adapted import Adapted
from tracemend.tuning.checkpoints import Checkpoint, checkpoints, save_checkpoint


class TraceCallback(TrainerCallback):
    """Saves a checkpoint with second moments and learning-rate sum at the end of every epoch.

    Args:
        classifier: the classifier whose ``network`` the Trainer trains.
        out: folder for ``adapter-N``.

    Raises:
        TuningError: the Trainer trains another model than ``classifier.network``, or ``out`` holds checkpoints of
            another training.

    Example:
        >>> trace = TraceCallback(classifier, "runs/mine")
        >>> Trainer(classifier.network, args, train_dataset=data, callbacks=[trace]).train()
        >>> trace.checkpoints[-1].lr_sum
    """

    def __init__(self, classifier: Adapted, out: Path | str) -> None:
        self.classifier = classifier
        self.out = Path(out)
        self._lr_sum = 0.0

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """What was saved so far, earliest first."""
        return checkpoints(self.out)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Refuse a model that is not the classifier's, and a folder that is not this training's."""
        if kwargs.get("model") is not self.classifier.network:
            raise TuningError(
                "the Trainer trains another model than the classifier given to TraceCallback; "
                "pass `classifier.network` to the Trainer."
            )
        if state.global_step == 0 and self.checkpoints:
            raise TuningError(f"{self.out} holds checkpoints of another training; name a new folder.")

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count the learning rate of the step that is about to be taken."""
        optimizer = kwargs.get("optimizer")
        if optimizer is not None:
            self._lr_sum += float(optimizer.param_groups[0]["lr"])

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write one checkpoint."""
        number = len(self.checkpoints) + 1
        optimizer = kwargs.get("optimizer")
        # Trainers wrap the optimizer; the wrapped one holds the moments.
        inner = getattr(optimizer, "optimizer", optimizer)
        save_checkpoint(
            self.out / f"adapter-{number:04d}",
            self.classifier,
            step=state.global_step,
            lr_sum=self._lr_sum,
            metrics={},
            optimizer=inner,
        )
        self._lr_sum = 0.0
