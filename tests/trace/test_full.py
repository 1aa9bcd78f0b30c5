"""Gradients of all parameters of a model: exact, or refused with what they would take and what to do instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tracemend.data import Labelled
from tracemend.errors import TraceError
from tracemend.trace import TracIn, per_example_gradients
from tracemend.trace.gradients import gradient_batches, room
from tracemend.trace.scoring import TracedQueries, TracInScore, score
from tracemend.trace.store import GradientStore
from tracemend.tuning import Checkpoint, TextClassifier

Make = Callable[..., TextClassifier]


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "t5"])
def test_gradients_of_every_parameter_are_those_of_the_loop(make: Make, data: Labelled, architecture: str) -> None:
    classifier = make(architecture, "full")
    found = per_example_gradients(classifier, data, batch_size=3)
    loop = per_example_gradients(classifier, data, method="loop")
    assert found.grads.shape == (len(data), sum(p.numel() for p in classifier.trainable().values()))
    assert [block.name for block in found.layout] == [block.name for block in loop.layout]
    assert "embeddings" in {block.group for block in found.layout}
    assert not [block.name for block in found.layout if block.group == "other" and "norm" not in block.name.lower()
                and "ln_f" not in block.name]  # fmt: skip
    torch.testing.assert_close(found.grads, loop.grads, rtol=1e-3, atol=1e-5 * float(loop.grads.norm(dim=1).max()))


def test_some_layers_alone_are_columns_of_the_whole(make: Make, data: Labelled) -> None:
    classifier = make("bert", "full")
    whole = per_example_gradients(classifier, data)
    part = per_example_gradients(classifier, data, parts=("layer.1", "head"))
    assert {block.group for block in part.layout} == {"layer.1", "head"}
    assert torch.equal(part.grads, whole.only(("layer.1", "head")).grads)


def test_tracin_under_full_tuning(make: Make, data: Labelled) -> None:
    classifier = make("bert", "full")
    state = classifier.state()
    found = TracIn(normalise_train=False, normalise_query=False).influence(classifier, data, data)
    np.testing.assert_allclose(np.diag(found.scores), found.self_influence, rtol=1e-3)
    some = TracIn(parts=("layer.0",)).influence(classifier, data, data)
    np.testing.assert_allclose(np.diag(some.scores), 1, rtol=1e-4)
    assert all(torch.equal(state[name], p) for name, p in classifier.state().items())


def test_scores_from_a_projected_store_follow_the_exact_ones(make: Make, data: Labelled, tmp_path: Path) -> None:
    classifier = make("bert", "full")
    checkpoint = Checkpoint(step=1, lr_sum=1.0, state=classifier.state(), moments={})
    queries = TracedQueries(classifier, data.take([1, 4]), [checkpoint])
    found = {}
    for width in (None, 16):
        store = GradientStore.build(
            tmp_path / f"{width}", classifier, data, [checkpoint], dtype="float32", project=width
        )
        found[width] = score(store, queries, TracInScore(), dense=tmp_path / f"{width}.npy").matrix(), store.width
    assert found[16][1] < found[None][1] / 2
    assert np.corrcoef(found[16][0].ravel(), found[None][0].ravel())[0, 1] > 0.9


def test_too_many_numbers_are_refused_with_what_they_take(
    make: Make, data: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = make("bert", "full")
    width = sum(p.numel() for p in classifier.trainable().values())
    monkeypatch.setattr(room, "free_memory", lambda: 3 * 4 * width)
    with pytest.raises(
        TraceError, match=rf"7 examples, {width:,} numbers .* GB .*--project 64.*parts=.*--adapter lora"
    ):
        per_example_gradients(classifier, data, batch_size=1)
    # A part of the parameters has room, and so have batches that are not kept.
    assert len(per_example_gradients(classifier, data, batch_size=1, parts=("head",))) == len(data)
    assert sum(len(part) for _, part in gradient_batches(classifier, data, batch_size=1)) == len(data)
    with pytest.raises(TraceError, match="a batch size below 4"):
        next(gradient_batches(classifier, data, batch_size=4))


def test_free_memory_is_a_number_of_bytes() -> None:
    found = room.free_memory()
    assert found is not None and found > 2**20


def test_where_the_system_does_not_say_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_memory", lambda: None)
    room.check_room(10**6, 10**9, remedy="none")
