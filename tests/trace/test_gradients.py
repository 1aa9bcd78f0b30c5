"""Every fast way to per-example gradients gives what one backward pass an example gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import peft
import pytest
import torch

from tracemend.data import Labelled
from tracemend.errors import TraceError
from tracemend.progress import Progress
from tracemend.trace.gradients import gradient_batches, per_example_gradients
from tracemend.trace.gradients.engine import Batched, Loop
from tracemend.trace.gradients.layout import expand
from tracemend.trace.gradients.lora import LoraTap
from tracemend.trace.gradients.selftest import agreement
from tracemend.tuning import TextClassifier
from tracemend.tuning.adapters import attach

Make = Callable[..., TextClassifier]

CASES = [
    (architecture, kind)
    for architecture in ("bert", "gpt2", "llama", "t5")
    for kind in ("prompt", "p-tuning", "prefix", "lora", "ia3", "head")
    if kind != "head" or architecture == "bert"
]


class Notes(Progress):
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def note(self, event: str, **facts: Any) -> None:
        self.events.append((event, facts))


@pytest.mark.parametrize(("architecture", "kind"), CASES)
def test_batched_gradients_are_those_of_the_loop(make: Make, data: Labelled, architecture: str, kind: str) -> None:
    classifier = make(architecture, kind)
    rows, _ = classifier.encode(data.pairs)
    y = torch.tensor(data.y)
    fast, loop = Batched(classifier), Loop(classifier)
    found, expected = fast(rows, y), loop(rows, y)
    torch.testing.assert_close(found.losses, expected.losses, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-5)
    assert (expected.gradients.norm(dim=1) > 1e-4).all()  # nothing is compared with nothing
    for row, reference in zip(found.gradients, expected.gradients, strict=True):
        by_name = fast.chain(row)
        ours = torch.cat([by_name[block.name].flatten() for block in loop.layout])
        torch.testing.assert_close(ours, reference, rtol=1e-3, atol=1e-5 * float(reference.norm()))


@pytest.mark.parametrize("kind", ["prompt", "p-tuning", "prefix", "lora", "ia3"])
def test_the_batch_changes_nothing(make: Make, data: Labelled, kind: str) -> None:
    classifier = make("gpt2", kind)
    one = per_example_gradients(classifier, data, batch_size=1)
    many = per_example_gradients(classifier, data, batch_size=4)
    torch.testing.assert_close(one.grads, many.grads, rtol=1e-3, atol=1e-6)
    backwards = per_example_gradients(classifier, data.take(range(len(data) - 1, -1, -1)), batch_size=4)
    torch.testing.assert_close(backwards.grads.flip(0), many.grads, rtol=1e-3, atol=1e-6)
    assert backwards.uid == many.uid[::-1]


@pytest.mark.parametrize(("architecture", "kind"), [("bert", "prompt"), ("llama", "lora"), ("t5", "ia3")])
def test_gradients_predict_the_loss_a_small_step_away(make: Make, data: Labelled, architecture: str, kind: str) -> None:
    classifier = make(architecture, kind)
    found = per_example_gradients(classifier, data)
    parameters = classifier.trainable()
    generator = torch.Generator().manual_seed(5)
    direction = {block.name: torch.randn(block.shape, generator=generator) for block in found.layout}
    expected = found.grads @ torch.cat([direction[block.name].flatten() for block in found.layout])

    def losses(step: float) -> torch.Tensor:
        with torch.no_grad():
            for block in found.layout:  # T5's prompt tables hold rows for the decoder that nothing reads
                parameters[block.name].flatten()[: block.size].add_(step * direction[block.name].flatten())
            return torch.nn.functional.cross_entropy(
                torch.tensor(classifier.predict(data.pairs)).double(), torch.tensor(data.y), reduction="none"
            )

    step = 1e-3
    up = losses(step)
    down = losses(-2 * step)
    torch.testing.assert_close(((up - down) / (2 * step)).float(), expected, rtol=0.02, atol=5e-3)


def test_the_pass_leaves_the_network_as_it_was(make: Make, data: Labelled) -> None:
    classifier = make("bert", "lora")
    classifier.network.train()
    before = classifier.state()
    per_example_gradients(classifier, data)
    assert all(module.training for module in classifier.network.modules())
    assert all(p.grad is None for p in classifier.network.parameters())
    assert all(torch.equal(before[n], p) for n, p in classifier.state().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in classifier.network.modules())


def test_the_same_pass_twice_is_bit_identical(make: Make, data: Labelled) -> None:
    classifier = make("bert", "prefix")
    a, b = per_example_gradients(classifier, data), per_example_gradients(classifier, data)
    assert torch.equal(a.grads, b.grads)


def test_losses_logits_margins_and_norms_come_along(make: Make, data: Labelled) -> None:
    classifier = make("bert", "prompt")
    found = per_example_gradients(classifier, data)
    logits = classifier.predict(data.pairs)
    np.testing.assert_allclose(found.logits, logits, atol=1e-5)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(found.probability, p[np.arange(len(p)), data.y], atol=1e-5)
    own = logits[np.arange(len(p)), data.y]
    np.testing.assert_allclose(found.margins, own - logits[np.arange(len(p)), 1 - data.y], atol=1e-5)
    np.testing.assert_allclose(found.norms, np.linalg.norm(found.grads.numpy(), axis=1), rtol=1e-5)


def test_the_head_gradient_is_residual_times_pooled_input(make: Make, data: Labelled) -> None:
    classifier = make("bert", "head")
    found = per_example_gradients(classifier, data)
    p = torch.softmax(torch.tensor(found.logits), 1)
    residual = p - torch.eye(2)[torch.tensor(found.y)]
    weight, bias = found.layout
    torch.testing.assert_close(found.grads[:, bias.columns], residual, rtol=1e-4, atol=1e-6)
    head = classifier.trainable()[weight.name]
    # W a + b are the logits, so W times the gradient's rows gives them back.
    activation = found.grads[:, weight.columns].reshape(-1, *weight.shape) / residual[:, :, None]
    logits = activation[:, 0] @ head.T + classifier.trainable()[bias.name]
    torch.testing.assert_close(logits, torch.tensor(found.logits), rtol=1e-3, atol=1e-4)


def test_a_sure_example_keeps_the_direction_of_its_gradient(make: Make, data: Labelled) -> None:
    """In single precision p - y of a saturated softmax would be rounding."""
    classifier = make("bert", "head")
    with torch.no_grad():
        for parameter in classifier.trainable().values():
            parameter.mul_(60)
    found = per_example_gradients(classifier, data)
    assert found.losses.min() < 1e-6
    bias = found.grads[:, found.layout[1].columns]
    torch.testing.assert_close(bias[:, 0], -bias[:, 1], rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["prompt", "p-tuning", "prefix", "lora", "ia3"])
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_mapped_gradients_are_those_of_the_loop(make: Make, data: Labelled, architecture: str, kind: str) -> None:
    classifier = make(architecture, kind)
    mapped = per_example_gradients(classifier, data, method="vmap", check=False)
    loop = per_example_gradients(classifier, data, method="loop")
    assert mapped.layout == loop.layout
    torch.testing.assert_close(mapped.grads, loop.grads, rtol=1e-3, atol=1e-5 * float(loop.grads.norm(dim=1).max()))


def test_a_network_that_cannot_be_mapped_is_refused(make: Make, data: Labelled) -> None:
    with pytest.raises(TraceError, match="vmap cannot map"):
        per_example_gradients(make("bert", "lora"), data, method="vmap")


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_heads_and_norms_in_compact_rows(make: Make, data: Labelled, architecture: str) -> None:
    classifier = make(architecture, "lora")
    dense, compact = (per_example_gradients(classifier, data, compact=c) for c in (False, True))
    assert any(block.kind == "outer" for block in compact.layout) == (architecture == "bert")
    grads, layout = expand(compact.grads, compact.layout)
    assert layout == dense.layout
    torch.testing.assert_close(grads, dense.grads)
    np.testing.assert_allclose(compact.norms, dense.norms, rtol=1e-5)
    if architecture == "bert":
        head = compact.only(["head"])
        assert head.grads.shape[1] == head.layout[0].size == sum(head.layout[0].shape)
        np.testing.assert_allclose(head.norms, dense.only(["head"]).norms, rtol=1e-5)


def test_variants_of_lora_are_mapped_where_that_works_and_it_is_said(make: Make, data: Labelled) -> None:
    classifier = make("llama", "lora")
    base = classifier.network.get_base_model()
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"], use_dora=True)
    classifier.network = attach(base, config, seed=0)
    notes = Notes()
    found = per_example_gradients(classifier, data, progress=notes)
    assert [event for event, _ in notes.events] == ["gradients fall back to torch.func.vmap"]
    loop = per_example_gradients(classifier, data, method="loop")
    torch.testing.assert_close(found.grads, loop.grads, rtol=1e-3, atol=1e-5 * float(loop.grads.norm(dim=1).max()))


def test_variants_of_lora_fall_back_to_the_loop_and_say_so(make: Make, data: Labelled) -> None:
    classifier = make("bert", "head")
    base = classifier.network.get_base_model()
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"], use_dora=True)
    classifier.network = attach(base, config, seed=0)
    notes = Notes()
    found = per_example_gradients(classifier, data, progress=notes)
    assert [event for event, _ in notes.events] == ["gradients fall back to one example at a time"]
    assert "lora_" in notes.events[0][1]["reason"]
    assert found.grads.shape[1] == sum(p.numel() for p in classifier.trainable().values())
    with pytest.raises(TraceError, match="refused"):
        per_example_gradients(classifier, data, method="fast")


def test_the_self_test_catches_a_wrong_fast_way(make: Make, data: Labelled, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = make("bert", "lora")
    right = LoraTap.rows
    monkeypatch.setattr(LoraTap, "rows", lambda self, g, batch: right(self, g, batch).roll(1, dims=0))
    rows, _ = classifier.encode(data.pairs)
    fault = agreement(Batched(classifier), rows, torch.tensor(data.y))
    assert fault is not None and "cosine" in fault
    notes = Notes()
    found = per_example_gradients(classifier, data, progress=notes)
    assert notes.events
    torch.testing.assert_close(found.grads, per_example_gradients(classifier, data, method="loop").grads)
    with pytest.raises(TraceError, match="cosine"):
        per_example_gradients(classifier, data, method="fast")


def test_groups_name_layers_and_can_be_chosen(make: Make, data: Labelled) -> None:
    lora = per_example_gradients(make("t5", "lora"), data)
    assert {block.group for block in lora.layout} == {"layer.0", "layer.1", "decoder.layer.0", "decoder.layer.1"}
    assert lora.only(["layer"]).grads.shape == lora.grads.shape
    prompt = per_example_gradients(make("bert", "prompt"), data)
    assert [block.group for block in prompt.layout] == ["prompt", "head", "head"]
    alone = prompt.only(["prompt"])
    assert torch.equal(alone.grads, prompt.grads[:, prompt.layout[0].columns])
    with pytest.raises(TraceError, match="did you mean 'prompt'"):
        prompt.only(["promt"])


def test_bf16_is_close_but_not_the_default(make: Make, data: Labelled) -> None:
    classifier = make("bert", "lora")
    exact = per_example_gradients(classifier, data)
    rough = per_example_gradients(classifier, data, precision="bf16")
    assert not torch.equal(exact.grads, rough.grads)
    assert torch.nn.functional.cosine_similarity(exact.grads, rough.grads).min() > 0.97


def test_batches_cover_every_example_once(make: Make, data: Labelled) -> None:
    parts = list(gradient_batches(make("bert", "ia3"), data, batch_size=3))
    assert sorted(np.concatenate([rows for rows, _ in parts])) == list(range(len(data)))
    assert max(len(rows) for rows, _ in parts) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.take([]), "no examples"),
        (lambda d: Labelled.make(["a", "b"], ["x", "y"]), "labels x, y and the model safe, unsafe"),
    ],
)
def test_data_that_does_not_fit_is_refused(
    make: Make, data: Labelled, change: Callable[[Labelled], Labelled], message: str
) -> None:
    with pytest.raises(TraceError, match=message):
        per_example_gradients(make("bert", "head"), change(data))


def test_a_broken_network_is_refused(make: Make, data: Labelled) -> None:
    classifier = make("bert", "prompt")
    with torch.no_grad():
        next(iter(classifier.trainable().values())).fill_(float("nan"))
    with pytest.raises(TraceError, match="not finite"):
        per_example_gradients(classifier, data)


def test_a_batch_without_room_is_halved(make: Make, data: Labelled, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = make("bert", "lora")
    expected = per_example_gradients(classifier, data, batch_size=2)
    right, sizes, most = Batched.__call__, [], 2

    def narrow(self: Batched, rows: Any, y: Any) -> Any:
        sizes.append(len(rows))
        if len(rows) > most:
            raise torch.OutOfMemoryError("no room")
        return right(self, rows, y)

    monkeypatch.setattr(Batched, "__call__", narrow)
    found = per_example_gradients(classifier, data, batch_size=7, check=False)
    torch.testing.assert_close(found.grads, expected.grads)
    assert max(sizes) == 7 and found.uid == expected.uid
    most = 0
    with pytest.raises(TraceError, match="no room for the gradient of one example"):
        per_example_gradients(classifier, data, batch_size=7, check=False)


@pytest.mark.parametrize("method", ["fast", "vmap"])
def test_a_batch_whose_backward_pass_has_no_room_is_halved(
    make: Make, data: Labelled, monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    classifier = make("gpt2", "lora")
    expected = per_example_gradients(classifier, data, batch_size=2)
    sizes = []

    def narrow(right: Any, size: Any) -> Any:
        def found(*args: Any) -> Any:
            sizes.append(size(*args))
            if sizes[-1] > 2:
                raise torch.OutOfMemoryError("no room")
            return right(*args)

        return found

    if method == "fast":
        backward = narrow(torch.autograd.grad, lambda _, roots: len(roots[0]))
        monkeypatch.setattr(torch.autograd, "grad", backward)
    else:
        vmap = torch.func.vmap
        monkeypatch.setattr(torch.func, "vmap", lambda *a, **k: narrow(vmap(*a, **k), lambda _, __, y: len(y)))
    found = per_example_gradients(classifier, data, method=method, batch_size=7, check=False)
    torch.testing.assert_close(found.losses, expected.losses)
    torch.testing.assert_close(found.norms, expected.norms, rtol=1e-4, atol=1e-6)
    assert max(sizes) == 7


def test_an_unknown_method_is_refused(make: Make, data: Labelled) -> None:
    with pytest.raises(TraceError, match="did you mean 'fast'"):
        per_example_gradients(make("bert", "head"), data, method="fasst")


def test_a_frozen_adapter_is_refused(make: Make, data: Labelled) -> None:
    classifier = make("bert", "prompt")
    classifier.network.requires_grad_(False)
    with pytest.raises(TraceError, match="is_trainable=True"):
        per_example_gradients(classifier, data)
