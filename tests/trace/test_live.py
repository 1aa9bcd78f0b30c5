"""Tracing while training: nothing changes for the training, and every step's gradient is the mean of its examples'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from transformers import Trainer

from tests.trace.live_training import QUERIES, TRAIN, Spy, check_steps, classify, run, traced
from tracemend import TraceCallback
from tracemend.errors import TraceError
from tracemend.trace import LiveTrace, per_example_gradients, query_gradients
from tracemend.trace.gradients.layout import expand
from tracemend.trace.live import shards

KINDS = ("prompt", "p-tuning", "prefix", "lora", "ia3", "head")
FAMILIES = [("gpt2", "prompt"), ("gpt2", "lora"), ("llama", "prefix"), ("t5", "prompt"), ("t5", "lora")]


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_evaluation_between_the_steps_leaves_no_rows(tmp_path: Path) -> None:
    live, spy = traced(classify(), tmp_path, evaluate=True, eval_strategy="steps", eval_steps=2)
    assert len(live.table) == 2 * len(TRAIN)
    check_steps(live, spy)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_many_small_shards_and_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = traced(classify(), tmp_path / "whole")
    monkeypatch.setattr(shards, "SHARD_BYTES", 3 * 4 * sum(block.size for block in whole.layout))
    live, spy = traced(classify(), tmp_path / "small")
    assert live.table.groupby("shard").size().max() == 3 and live.table["shard"].nunique() == 15
    check_steps(live, spy)
    queries = per_example_gradients(classify(), QUERIES)
    pd.testing.assert_frame_equal(live.influence(queries), whole.influence(queries))
