"""Checkpoints that a trace can use, from a Hugging Face ``Trainer`` of one's own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, cast

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tracemend.errors import TuningError
from tracemend.tuning.adapted import Adapted
from tracemend.tuning.checkpoints import Checkpoint, checkpoints, save_checkpoint

# Where the Trainer's own checkpoints keep what a resumed training must know.
_STATE = "tracemend"


class CheckpointCallback(TrainerCallback):
    """Saves a checkpoint with second moments and learning-rate sum at the end of every epoch.

    A training that the Trainer resumes goes on with its sum; checkpoints ahead of the step it resumes from belong to
    steps that are taken again, and are deleted.

    Args:
        classifier: the classifier whose ``network`` the Trainer trains.
        out: folder for ``adapter-N``.

    Raises:
        TuningError: the Trainer trains another model than ``classifier.network``, ``out`` holds checkpoints of another
            training, or the training resumes from a state that does not tell its learning rates.

    Example:
        >>> from transformers import Trainer
        >>> trace = CheckpointCallback(classifier, "runs/mine")
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
                f"the Trainer trains another model than the classifier given to {type(self).__name__}; "
                "pass `classifier.network` to the Trainer."
            )
        if state.global_step:
            self._resume(state)
        elif self.checkpoints:
            raise TuningError(f"{self.out} holds checkpoints of another training; name a new folder.")
        else:
            self._lr_sum = 0.0

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count the learning rate of the step that is about to be taken."""
        optimizer = kwargs.get("optimizer")
        if optimizer is not None:
            self._lr_sum += float(optimizer.param_groups[0]["lr"])

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Leave the sum with the Trainer, which may save itself next."""
        self._remember(state)

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
        self._remember(state)

    def _remember(self, state: TrainerState) -> None:
        # In the form of the Trainer's own stateful callbacks; an `ExportableState` would have to be rebuilt from JSON,
        # and a classifier cannot be.
        _kept(state)[_STATE] = {"args": {}, "attributes": {"lr_sum": self._lr_sum}}

    def _resume(self, state: TrainerState) -> None:
        saved = self.checkpoints
        kept = [c for c in saved if c.step <= state.global_step]
        for ahead in saved[len(kept) :]:
            if ahead.folder is not None:
                shutil.rmtree(ahead.folder)
        if kept and kept[-1].step == state.global_step:
            self._lr_sum = 0.0
        elif _STATE in _kept(state):
            self._lr_sum = float(_kept(state)[_STATE]["attributes"]["lr_sum"])
        elif kept:
            raise TuningError(
                f"the Trainer resumes at step {state.global_step} from a state saved without this callback, so the "
                f"learning rates since step {kept[-1].step} are unknown; resume from the end of an epoch, or name a "
                "new folder."
            )
        else:  # the callback is new to this training: its sums begin here
            self._lr_sum = 0.0


def _kept(state: TrainerState) -> dict[str, Any]:
    # Declared as the list of callbacks it is made from; a dictionary once the state is made or loaded.
    return cast(dict[str, Any], state.stateful_callbacks)
