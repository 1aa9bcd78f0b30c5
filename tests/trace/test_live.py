"""Tracing while training: nothing changes for the training, and every step's gradient is the mean of its examples'."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from tests.tuning.conftest import learnable
from tracemend import TraceCallback
from tracemend.errors import RunError, TraceError, TuningError
from tracemend.models import tiny
from tracemend.trace import LiveTrace, per_example_gradients, query_gradients
from tracemend.trace.gradients.layout import expand
from tracemend.trace.live import shards
from tracemend.tuning import TextClassifier

KINDS = ("prompt", "p-tuning", "prefix", "lora", "ia3", "head")
FAMILIES = [("gpt2", "prompt"), ("gpt2", "lora"), ("llama", "prefix"), ("t5", "prompt"), ("t5", "lora")]
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


@pytest.mark.parametrize("kind", KINDS)
def test_the_training_is_bit_for_bit_the_same(kind: str, tmp_path: Path) -> None:
    plain, listened = classify(kind=kind), classify(kind=kind)
    run(plain, TraceCallback(plain, tmp_path / "plain"), tmp_path)
    live, spy = traced(listened, tmp_path)
    assert all(torch.equal(value, plain.state()[name]) for name, value in listened.state().items())
    hooks = ("_forward_hooks", "_forward_pre_hooks")
    assert not any(getattr(module, name) for module in listened.network.modules() for name in hooks)
    check_steps(live, spy)
    assert not (tmp_path / "plain" / "live").exists()

    table = live.table
    assert len(table) == 2 * len(TRAIN) and table["step"].max() == 11
    uses = table["uid"].value_counts()
    assert set(uses.index) == set(TRAIN.uid) and (uses == 2).all()
    np.testing.assert_allclose(table.groupby("step")["lr"].first(), [1e-2 * (1 - step / 12) for step in range(12)])


@pytest.mark.parametrize(("architecture", "kind"), FAMILIES)
def test_language_models_with_labels_in_their_tokens(architecture: str, kind: str, tmp_path: Path) -> None:
    classifier = classify(architecture, kind)
    live, spy = traced(classifier, tmp_path, num_train_epochs=1, gradient_accumulation_steps=2)
    check_steps(live, spy)
    assert live.table["loss"].between(0.1, 40).all()


@pytest.mark.parametrize("kind", ["prompt", "lora", "ia3"])
def test_a_row_is_the_gradient_of_the_example_at_its_step(kind: str, tmp_path: Path) -> None:
    classifier = classify(kind=kind, dropout=False)
    expected = per_example_gradients(classifier, TRAIN, compact=True)
    live, _ = traced(classifier, tmp_path, num_train_epochs=1)
    part, grads = next(live.shards())
    first = np.flatnonzero(part["step"] == 0)
    rows = part["row"].to_numpy()[first]
    assert len(rows) == 4 and live.layout == expected.layout
    torch.testing.assert_close(grads[first], expected.grads[rows], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(part["loss"].to_numpy()[first], expected.losses[rows], rtol=1e-4)
    np.testing.assert_allclose(part["norm"].to_numpy()[first], expected.norms[rows], rtol=1e-4)


def test_accumulated_uneven_clipped_and_weighted_steps_add_up(tmp_path: Path) -> None:
    class Weighted(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            labels = inputs.pop("labels")
            output = model(**inputs)
            return nn.functional.cross_entropy(output.logits, labels, weight=torch.tensor([1.0, 5.0]))

    options = {"gradient_accumulation_steps": 3, "max_grad_norm": 0.05}
    for name, kind in (("plain", Trainer), ("weighted", Weighted)):
        live, spy = traced(classify(), tmp_path / name, kind=kind, **options)
        check_steps(live, spy)
        # 22 examples in batches of 4: steps of 12 and 10.
        assert sorted(1 / live.table["share"].unique()) == pytest.approx([10, 12])
        assert (live.table["clip"] < 1).all() and live.table["loss"].isna().all() == (name == "weighted")


def test_class_weights_are_in_the_gradients(tmp_path: Path) -> None:
    class Weighted(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            output = model(**{**inputs, "labels": None})
            weight = torch.tensor([1.0, 5.0])[inputs["labels"]]
            each = nn.functional.cross_entropy(output.logits, inputs["labels"], reduction="none")
            return (each * weight).mean() / self.current_gradient_accumulation_steps

    classifier = classify(dropout=False)
    plain = per_example_gradients(classifier, TRAIN, compact=True).norms
    live, _ = traced(classifier, tmp_path, kind=Weighted)
    first = live.table[live.table["step"] == 0]
    expected = plain[first["row"]] * np.where(TRAIN.y[first["row"]] == 1, 5.0, 1.0)
    np.testing.assert_allclose(first["norm"], expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["prompt", "lora"])
def test_bfloat16_training(kind: str, tmp_path: Path) -> None:
    live, spy = traced(classify(kind=kind), tmp_path, bf16=True, num_train_epochs=1)
    check_steps(live, spy, within=2e-2)


def test_evaluation_between_the_steps_leaves_no_rows(tmp_path: Path) -> None:
    live, spy = traced(classify(), tmp_path, evaluate=True, eval_strategy="steps", eval_steps=2)
    assert len(live.table) == 2 * len(TRAIN)
    check_steps(live, spy)


def test_recomputed_activations_count_once(tmp_path: Path) -> None:
    options: dict[str, Any] = {"gradient_checkpointing": True, "num_train_epochs": 1}
    classifier = classify("gpt2", "lora")
    live, spy = traced(classifier, tmp_path, gradient_checkpointing_kwargs={"use_reentrant": False}, **options)
    check_steps(live, spy)
    assert len(live.table) == len(TRAIN)
    with pytest.raises(TraceError, match=r"no gradient comes back .*'use_reentrant': False"):
        traced(
            classify("gpt2", "lora"), tmp_path / "b", gradient_checkpointing_kwargs={"use_reentrant": True}, **options
        )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_influence_predicts_what_sgd_does(dtype: Any, tmp_path: Path) -> None:
    classifier = classify(kind="prompt")
    queries: dict[int, Any] = {}

    def before(step: int) -> None:
        queries[step] = per_example_gradients(classifier, QUERIES)

    spy = Spy(classifier, before)
    trace = TraceCallback(classifier, tmp_path / "run", gradients=True, uid=TRAIN.uid, dtype=dtype)
    run(classifier, trace, tmp_path, spy=spy, optim="sgd", learning_rate=5e-4, max_grad_norm=0.5)
    live = LiveTrace.open(tmp_path / "run")
    found = live.influence(queries)
    assert list(found.index.sort_values()) == sorted(TRAIN.uid) and list(found.columns) == list(QUERIES.uid)
    lowered = queries[0].losses - per_example_gradients(classifier, QUERIES).losses
    np.testing.assert_allclose(found.sum(), lowered, rtol=0.05, atol=2e-4)
    assert abs(lowered).max() > 2e-3

    # By hand: one example, one query, each use with the query's gradient at that step.
    uid, total = TRAIN.uid[3], 0.0
    for part, grads in live.shards():
        dense, _ = expand(grads, live.layout)
        for place in np.flatnonzero(part["uid"] == uid):
            use = part.iloc[place]
            total += use["lr"] * use["clip"] * use["share"] * float(dense[place] @ queries[use["step"]].grads[2])
    assert found.loc[uid, QUERIES.uid[2]] == pytest.approx(total, rel=1e-4)

    own = live.self_influence()
    uses = live.table[live.table["uid"] == uid]
    assert own[uid] == pytest.approx((live.weights[uses.index] * uses["norm"] ** 2).sum())


def test_queries_at_checkpoints_meet_the_nearest_steps(tmp_path: Path) -> None:
    classifier = classify()
    trace = TraceCallback(classifier, tmp_path / "run", gradients=True, dtype="float32")
    run(classifier, trace, tmp_path)
    live = LiveTrace.open(tmp_path / "run" / "live")
    assert set(live.table["uid"]) == {str(row) for row in range(len(TRAIN))}
    queries = query_gradients(classifier, QUERIES, trace.checkpoints)
    assert list(queries) == [6, 12]
    early = live.table["step"] <= 9
    halves = []
    for step, mine in ((6, early), (12, ~early)):
        kept = LiveTrace(live.path, live.manifest, live.table[mine].reset_index(drop=True))
        halves.append(kept.influence(queries[step]))
    both = halves[0].add(halves[1], fill_value=0.0)
    pd.testing.assert_frame_equal(live.influence(queries).sort_index(), both.sort_index(), rtol=1e-5)
    adam = query_gradients(classifier, QUERIES, trace.checkpoints, optimizer="adam")
    assert not np.allclose(adam[6].grads, queries[6].grads)

    looped = per_example_gradients(classifier, QUERIES, method="loop")
    with pytest.raises(TraceError, match=r"laid out in another way .*method='fast'"):
        live.influence(looped)
    with pytest.raises(TraceError, match="queries differ between the states"):
        live.influence({0: queries[6], 1: per_example_gradients(classifier, TRAIN)})


def test_a_resumed_training_ends_with_the_same_trace(tmp_path: Path) -> None:
    whole, _ = traced(classify(), tmp_path / "whole")

    def cut(step: int) -> None:
        if step == 8:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"save_strategy": "steps", "save_steps": 3}
    trace = TraceCallback(classify(), tmp_path / "run", gradients=True, uid=TRAIN.uid, dtype="float32")
    with pytest.raises(KeyboardInterrupt):
        run(trace.classifier, trace, tmp_path, spy=Spy(trace.classifier, cut), **options)
    trace.close()
    assert LiveTrace.open(tmp_path / "run").table["step"].max() == 7

    again = TraceCallback(classify(), tmp_path / "run", gradients=True, uid=TRAIN.uid, dtype="float32")
    run(again.classifier, again, tmp_path, resume=True, **options)
    live = LiveTrace.open(tmp_path / "run")
    assert [attempt["step"] for attempt in live.manifest["attempts"]] == [0, 6]
    facts = ["row", "uid", "step", "lr", "clip", "share", "loss", "norm"]
    pd.testing.assert_frame_equal(live.table[facts], whole.table[facts])
    assert torch.equal(torch.cat([g for _, g in live.shards()]), torch.cat([g for _, g in whole.shards()]))

    other = TraceCallback(classify(), tmp_path / "run", gradients=True, dtype="bfloat16")
    with pytest.raises(TraceError, match=r"gradients of another training \(dtype differ\)"):
        run(other.classifier, other, tmp_path, resume=True, **options)


def test_many_small_shards_and_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = traced(classify(), tmp_path / "whole")
    monkeypatch.setattr(shards, "SHARD_BYTES", 3 * 4 * sum(block.size for block in whole.layout))
    live, spy = traced(classify(), tmp_path / "small")
    assert live.table.groupby("shard").size().max() == 3 and live.table["shard"].nunique() == 15
    check_steps(live, spy)
    queries = per_example_gradients(classify(), QUERIES)
    pd.testing.assert_frame_equal(live.influence(queries), whole.influence(queries))


def test_a_disk_that_fails_stops_with_its_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise RunError("the disk is full")

    classifier = classify()
    trace = TraceCallback(classifier, tmp_path / "run", gradients=True)
    monkeypatch.setattr(shards, "atomic", full)
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    before = threading.active_count()
    with pytest.raises(RunError, match="disk is full"):
        run(classifier, trace, tmp_path, spy=Spy(classifier, lambda step: time.sleep(0.02)))
    assert trace.classifier is classifier and not list((tmp_path / "run" / "live").glob("shard-*"))
    trace.close()
    assert threading.active_count() == before


def test_another_try_after_an_interruption_takes_the_old_hooks_off(tmp_path: Path) -> None:
    def cut(step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    classifier = classify()
    before = threading.active_count()
    first = TraceCallback(classifier, tmp_path / "first", gradients=True)
    with pytest.raises(KeyboardInterrupt):
        run(classifier, first, tmp_path, spy=Spy(classifier, cut))
    live, spy = traced(classifier, tmp_path)
    check_steps(live, spy)
    assert threading.active_count() == before
    assert LiveTrace.open(tmp_path / "first").table["step"].max() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"numbered": False}, r"do not say which examples .*`data_collator=trace.collator"),
        ({"remove_unused_columns": True}, r"an example has no 'row'.*`remove_unused_columns=False`"),
        ({"torch_compile": True}, r"cannot be kept while training with torch_compile"),
    ],
)
def test_what_cannot_be_traced_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    classifier = classify()
    trace = TraceCallback(classifier, tmp_path / "run", gradients=True)
    with pytest.raises(TraceError, match=message):
        run(classifier, trace, tmp_path, **options)
    trace.close()


def test_rows_beyond_the_named_examples_and_other_folders_are_refused(tmp_path: Path) -> None:
    classifier = classify()
    trace = TraceCallback(classifier, tmp_path / "few", gradients=True, uid=TRAIN.uid[:2])
    with pytest.raises(TraceError, match=r"holds the row \d+, but only 2 examples"):
        run(classifier, trace, tmp_path)
    trace.close()
    trace = TraceCallback(classifier, tmp_path / "few", gradients=True)
    with pytest.raises(TraceError, match="gradients of another training; name a new folder"):
        run(classifier, trace, tmp_path)
    with pytest.raises(RunError):
        LiveTrace.open(tmp_path / "nothing")


def test_a_resumed_state_of_another_training_is_refused(tmp_path: Path) -> None:
    options: dict[str, Any] = {"save_strategy": "steps", "save_steps": 4}
    plain = TraceCallback(classify(), tmp_path / "plain")
    run(plain.classifier, plain, tmp_path, **options)
    state = tmp_path / "trainer" / "checkpoint-8" / "trainer_state.json"
    state.write_text(state.read_text().replace('"tracemend"', '"other"'))
    for checkpoint in (tmp_path / "trainer").glob("checkpoint-12"):
        checkpoint.rename(tmp_path / "away")
    again = TraceCallback(classify(), tmp_path / "plain")
    with pytest.raises(TuningError, match="learning rates since step 6 are unknown"):
        run(again.classifier, again, tmp_path, resume=True, **options)


ROOT = Path(__file__).parents[2]
KILLED = """
import sys
from pathlib import Path
from tests.trace.test_live import Spy, classify, killed_at, run, shards, TRAIN
from tracemend import TraceCallback
classifier = classify()
shards.SHARD_BYTES = int(sys.argv[2])
trace = TraceCallback(classifier, Path(sys.argv[1]) / "run", gradients=True, uid=TRAIN.uid, dtype="float32")
run(classifier, trace, Path(sys.argv[1]), spy=Spy(classifier, killed_at(9)))
"""


def killed_at(step: int) -> Callable[[int], None]:
    def kill(now: int) -> None:
        if now == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return kill


@pytest.mark.slow
def test_a_kill_loses_at_most_a_shard_and_what_was_under_way(tmp_path: Path) -> None:
    whole, _ = traced(classify(), tmp_path / "whole")
    size = 4 * 4 * sum(block.size for block in whole.layout)  # a step's batch
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(size)], check=False, capture_output=True, cwd=ROOT
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    live = LiveTrace.open(tmp_path / "run")
    # Nine steps were taken; the writer may lag behind by its queue.
    assert 9 - 1 - 5 <= live.table["step"].nunique() <= 9
    pd.testing.assert_frame_equal(live.table["norm"].to_frame(), whole.table["norm"].iloc[: len(live.table)].to_frame())
