from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, get_peft_model

from tests.models.families import DECODERS, decoder
from tracemend.models import load, tiny
from tracemend.models.moved import looked_and_moved

IDS = torch.tensor([[5, 7, 9, 11, 7]])


@pytest.mark.parametrize("name", DECODERS)
def test_both_are_shares(name: str) -> None:
    model = decoder(name)
    looked, moved = looked_and_moved(model, lambda: model.network(IDS))
    assert looked.shape == moved.shape and looked.shape[-2:] == (5, 5)
    assert looked.sum(-1).allclose(torch.ones(()), atol=1e-5) and moved.sum(-1).allclose(torch.ones(()), atol=1e-5)


def test_values_of_equal_length_move_as_the_pattern_says() -> None:
    model = tiny("gpt2")
    same = torch.tensor([[7, 7, 7, 7]])
    with torch.no_grad():
        # One token everywhere, and no positions: every value is the same.
        model.network.get_submodule("transformer.wpe").weight.zero_()
        looked, moved = looked_and_moved(model, lambda: model.network(same))
    assert looked.allclose(moved, atol=1e-5)


def test_an_adapter_on_the_output_is_taken_as_it_is() -> None:
    """The same as after merging it into the layer."""
    model = tiny("llama")
    tuned = get_peft_model(model.network, LoraConfig(r=2, target_modules=["o_proj", "v_proj"]))
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(1))
    tuned.eval()
    found = looked_and_moved(tuned, lambda: tuned(IDS))
    merged = tuned.merge_and_unload()
    again = looked_and_moved(merged, lambda: merged(IDS))
    for one, other in zip(found, again, strict=True):
        assert one.allclose(other, atol=1e-5)


def test_tokens_of_a_prompt_are_positions_and_keys_of_a_prefix_are_not() -> None:
    prompt = get_peft_model(
        tiny("gpt2").network, PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    ).eval()
    assert looked_and_moved(prompt, lambda: prompt(IDS))[1].shape[-2:] == (8, 8)
    prefix = get_peft_model(
        tiny("gpt2").network, PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    ).eval()
    looked, moved = looked_and_moved(prefix, lambda: prefix(IDS))
    assert moved.shape[-2:] == (5, 5) and moved.sum(-1).allclose(torch.ones(()), atol=1e-5)
    assert (looked.sum(-1) < 1).all()


@pytest.mark.slow
def test_the_model_is_left_as_it_was() -> None:
    model = load("minilm")
    before = model.network(IDS).last_hidden_state
    looked_and_moved(model, lambda: model.network(IDS))
    assert torch.equal(before, model.network(IDS).last_hidden_state)
