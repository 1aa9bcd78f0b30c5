from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import OPTConfig, OPTForCausalLM, T5EncoderModel

from tracemend.errors import ModelError
from tracemend.models import LanguageModel, Site, capture, edit, register_site, site, sites, tiny
from tracemend.models.sites import HEADS, INNER, PATTERN, STREAM


@torch.no_grad()
def test_every_site_has_the_shape_it_states(model: LanguageModel, inputs: dict[str, Any]) -> None:
    table = sites(model)
    assert len({s.name for s in table}) == len(table)
    with capture(model, [s.name for s in table]) as seen:
        model.network(**inputs)
    batch, length = inputs["input_ids"].shape
    for where in table:
        found = seen[where.name].shape
        pos = inputs["decoder_input_ids"].shape[1] if where.name.startswith("decoder.") else length
        from_encoder = where.name.endswith(("cross_attn.hook_k", "cross_attn.hook_v"))
        keys = length if "cross_attn" in where.name else pos
        heads = 2 if model.name == "tiny-llama" and where.name.endswith(("hook_k", "hook_v")) else 4
        expected = {
            STREAM: (batch, pos, 32),
            INNER: (batch, pos, 64),
            HEADS: (batch, length if from_encoder else pos, heads, 8),
            PATTERN: (batch, 4, pos, keys),
        }[where.shape]
        assert found == expected, where.name


def test_the_core_sites_are_the_same_everywhere(model: LanguageModel) -> None:
    core = {"hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out"}
    core |= {f"attn.hook_{part}" for part in ("q", "k", "v", "z", "pattern")} | {"mlp.hook_pre", "mlp.hook_post"}
    names = {s.name for s in sites(model)}
    assert {f"blocks.{i}.{name}" for i in range(2) for name in core} | {"hook_embed"} <= names


def test_wrong_names_get_a_remedy() -> None:
    model = tiny("gpt2")
    with pytest.raises(ModelError, match=r"did you mean 'blocks.0.hook_resid_post'"):
        site(model, "blocks.0.resid_post")
    with pytest.raises(ModelError, match=r"blocks 0 to 1"):
        site(model, "blocks.7.hook_resid_post")
    assert site(model, "blocks.1.attn.hook_z").shape == HEADS


def test_unknown_architectures_are_refused() -> None:
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "ffn_dim": 64}
    with pytest.raises(ModelError, match="'opt'"):
        sites(OPTForCausalLM(OPTConfig(vocab_size=20, word_embed_proj_dim=32, **shape)))
    with pytest.raises(ModelError, match="no transformers model"):
        sites(nn.Linear(2, 2))


def test_part_of_an_architecture_has_part_of_the_sites() -> None:
    encoder = T5EncoderModel(tiny("t5").config)
    names = {s.name for s in sites(encoder)}
    assert "blocks.1.hook_resid_post" in names
    assert not any(name.startswith("decoder.") for name in names)


@torch.no_grad()
def test_sites_of_a_model_with_an_adapter_are_those_of_its_trunk() -> None:
    model = tiny("llama")
    adapted = get_peft_model(model.network, LoraConfig(target_modules=["q_proj"], init_lora_weights=False))
    adapted.eval()
    tokens = model.tokenizer("so it goes", return_tensors="pt")
    with capture(adapted, ["blocks.0.attn.hook_q"]) as seen:
        adapted(**tokens)
        with_adapter = seen["blocks.0.attn.hook_q"]
        with adapted.disable_adapter():
            adapted(**tokens)
    assert not torch.equal(with_adapter, seen["blocks.0.attn.hook_q"])


class Doubled(Site):
    """Twice a stream: the simplest thing that is not a module's own output."""

    def read(self, whole: Tensor) -> Tensor:
        return whole * 2

    def write(self, whole: Tensor, new: Tensor) -> Tensor:
        return new / 2


@torch.no_grad()
def test_rooms_can_register_sites_of_their_own() -> None:
    model, other = tiny("gpt2"), tiny("gpt2")
    mine = Doubled(name="blocks.0.doubled", module="h.0")
    register_site(model, mine)
    register_site(model, mine)
    tokens = model.tokenizer("so it goes", return_tensors="pt")
    with (
        edit(model, {"blocks.0.doubled": torch.zeros_like}),
        capture(model, ["blocks.0.hook_resid_post", "blocks.0.doubled"]) as seen,
    ):
        model.network(**tokens)
    assert seen["blocks.0.hook_resid_post"].abs().sum() == 0
    with pytest.raises(ModelError, match="not one of"):
        site(other, "blocks.0.doubled")
    with pytest.raises(ModelError, match="already"):
        register_site(model, replace(mine, module="h.1"))
    with pytest.raises(ModelError, match="no module"):
        register_site(model, replace(mine, name="new", module="h.9"))
