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
from tracemend.trace.gradients.embedding import EmbeddingTap
from tracemend.trace.gradients.norm import NormTap
from tracemend.trace.scoring import TracedQueries, TracInScore, score
from tracemend.trace.store import GradientStore
from tracemend.tuning import Checkpoint, TextClassifier

Make = Callable[..., TextClassifier]


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "t5"])
def test_gradients_of_every_parameter_are_those_of_the_loop(make: Make, data: Labelled, architecture: str) -> None:
    classifier = make(architecture, "full")
    found = per_example_gradients(classifier, data, batch_size=3)
    loop = per_example_gradients(classifier, data, method="loop")
    assert found.grads.shape == (len(data), sum(p.numel() for p in classifier.trainable().values()))
    assert "embeddings" in {block.group for block in found.layout}
    others = [block.name for block in found.layout if block.group == "other"]
    assert all(any(part in name.lower() for part in ("norm", "ln_f", "lm_head")) for name in others)
    largest = float(loop.grads.norm(dim=1).max())
    ours = {block.name: found.grads[:, block.columns] for block in found.layout}
    assert set(ours) == {block.name for block in loop.layout}
    for block in loop.layout:
        torch.testing.assert_close(ours[block.name], loop.grads[:, block.columns], rtol=1e-3, atol=1e-5 * largest)


def test_an_encoder_takes_one_pass_a_batch_and_ties_are_left_to_others(make: Make, data: Labelled) -> None:
    found = per_example_gradients(make("bert", "full"), data, method="fast", batch_size=3, check=False)
    loop = per_example_gradients(make("bert", "full"), data, method="loop")
    torch.testing.assert_close(found.losses, loop.losses, rtol=1e-4, atol=1e-6)
    with pytest.raises(TraceError, match="no batched gradient is known"):  # the output layer is tied to the words
        per_example_gradients(make("gpt2", "full"), data, method="fast")


@pytest.mark.parametrize("kind", ["LlamaRMSNorm", "GemmaRMSNorm", "T5LayerNorm", "LayerNorm"])
def test_norms_of_every_kind(kind: str) -> None:
    from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.models.t5.modeling_t5 import T5LayerNorm

    known = {"LlamaRMSNorm": LlamaRMSNorm, "GemmaRMSNorm": GemmaRMSNorm, "T5LayerNorm": T5LayerNorm}
    torch.manual_seed(0)
    network = torch.nn.Sequential(known.get(kind, torch.nn.LayerNorm)(6))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape))
    tap = NormTap.claim(network, dict(network.named_parameters()))
    assert tap is not None
    x, g = torch.randn(3, 4, 6, requires_grad=True), torch.randn(3, 4, 6)
    with tap.attached():
        network(x)
        rows = tap.rows([g], 3)
    for i, row in enumerate(rows):
        wanted = torch.autograd.grad((network(x[i]) * g[i]).sum(), list(network.parameters()))
        torch.testing.assert_close(row, torch.cat([one.flatten() for one in wanted]), rtol=1e-4, atol=1e-5)


def test_words_that_fill_up_a_batch_are_not_learnt_and_places_are_told_apart() -> None:
    class Words(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = torch.nn.Embedding(5, 3, padding_idx=0), torch.nn.Embedding(4, 3)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.words(ids) + self.places(torch.arange(ids.shape[1])[None])
            return found

    network, ids = Words(), torch.tensor([[1, 2, 2, 0], [4, 3, 0, 0]])
    tap = EmbeddingTap.claim(network, dict(network.named_parameters()))
    assert tap is not None
    weight = torch.randn(2, 4, 3)
    with tap.attached():
        rows = tap.rows(torch.autograd.grad((network(ids) * weight).sum(), tap.roots), 2)
    for i, row in enumerate(rows):
        wanted = torch.autograd.grad((network(ids[i : i + 1]) * weight[i]).sum(), list(network.parameters()))
        torch.testing.assert_close(row, torch.cat([one.flatten() for one in wanted]))


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
