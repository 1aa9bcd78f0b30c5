"""A small training that is traced as it goes, and what its steps are compared with."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from tests.tuning.conftest import learnable
from tracemend import TraceCallback
from tracemend.models import tiny
from tracemend.trace import LiveTrace
from tracemend.trace.gradients.layout import expand
from tracemend.tuning import TextClassifier

TRAIN = learnable(22)
QUERIES = learnable(5, seed=1)


def classify(architecture: str = "bert", kind: Any = "lora", *, dropout: bool = True) -> TextClassifier:
    made = TextClassifier(tiny(architecture), TRAIN.labels, kind=kind, virtual_tokens=2, rank=2, max_length=48)
    generator = torch.Generator().manual_seed(1)
    for parameter in made.trainable().values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)  # off LoRA's zeros
    for module in made.network.modules():
        if isinstance(module, nn.Dropout) and not dropout:
            module.p = 0.0
    return made


class Spy(TrainerCallback):
    """The gradient that each step is taken with, and what one wants done at its beginning."""

    def __init__(self, classifier: TextClassifier, before: Callable[[int], None] = lambda step: None) -> None:
        self.classifier, self.before = classifier, before
        self.grads: list[dict[str, Tensor]] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.before(state.global_step)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        found = self.classifier.trainable()
        self.grads.append({name: p.grad.clone() for name, p in found.items() if p.grad is not None})


def run(
    classifier: TextClassifier,
    trace: TraceCallback,
    folder: Path,
    *,
    spy: TrainerCallback | None = None,
    kind: Any = Trainer,
    resume: bool = False,
    numbered: bool = True,
    evaluate: bool = False,
    **options: Any,
) -> Any:
    settings: dict[str, Any] = {"num_train_epochs": 2, "learning_rate": 1e-2, "save_strategy": "no"}
    args = TrainingArguments(
        output_dir=str(folder / "trainer"), per_device_train_batch_size=4, use_cpu=True, report_to=[],
        disable_tqdm=True, logging_strategy="no", **{"remove_unused_columns": False, **settings, **options},
    )  # fmt: skip
    encoded, _ = classifier.encode(TRAIN.pairs)
    examples = [
        {"ids": ids, "label": int(y), **({"row": i} if numbered else {})}
        for i, (ids, y) in enumerate(zip(encoded, TRAIN.y, strict=True))
    ]

    def collate(batch: list[dict[str, Any]]) -> dict[str, Tensor]:
        made = classifier.batch([e["ids"] for e in batch])
        y = torch.tensor([e["label"] for e in batch])
        words = classifier.verbaliser
        if words is None:
            return {**made, "labels": y}
        answer = torch.tensor(words.tokens)[y]
        if classifier.language_model.family == "encoder-decoder":
            return {**made, "labels": torch.stack([answer, answer.flip(0)], dim=1)}
        labels = torch.full_like(made["input_ids"], -100)
        labels[torch.arange(len(y)), made["attention_mask"].sum(1) - 1] = answer
        return {**made, "labels": labels}

    job = kind(
        classifier.network, args, train_dataset=examples, eval_dataset=examples if evaluate else None,
        data_collator=trace.collator(collate) if numbered else collate, callbacks=[trace, *([spy] if spy else [])],
    )  # fmt: skip
    job.train(resume_from_checkpoint=resume)
    return job


def traced(classifier: TextClassifier, folder: Path, **options: Any) -> tuple[LiveTrace, Spy]:
    spy = Spy(classifier)
    trace = TraceCallback(classifier, folder / "run", gradients=True, uid=TRAIN.uid, dtype="float32")
    run(classifier, trace, folder, spy=spy, **options)
    return LiveTrace.open(folder / "run"), spy


def check_steps(live: LiveTrace, spy: Spy, *, within: float = 1e-4) -> None:
    """The rows of each step add up to the gradient that it was taken with."""
    found = {step: torch.zeros(0) for step in range(len(spy.grads))}
    layout = live.layout
    for part, grads in live.shards():
        dense, layout = expand(grads, live.layout)
        weights = torch.tensor((part["clip"] * part["share"]).to_numpy()).float()
        for step in found:
            mine = torch.tensor((part["step"] == step).to_numpy())
            added = (dense[mine] * weights[mine, None]).sum(0)
            found[step] = added if not len(found[step]) else found[step] + added
    compared = 0
    for step, taken in enumerate(spy.grads):
        for block in layout:
            if block.name in taken:
                expected = taken[block.name].flatten()[: block.size]
                error = (found[step][block.columns] - expected).norm()
                assert error <= within * max(float(expected.norm()), 1e-2), (block.name, step)
                compared += 1
    assert compared >= len(spy.grads)


def killed_at(step: int) -> Callable[[int], None]:
    def kill(now: int) -> None:
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return kill
