"""The same checkpoints from a Hugging Face `Trainer` of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from tests.tuning.conftest import learnable
from tracemend.data import Labelled
from tracemend.errors import TuningError
from tracemend.models import tiny
from tracemend.trace import TracIn
from tracemend.tuning import CheckpointCallback, TextClassifier


def trainer(
    classifier: TextClassifier, train: Labelled, trace: CheckpointCallback, tmp_path: Path, **options: Any
) -> Any:
    args = TrainingArguments(
        output_dir=str(tmp_path / "trainer"), num_train_epochs=2, per_device_train_batch_size=8, learning_rate=1e-2,
        use_cpu=True, report_to=[], disable_tqdm=True, logging_strategy="no", **{"save_strategy": "no", **options},
    )  # fmt: skip
    rows, _ = classifier.encode(train.pairs)
    examples = [{"ids": row, "label": int(y)} for row, y in zip(rows, train.y, strict=True)]

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        return {**classifier.batch([e["ids"] for e in batch]), "labels": torch.tensor([e["label"] for e in batch])}

    args.remove_unused_columns = False
    kind: Any = Trainer
    return kind(classifier.network, args, train_dataset=examples, data_collator=collate, callbacks=[trace])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "prompt", "head"])
def test_checkpoints_hold_what_a_trace_needs(kind: Any, train: Labelled, tmp_path: Path) -> None:
    classifier = TextClassifier(tiny("bert"), train.labels, kind=kind, virtual_tokens=2, rank=2, max_length=16)
    fresh = classifier.state()
    trace = CheckpointCallback(classifier, tmp_path / "mine")
    job = trainer(classifier, train, trace, tmp_path)
    job.train()

    found = trace.checkpoints
    assert [c.step for c in found] == [4, 8]  # 28 examples in batches of 8
    # The Trainer's own schedule: linear, to zero.
    rates = [1e-2 * (1 - step / 8) for step in range(8)]
    assert [c.lr_sum for c in found] == pytest.approx([sum(rates[:4]), sum(rates[4:])])
    state = found[-1].load_state()
    assert all(torch.equal(state[name], value) for name, value in classifier.state().items())
    assert any(not torch.equal(state[name], value) for name, value in fresh.items())
    moments = found[-1].second_moments()
    optimizer = job.optimizer.optimizer
    assert moments.keys() == classifier.trainable().keys()
    for name, parameter in classifier.trainable().items():
        assert torch.equal(moments[name], optimizer.state[parameter]["exp_avg_sq"]), name

    validation = learnable(6, seed=1)
    influence = TracIn().influence(classifier, train, validation, checkpoints=found)
    assert influence.scores.shape == (28, 6) and abs(influence.scores).max() > 0


def test_accumulated_batches_are_one_step(train: Labelled, tmp_path: Path) -> None:
    classifier = TextClassifier(tiny("bert"), train.labels, kind="lora", rank=2, max_length=16)
    trace = CheckpointCallback(classifier, tmp_path / "mine")
    trainer(classifier, train, trace, tmp_path, gradient_accumulation_steps=2, lr_scheduler_type="constant").train()
    assert [c.step for c in trace.checkpoints] == [2, 4]
    assert [c.lr_sum for c in trace.checkpoints] == pytest.approx([2e-2, 2e-2])


def test_another_model_is_refused(train: Labelled, tmp_path: Path) -> None:
    one, other = (TextClassifier(tiny("bert"), train.labels, kind="head", max_length=16) for _ in range(2))
    with pytest.raises(TuningError, match=r"another model .*pass `classifier.network`"):
        trainer(one, train, CheckpointCallback(other, tmp_path / "mine"), tmp_path).train()


@pytest.mark.slow
def test_a_folder_of_another_training_is_refused(train: Labelled, tmp_path: Path) -> None:
    classifier = TextClassifier(tiny("bert"), train.labels, kind="head", max_length=16)
    trainer(classifier, train, CheckpointCallback(classifier, tmp_path / "mine"), tmp_path).train()
    with pytest.raises(TuningError, match="checkpoints of another training; name a new folder"):
        trainer(classifier, train, CheckpointCallback(classifier, tmp_path / "mine"), tmp_path).train()


class Cut(TrainerCallback):
    """Ends a training at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize(("every", "cut"), [(2, 7), (3, 7), (4, 7), (1, 4)])
def test_a_resumed_training_goes_on_with_its_learning_rates(
    every: int, cut: int, train: Labelled, tmp_path: Path
) -> None:
    def part(*, resume: bool) -> CheckpointCallback:
        classifier = TextClassifier(tiny("bert"), train.labels, kind="lora", rank=2, max_length=16)
        trace = CheckpointCallback(classifier, tmp_path / "mine")
        job = trainer(classifier, train, trace, tmp_path, save_strategy="steps", save_steps=every)
        if resume:
            job.train(resume_from_checkpoint=True)
            return trace
        job.add_callback(Cut(cut))
        with pytest.raises(KeyboardInterrupt):
            job.train()
        return trace

    part(resume=False)
    found = part(resume=True).checkpoints
    rates = [1e-2 * (1 - step / 8) for step in range(8)]
    assert [c.step for c in found] == [4, 8]
    assert [c.lr_sum for c in found] == pytest.approx([sum(rates[:4]), sum(rates[4:])])


def test_parts_of_an_accumulated_step_add_up_to_its_mean(train: Labelled) -> None:
    """The Trainer leaves the division to models that take `num_items_in_batch`."""
    classifier = TextClassifier(tiny("bert"), train.labels, kind="head", max_length=16)
    batch = {**classifier.batch(classifier.encode(train.pairs)[0]), "labels": torch.tensor(train.y)}
    parts = [{name: value[i : i + 5] for name, value in batch.items()} for i in range(0, len(train), 5)]
    added = torch.stack([classifier.network(**part, num_items_in_batch=len(train)).loss for part in parts]).sum()
    torch.testing.assert_close(added, classifier.network(**batch).loss)
