"""The callback that traces a Hugging Face ``Trainer`` at work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from transformers import TrainerControl, TrainerState, TrainingArguments

from tracemend.errors import TraceError, TracemendError
from tracemend.trace.live.capture import ROW, Capture, Seen
from tracemend.trace.live.shards import Dtype, ShardWriter, Step
from tracemend.tuning import Adapted, CheckpointCallback

# Who listens to a network, by its id: a training that was cut short may have left its hooks there.
_LISTENING: WeakValueDictionary[int, TraceCallback] = WeakValueDictionary()

Collate = Callable[[list[dict[str, Any]]], Mapping[str, Any]]


class TraceCallback(CheckpointCallback):
    """Keeps what a trace needs of a Trainer's training: its checkpoints, and the gradient of every example it used.

    At the end of every epoch a checkpoint with second moments and learning-rate sum is written to ``out``. With
    ``gradients``, the training's own backward passes also give the gradient of each example at the very step it was
    used, dropout, class weights and all, to ``out/live`` (see :class:`LiveTrace`): no pass is added, and the training
    ends bit for bit where it would have ended. After an exception, :meth:`close` takes the hooks off the network.

    Args:
        classifier: the classifier whose ``network`` the Trainer trains.
        out: folder for ``adapter-N`` and ``live``.
        gradients: keep the gradients. The training set then gives each example a number under ``row``; one process
            and one device, fp32 or bf16.
        uid: ids of the training examples in the order of their rows; default the row itself.
        dtype: of the gradients on disk.

    Raises:
        TuningError: see :class:`~tracemend.tuning.CheckpointCallback`.
        TraceError: batches without ``row``, an adapter or a way of training that cannot be traced, or an ``out`` that
            holds the gradients of another training.

    Example:
        >>> from transformers import Trainer, TrainingArguments
        >>> trace = TraceCallback(classifier, "runs/mine", gradients=True, uid=train.uid)
        >>> args = TrainingArguments("runs/trainer", remove_unused_columns=False)
        >>> data = [{"row": i, "ids": ids, "label": y} for i, (ids, y) in enumerate(examples)]
        >>> collate = trace.collator(my_collator)
        >>> Trainer(classifier.network, args, train_dataset=data, data_collator=collate, callbacks=[trace]).train()
        >>> LiveTrace.open("runs/mine").self_influence().nlargest(20)
    """

    def __init__(
        self,
        classifier: Adapted,
        out: Path | str,
        *,
        gradients: bool = False,
        uid: Sequence[str] | None = None,
        dtype: Dtype = "bfloat16",
    ) -> None:
        super().__init__(classifier, out)
        self.gradients = gradients
        self.uid = uid
        self.dtype: Dtype = dtype
        self._capture: Capture | None = None
        self._writer: ShardWriter | None = None
        self._seen: list[Seen] = []

    def collator(self, collate: Collate) -> Collate:
        """The collator ``collate``, which lets each example's ``row`` through to the batch."""
        return _WithRows(collate)

    def close(self) -> None:
        """Write what is left and take every hook off; only needed where ``train()`` ended by an exception."""
        if self._capture is not None:
            self._capture.detach()
        _LISTENING.pop(id(self.classifier.network), None)
        writer, self._capture, self._writer, self._seen = self._writer, None, None, []
        if writer is not None:
            writer.close()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Begin to listen."""
        super().on_train_begin(args, state, control, **kwargs)
        previous = _LISTENING.get(id(self.classifier.network))
        if previous is not None:
            with suppress(TracemendError):  # it was raised when it happened
                previous.close()
        if not self.gradients:
            return
        _refuse(args)
        capture = Capture(self.classifier)
        model = {"model": self.classifier.language_model.fingerprint, "adapter": self.classifier.kind}
        self._writer = ShardWriter.open(
            self.out / "live", capture.layout, self.dtype, step=state.global_step, fingerprints=model, uid=self.uid
        )
        capture.attach(norms=args.max_grad_norm > 0)
        self._capture, capture.owner = capture, self
        _LISTENING[id(self.classifier.network)] = self

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Keep the gradients of an accumulated batch."""
        if self._capture is not None:
            self._seen += self._capture.take()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Hand the gradients of the step to the writer."""
        super().on_pre_optimizer_step(args, state, control, **kwargs)
        if self._capture is None or self._writer is None:
            return
        seen, self._seen = [*self._seen, *self._capture.take()], []
        rates = {float(group["lr"]) for group in kwargs["optimizer"].param_groups}
        if len(rates) > 1:
            raise TraceError(
                f"the optimizer has parameter groups of different learning rates ({', '.join(map(str, sorted(rates)))})"
                ", and a gradient is kept with one; use one rate, or leave gradients=True out."
            )
        norm = self._capture.norm()
        # As torch.nn.utils.clip_grad_norm_ does it.
        clip: Tensor | None = None if norm is None else (args.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        self._writer.put(Step(state.global_step, rates.pop(), clip, seen))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """What comes before a checkpoint of the Trainer's is on disk with it: a resumed training lacks no step."""
        if self._writer is not None:
            self._writer.flush()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Write what is left and take every hook off."""
        self.close()


@dataclass(frozen=True)
class _WithRows:
    """A collator that numbers its batches; a class, so that workers of a data loader can be given it."""

    collate: Collate

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        if any(ROW not in example for example in examples):
            raise TraceError(
                f"an example has no {ROW!r}: give each its position in the training set, and the Trainer's arguments "
                "`remove_unused_columns=False`."
            )
        bare = [{name: value for name, value in example.items() if name != ROW} for example in examples]
        return {**self.collate(bare), ROW: torch.tensor([int(example[ROW]) for example in examples])}


def _refuse(args: TrainingArguments) -> None:
    """Ways of training whose gradients would be counted wrongly."""
    faults = {
        "several processes": args.world_size > 1,
        "several devices in one process": args.n_gpu > 1,
        "fp16, whose gradients are scaled (bf16=True is traced)": args.fp16,
        "torch_compile": args.torch_compile,
    }
    found = [name for name, there in faults.items() if there]
    if found:
        raise TraceError(
            f"gradients cannot be kept while training with {', '.join(found)}; "
            "leave gradients=True out and trace the checkpoints."
        )
