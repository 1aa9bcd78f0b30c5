"""LoRA's product as a part of the weights: the same gradients, and the very same weights afterwards."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import peft
import pytest
import torch
from peft.tuners.lora import Linear as LoraLinear

from tracemend.data import Labelled
from tracemend.errors import TraceError
from tracemend.trace.gradients import Gradients, per_example_gradients
from tracemend.trace.gradients.engine import LISTENING, TAPS, Batched, Pass, evaluation
from tracemend.trace.gradients.lora import LoraTap
from tracemend.trace.gradients.tap import Tap
from tracemend.tuning import TextClassifier
from tracemend.tuning.adapters import attach

Make = Callable[..., TextClassifier]


def far(found: Gradients, expected: Gradients) -> float:
    """Relative distance of two tables of gradients, whatever the order of their columns."""
    names = sorted(block.name for block in expected.layout)
    ours, theirs = (
        torch.cat([g.grads[:, {b.name: b for b in g.layout}[name].columns] for name in names], dim=1)
        for g in (found, expected)
    )
    return float((ours - theirs).norm() / theirs.norm())


def passed(classifier: TextClassifier, data: Labelled, kinds: Sequence[type[Tap]] = TAPS) -> Pass:
    rows, _ = classifier.encode(data.pairs)
    with evaluation(classifier.network):
        return Batched(classifier, kinds)(rows, torch.tensor(data.y))


@pytest.mark.parametrize("architecture", ["bert", "llama", "t5"])
def test_merged_and_unmerged_passes_agree(make: Make, data: Labelled, architecture: str) -> None:
    classifier = make(architecture, "lora")
    assert any(isinstance(tap, LoraTap) for tap in Batched(classifier).taps)
    assert Batched(classifier).layout == Batched(classifier, LISTENING).layout
    merged, plain = passed(classifier, data), passed(classifier, data, kinds=LISTENING)
    torch.testing.assert_close(merged.logits, plain.logits, rtol=1e-4, atol=1e-5)
    error = (merged.gradients - plain.gradients).norm(dim=1) / plain.gradients.norm(dim=1)
    assert 0 < error.max() < 1e-4


def test_the_weights_are_put_back_not_computed_back(make: Make, data: Labelled) -> None:
    classifier = make("bert", "lora")
    network = classifier.network
    layers = [m for m in network.modules() if isinstance(m, LoraLinear)]
    places = {name: p.data_ptr() for name, p in network.named_parameters()}
    before = {name: value.clone() for name, value in network.state_dict().items()}

    def untouched() -> bool:
        return (
            all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
            and places == {name: p.data_ptr() for name, p in network.named_parameters()}
            and not any(layer.merged for layer in layers)
        )

    seen = []
    handle = layers[0].register_forward_hook(lambda *_: seen.append(layers[0].merged))
    passed(classifier, data)
    handle.remove()
    assert seen == [True] and untouched()
    handle = network.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        passed(classifier, data)
    handle.remove()
    assert untouched()


def test_scaling_of_any_kind_is_in_the_gradients(make: Make, data: Labelled) -> None:
    classifier = make("bert", "head")
    config = peft.LoraConfig(
        task_type="SEQ_CLS", r=4, lora_alpha=32, use_rslora=True, target_modules=["query", "attention.output.dense"]
    )
    classifier.network = attach(classifier.network.get_base_model(), config, seed=0)
    with torch.no_grad():
        for parameter in classifier.trainable().values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    fast = per_example_gradients(classifier, data, method="fast", check=False)
    loop = per_example_gradients(classifier, data, method="loop")
    assert far(fast, loop) < 1e-4


def two_adapters(classifier: TextClassifier) -> None:
    for layer in classifier.network.modules():
        if isinstance(layer, LoraLinear):
            layer.update_layer("other", r=2, lora_alpha=4, config=peft.LoraConfig(r=2))
            layer._active_adapter = ["default", "other"]


def biases(classifier: TextClassifier) -> None:
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"], lora_bias=True)
    classifier.network = attach(classifier.network.get_base_model(), config, seed=0)


def shared_weights(classifier: TextClassifier) -> None:
    layers = [m for m in classifier.network.modules() if isinstance(m, LoraLinear)]
    for layer in layers[1:]:
        layer.get_base_layer().weight = layers[0].get_base_layer().weight


@pytest.mark.parametrize("change", [two_adapters, biases, shared_weights])
def test_what_is_not_plain_goes_the_other_way(make: Make, data: Labelled, change) -> None:
    classifier = make("bert", "lora")
    change(classifier)
    taps = Batched(classifier).taps
    merged = {name for tap in taps if isinstance(tap, LoraTap) for name in tap.names}
    # The layers with a bias lie around others without one.
    assert not {name for name in merged if change is not biases or ".query." in name}
    found = per_example_gradients(classifier, data, method="auto")
    loop = per_example_gradients(classifier, data, method="loop")
    assert far(found, loop) < 1e-4


def test_under_autocast_the_layers_run_as_they_are(make: Make, data: Labelled) -> None:
    classifier = make("bert", "lora")
    layer = next(m for m in classifier.network.modules() if isinstance(m, LoraLinear))
    seen = []
    handle = layer.register_forward_hook(lambda *_: seen.append(layer.merged))
    rough = per_example_gradients(classifier, data, precision="bf16", check=False)
    handle.remove()
    assert seen and not any(seen)
    exact = per_example_gradients(classifier, data)
    assert torch.nn.functional.cosine_similarity(exact.grads, rough.grads).min() > 0.97


def test_a_layer_that_something_else_calls_keeps_its_weight(make: Make, data: Labelled) -> None:
    classifier = make("bert", "lora")
    layers = classifier.network.get_base_model().encoder.encoder.layer
    # Beside its adapter in the first layer, and as it is in the second.
    layers[1].attention.self.query = layers[0].attention.self.query.get_base_layer()
    merged = {name for tap in Batched(classifier).taps if isinstance(tap, LoraTap) for name in tap.names}
    assert merged and not any(".layer.0.attention.self.query." in name for name in merged)
    fast = per_example_gradients(classifier, data, method="fast", check=False)
    assert far(fast, per_example_gradients(classifier, data, method="loop")) < 1e-4


def idle(classifier: TextClassifier) -> None:
    base = classifier.network.get_base_model()
    base.encoder.idle = torch.nn.Linear(4, 4)
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "idle"])
    classifier.network = attach(base, config, seed=0)


def changed_in_place(classifier: TextClassifier) -> None:
    base = classifier.network.get_base_model()
    attention = base.encoder.encoder.layer[0].attention.self
    attention.query = torch.nn.Sequential(OrderedDict(inner=attention.query, act=torch.nn.ReLU(inplace=True)))
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["inner", "value"])
    classifier.network = attach(base, config, seed=0)


@pytest.mark.parametrize("change", [idle, changed_in_place])
def test_what_cannot_be_listened_to_is_traced_in_another_way(make: Make, data: Labelled, change) -> None:
    classifier = make("bert", "head")
    change(classifier)
    with pytest.raises(TraceError, match="use method='loop'"):
        per_example_gradients(classifier, data, method="fast")
    found = per_example_gradients(classifier, data, method="auto")
    assert far(found, per_example_gradients(classifier, data, method="loop")) < 1e-4
