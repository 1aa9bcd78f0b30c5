from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.models.conftest import inputs_of
from tests.models.families import CONFIGS, decoder
from tracemend.errors import ModelError
from tracemend.models import LanguageModel, capture, edit, sites, tiny


def answer(output: Any) -> torch.Tensor:
    return output.logits if "logits" in output else output.last_hidden_state


def hooks_on(network: torch.nn.Module) -> list[tuple[str, str, int]]:
    """Every hook and instance attribute of every module, so that nothing can be left behind unseen."""
    return [
        (path, key, len(value) if hasattr(value, "__len__") else 0)
        for path, module in network.named_modules()
        for key, value in sorted(vars(module).items())
    ]


@torch.no_grad()
def test_capture_equals_transformers_own_outputs(model: LanguageModel, inputs: dict[str, Any]) -> None:
    pattern = "blocks.{}.attn.hook_pattern"
    names = [f"blocks.{i}.hook_resid_{side}" for i in range(2) for side in ("pre", "post")]
    names += [pattern.format(i) for i in range(2)]
    stacks = [("", "")] if model.family != "encoder-decoder" else [("", "encoder_"), ("decoder.", "decoder_")]
    with capture(model, [prefix + name for prefix, _ in stacks for name in names]) as seen:
        output = model.network(**inputs, output_hidden_states=True, output_attentions=True)
    for prefix, kind in stacks:
        streams, attentions = output[f"{kind}hidden_states"], output[f"{kind}attentions"]
        for i in range(2):
            assert torch.equal(seen[f"{prefix}blocks.{i}.hook_resid_pre"], streams[i])
            assert torch.equal(seen[prefix + pattern.format(i)], attentions[i])
        assert torch.equal(seen[f"{prefix}blocks.0.hook_resid_post"], streams[1])
        if model.family == "encoder":
            assert torch.equal(seen["blocks.1.hook_resid_post"], streams[2])
        else:
            # transformers gives the last stream after the final norm.
            with capture(model, [f"{prefix}ln_final.hook_normalized"]) as last:
                model.network(**inputs)
            assert torch.equal(last[f"{prefix}ln_final.hook_normalized"], streams[2])
    if model.family == "encoder-decoder":
        with capture(model, ["decoder.blocks.1.cross_attn.hook_pattern"]) as seen:
            model.network(**inputs)
        assert torch.equal(seen["decoder.blocks.1.cross_attn.hook_pattern"], output.cross_attentions[1])


def check_sums(model: LanguageModel, inputs: dict[str, Any]) -> None:
    """What a block adds to its stream is what its sites say."""
    with capture(model, [s.name for s in sites(model)]) as seen:
        model.network(**inputs)
    for stack in ["", "decoder."] if model.family == "encoder-decoder" else [""]:
        for i in range(2):
            at = {key.rpartition("hook_")[2]: value for key, value in seen.items() if f"{stack}blocks.{i}." in key}
            if "cross_attn_out" in at:
                torch.testing.assert_close(at["resid_mid"] + at["cross_attn_out"], at["resid_mid_cross"])
                at["resid_mid"] = at["resid_mid_cross"]
            else:
                torch.testing.assert_close(at["resid_pre"] + at["attn_out"], at["resid_mid"])
            torch.testing.assert_close(at["resid_mid"] + at["mlp_out"], at["resid_post"])


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "t5"])
def test_streams_are_the_sum_of_what_blocks_add(architecture: str) -> None:
    model = tiny(architecture)
    check_sums(model, inputs_of(model))


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "neox"])
def test_streams_of_the_other_decoders(name: str) -> None:
    check_sums(decoder(name), {"input_ids": torch.arange(12).reshape(2, 6)})


@torch.no_grad()
def test_side_by_side_attention_and_mlp_read_one_stream() -> None:
    model = decoder("neox")
    with capture(model, [s.name for s in sites(model)]) as seen:
        model.network(torch.arange(12).reshape(2, 6))
    assert not any("resid_mid" in name for name in seen)
    added = seen["blocks.1.hook_attn_out"] + seen["blocks.1.hook_mlp_out"]
    torch.testing.assert_close(seen["blocks.1.hook_resid_pre"] + added, seen["blocks.1.hook_resid_post"])


@torch.no_grad()
def test_heads_whose_parts_lie_side_by_side_can_be_edited_one_by_one() -> None:
    """GPT-NeoX keeps query, key and value of a head together."""
    model = decoder("neox")
    ids = torch.arange(12).reshape(2, 6)
    names = [f"blocks.1.attn.hook_{part}" for part in ("q", "k", "v", "pattern", "z")]
    with capture(model, names) as before:
        model.network(ids)
    q, k, v, pattern, z = (before[name] for name in names)
    torch.testing.assert_close(torch.einsum("bhqk,bkhd->bqhd", pattern, v), z)
    with edit(model, {names[2]: torch.zeros_like}), capture(model, names) as after:
        model.network(ids)
    assert torch.equal(after[names[0]], q) and torch.equal(after[names[1]], k)
    assert after[names[2]].abs().sum() == 0 and after[names[4]].abs().sum() == 0


@torch.no_grad()
def test_bert_streams_include_their_norms() -> None:
    model = tiny("bert")
    names = ["hook_resid_pre", "hook_attn_out", "hook_resid_mid", "hook_mlp_out", "hook_resid_post"]
    with capture(model, [f"blocks.1.{name}" for name in names]) as seen:
        model.network(**inputs_of(model))
    pre, attn, mid, mlp, post = (seen[f"blocks.1.{name}"] for name in names)
    layer = model.network.encoder.layer[1]
    torch.testing.assert_close(layer.attention.output.LayerNorm(pre + attn), mid)
    torch.testing.assert_close(layer.output.LayerNorm(mid + mlp), post)


@torch.no_grad()
def test_heads_give_the_attention_output(model: LanguageModel, inputs: dict[str, Any]) -> None:
    """z is the pattern times v, so head order and the key-value groups are right."""
    names = [f"blocks.1.attn.hook_{part}" for part in ("v", "pattern", "z")]
    with capture(model, names) as seen:
        model.network(**inputs)
    v, pattern, z = (seen[name] for name in names)
    v = v.repeat_interleave(z.shape[2] // v.shape[2], dim=2)
    torch.testing.assert_close(torch.einsum("bhqk,bkhd->bqhd", pattern, v), z)


@torch.no_grad()
def test_editing_by_identity_is_bit_identical_and_zeroing_is_not(model: LanguageModel, inputs: dict[str, Any]) -> None:
    plain = answer(model.network(**inputs))
    for where in sites(model):
        if not where.editable:
            continue
        with edit(model, {where.name: lambda t: t}):
            assert torch.equal(answer(model.network(**inputs)), plain), where.name
        with edit(model, {where.name: lambda t: t.zero_()}):
            assert not torch.equal(answer(model.network(**inputs)), plain), where.name
    assert torch.equal(answer(model.network(**inputs)), plain)


@torch.no_grad()
def test_edit_changes_the_named_part_alone(model: LanguageModel, inputs: dict[str, Any]) -> None:
    names = [f"blocks.1.attn.hook_{part}" for part in "qkv"]
    with capture(model, names) as before:
        model.network(**inputs)
    with edit(model, {names[1]: lambda k: k + 1}), capture(model, names) as after:
        model.network(**inputs)
    assert torch.equal(before[names[0]], after[names[0]])
    assert torch.equal(before[names[1]] + 1, after[names[1]])
    assert torch.equal(before[names[2]], after[names[2]])


def test_the_model_is_left_as_it_was(model: LanguageModel, inputs: dict[str, Any]) -> None:
    weights = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    before = hooks_on(model.network)
    every = [s.name for s in sites(model)]
    with capture(model, every, grad=True), edit(model, {"blocks.0.hook_resid_post": lambda t: t * 2}):
        assert hooks_on(model.network) != before
        model.network(**inputs)
    assert hooks_on(model.network) == before
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, weights[name]), name


def test_exceptions_clean_up_too(model: LanguageModel, inputs: dict[str, Any]) -> None:
    before = hooks_on(model.network)

    def broken(_: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("broken")

    with (
        pytest.raises(RuntimeError, match="broken"),
        capture(model, ["blocks.0.hook_resid_pre"]),
        edit(model, {"blocks.1.attn.hook_z": broken}),
    ):
        model.network(**inputs)
    with pytest.raises(ModelError, match="not one of"):
        edit(model, {"blocks.0.hook_resid_pre": broken, "nowhere": broken}).__enter__()
    assert hooks_on(model.network) == before


@torch.no_grad()
def test_contexts_act_in_the_order_they_were_entered(model: LanguageModel, inputs: dict[str, Any]) -> None:
    name = "blocks.0.hook_resid_post"
    with (
        capture(model, [name]) as outer,
        edit(model, {name: lambda t: t + 1}),
        edit(model, {name: lambda t: t * 2}),
        capture(model, [name]) as inner,
    ):
        model.network(**inputs)
    assert torch.equal((outer[name] + 1) * 2, inner[name])


def test_gradients_of_every_site_are_those_of_a_nudge(model: LanguageModel, inputs: dict[str, Any]) -> None:
    """d answer / d site, against the gradient of zeros that an edit adds to the site."""
    shape = answer(model.network(**inputs)).shape
    weights = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    every = [s for s in sites(model) if s.editable]
    with capture(model, [s.name for s in every], grad=True) as seen:
        (answer(model.network(**inputs)) * weights).sum().backward()
    for where in every:
        gradient = seen[where.name].grad
        nudge = torch.zeros_like(seen[where.name]).requires_grad_()
        with edit(model, {where.name: nudge.add}):
            (answer(model.network(**inputs)) * weights).sum().backward()
        assert gradient is not None and nudge.grad is not None, where.name
        assert gradient.abs().sum() > 0, where.name
        torch.testing.assert_close(gradient, nudge.grad, rtol=1e-4, atol=1e-5, msg=where.name)


def test_gradients_where_the_network_is_frozen(model: LanguageModel, inputs: dict[str, Any]) -> None:
    model.network.requires_grad_(False)
    with capture(model, ["hook_embed"], grad=True) as seen:
        answer(model.network(**inputs)).sum().backward()
    assert seen["hook_embed"].grad is not None and seen["hook_embed"].grad.abs().sum() > 0
    with (
        pytest.raises(ModelError, match="capture an editable site"),
        capture(model, ["blocks.0.attn.hook_pattern"], grad=True),
    ):
        model.network(**inputs)
    with pytest.raises(ModelError, match="no_grad"), torch.no_grad(), capture(model, ["hook_embed"], grad=True):
        model.network(**inputs)


def test_what_cannot_be_done_is_said(model: LanguageModel, inputs: dict[str, Any]) -> None:
    with (
        pytest.raises(ModelError, match="can be read but not edited"),
        edit(model, {"blocks.0.attn.hook_pattern": abs}),
    ):
        pass
    with (
        pytest.raises(ModelError, match=r"returned \(1,\); expected"),
        edit(model, {"hook_embed": lambda t: t.new_zeros(1)}),
    ):
        model.network(**inputs)
    model.network.set_attn_implementation("sdpa")
    with pytest.raises(ModelError, match="eager"), capture(model, ["blocks.0.attn.hook_pattern"]):
        model.network(**inputs)
    model.network.set_attn_implementation("eager")
