"""A classifier changes nothing in the model that it is made from, and lies where that model lies."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.tuning.conftest import CASES, PAIRS, learnable
from tracemend.models import tiny
from tracemend.tuning import TextClassifier, Tuning, tune
from tracemend.tuning.pooled import linear_head


@pytest.mark.parametrize(("architecture", "kind"), CASES)
def test_the_pretrained_network_is_as_before(architecture: str, kind: Any) -> None:
    model = tiny(architecture)
    names = [name for name, _ in model.network.named_modules()]
    weights = {name: p.detach().clone() for name, p in model.network.named_parameters()}
    frozen = next(iter(model.network.parameters())).requires_grad_(False)
    asked = {name: p.requires_grad for name, p in model.network.named_parameters()}
    places = {name: p.data_ptr() for name, p in model.network.named_parameters()}
    tuning = Tuning(adapter=kind, epochs=1, batch_size=8, precision="fp32", max_length=32, virtual_tokens=2, rank=2)
    tuned = tune(model, learnable(12), learnable(6, seed=1), tuning)
    assert [name for name, _ in model.network.named_modules()] == names
    assert {name: p.requires_grad for name, p in model.network.named_parameters()} == asked
    assert not frozen.requires_grad and any(asked.values())
    for name, p in model.network.named_parameters():
        assert torch.equal(p, weights[name]) and p.grad is None, name
    # The weights are shared, not copied.
    held = {p.data_ptr() for p in tuned.classifier.network.parameters()}
    assert set(places.values()) <= held


@pytest.mark.parametrize(
    ("architecture", "kind"), [*CASES, *((one, "full") for one in ("bert", "gpt2", "llama", "t5"))]
)
def test_the_global_random_state_is_untouched_and_plays_no_part(architecture: str, kind: Any) -> None:
    model, made = tiny(architecture), []
    for state in (1, 2):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        made.append(TextClassifier(model, ("safe", "unsafe"), kind=kind, virtual_tokens=2, rank=2, seed=3))
        assert torch.equal(torch.get_rng_state(), before)
    for (name, one), (_, other) in zip(*(of.network.named_parameters() for of in made), strict=True):
        assert torch.equal(one, other), name


def test_a_heads_first_weights_are_those_of_its_seed() -> None:
    """The weights of earlier runs: drawn by width under the seed, over whatever torch had put there."""
    expected = torch.empty(3, 16).normal_(0.0, 0.25, generator=torch.Generator().manual_seed(5))
    made = linear_head(16, 3, seed=5, device=torch.device("cpu"))
    assert torch.equal(made.weight, expected) and not made.bias.any()
    assert made.weight.requires_grad and made.bias.requires_grad and made.weight.dtype == torch.float32
    assert linear_head(16, 3, seed=5, device=torch.device("meta")).weight.is_meta


def test_tied_weights_stay_tied() -> None:
    model = tiny("gpt2")
    classifier = TextClassifier(model, ("safe", "unsafe"), kind="lora", rank=2, max_length=48)
    bare = classifier.network.get_base_model()
    assert bare.get_input_embeddings().weight is bare.get_output_embeddings().weight


@pytest.mark.parametrize("kind", ["lora", "head", "ia3", "prefix"])
def test_all_parts_lie_on_the_models_device(kind: Any) -> None:
    """The meta device stands for any other than the processor."""
    model = tiny("bert")
    model.network.to("meta")
    classifier = TextClassifier(model, ("safe", "unsafe"), kind=kind, virtual_tokens=2, rank=2, max_length=32)
    assert {name for name, p in classifier.network.named_parameters() if p.device.type != "meta"} == set()
    assert classifier.batch(classifier.encode(PAIRS)[0])["input_ids"].device.type == "meta"
