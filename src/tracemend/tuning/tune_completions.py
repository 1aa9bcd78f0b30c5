"""Parameter-efficient tuning of a model that writes, by the same loop as a classifier's."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tracemend.data import Completions
from tracemend.errors import TuningError
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.tuning.checkpoints import Checkpoint
from tracemend.tuning.completion import CompletionModel, Reduction
from tracemend.tuning.tune import Tuning, fit, resolve_precision


@dataclass(frozen=True, eq=False)
class TunedCompletions:
    """A tuned model that writes, at its best checkpoint.

    Attributes:
        model: with the parameters of ``best``.
        tuning: how it was tuned.
        checkpoints: earliest first, one an epoch.
        best: the checkpoint with the lowest validation loss.
        seconds: it took.
        notes: sentences for the report.
    """

    model: CompletionModel
    tuning: Tuning
    checkpoints: list[Checkpoint]
    best: Checkpoint
    seconds: float
    notes: tuple[str, ...] = field(default=())

    def until_best(self) -> list[Checkpoint]:
        """The checkpoints that led to the model: TracIn sums over these."""
        return [c for c in self.checkpoints if c.step <= self.best.step]


def tune_completions(
    model: LanguageModel,
    train: Completions,
    validation: Completions,
    tuning: Tuning | None = None,
    *,
    separator: str = "\n",
    reduction: Reduction = "mean",
    out: Path | None = None,
    progress: Progress = Progress(),
) -> TunedCompletions:
    """Tune an adapter to write the completions of ``train``; early stop looks at the loss on ``validation`` only.

    A step lowers the mean of its examples' losses, so that every example counts alike whatever its length; a Trainer's
    mean over the tokens of a batch would weigh long completions more.

    Args:
        tuning: how (default: ``Tuning()``); its ``class_weights`` and ``words`` are for classifiers, and so are its
            default learning rates: they were measured there.
        separator: what stands between prompt and completion, see :class:`tracemend.tuning.CompletionModel`.
        reduction: ``mean`` or ``sum`` over the tokens of a completion.
        out: folder for the checkpoints ``adapter-N``; what is there already is not done again, if it is of the same
            model, data and configuration (epochs may be added). None keeps them in memory.

    Returns:
        The model at its best checkpoint and all checkpoints.

    Raises:
        TuningError: a choice that is for classifiers, the model writes no text, no example in one of the parts, the
            loss is not finite, a checkpoint before others is missing in ``out``, or those there are of another tuning.

    Example:
        >>> tuned = tune_completions(load("smollm2"), train, validation, Tuning(adapter="lora", epochs=3))
        >>> tuned.model.losses([("Capital of France?", "Paris")])
    """
    began = time.monotonic()
    tuning = tuning or Tuning()
    if tuning.class_weights or tuning.words is not None:
        raise TuningError("class_weights and words are about classes, which completions have none of; leave them out.")
    if not len(train) or not len(validation):
        raise TuningError(
            f"there are {len(train)} training and {len(validation)} validation examples; give at least one of each."
        )
    made = CompletionModel(
        model,
        kind=tuning.adapter,
        virtual_tokens=tuning.virtual_tokens,
        rank=tuning.rank,
        max_length=tuning.max_length,
        separator=separator,
        reduction=reduction,
        seed=tuning.seed,
    )
    rows, cut = made.encode(train.pairs)
    notes = []
    if cut:
        notes.append(f"{cut} of {len(rows)} training examples were cut to {made.max_length} tokens.")
        progress.note("cut", texts=cut, tokens=made.max_length)
    y = torch.tensor(train.y, device=made.device)
    precision = resolve_precision(tuning.precision, made.device)

    def loss(part: npt.NDArray[np.int64]) -> Tensor:
        with made.precision(precision):
            losses, _ = made.measure(made.batch([rows[i] for i in part]), y[torch.as_tensor(part)])
        return losses.mean()

    def validate() -> dict[str, float]:
        found = made.losses(validation.pairs, precision=precision, progress=progress, task="validate")
        return {"loss": float(found.mean())}

    lengths = [len(row) for row in rows]
    prints = {"model": model.fingerprint, "train": train.fingerprint, "validation": validation.fingerprint}
    done, best = fit(
        made, lengths, loss, validate, tuning,
        figure="loss", lower=True, out=out, prints={**prints, "read": [separator, reduction]}, progress=progress,
    )  # fmt: skip
    return TunedCompletions(made, tuning, done, best, time.monotonic() - began, tuple(notes))
