"""Weights in GGUF: a Llama written as llama.cpp does comes back as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize
from transformers import LlamaForCausalLM

from tracemend.errors import ModelError
from tracemend.models import tiny
from tracemend.models.gguf_weights import read_gguf

BLOCK = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
ELSE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def llama() -> Any:
    return tiny("llama").network


def written(path: Path, network: Any, *, architecture: str = "llama", extra: str = "", packed: bool = False) -> Path:
    """The network as llama.cpp's converter writes it: rows of q and k with the halves of each rotated pair together."""
    config, writer = network.config, GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_embedding_length(config.hidden_size)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_bos_token_id(1)
    writer.add_pad_token_id(3)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for name, tensor in network.state_dict().items():
        whole, part = name.removesuffix(".weight"), name.split(".")[-2]
        if whole == "lm_head" and config.tie_word_embeddings:
            continue
        values = tensor.numpy()
        if part in heads:
            n = heads[part]
            values = values.reshape(n, 2, len(values) // n // 2, -1).swapaxes(1, 2).reshape(values.shape)
        layer, _, inner = whole.removeprefix("model.layers.").partition(".")
        called = ELSE.get(whole) or f"blk.{layer}.{BLOCK[inner]}"
        values = np.ascontiguousarray(values)
        if packed and called.endswith("ffn_up"):
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(f"{called}.weight", quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{called}.weight", values)
    if extra:
        writer.add_tensor(extra, np.zeros(4, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_llama_comes_back_as_it_was(tmp_path: Path) -> None:
    network = llama()
    config, state = read_gguf(written(tmp_path / "a.gguf", network))
    again = LlamaForCausalLM.from_pretrained(None, config=config, state_dict=state, attn_implementation="eager").eval()
    assert (config.bos_token_id, config.pad_token_id) == (1, 3)
    assert config.tie_word_embeddings == network.config.tie_word_embeddings
    for name, tensor in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    ids = torch.tensor([[1, 5, 9, 2, 7]])
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, network(ids).logits)


def test_packed_weights_are_widened(tmp_path: Path) -> None:
    network = llama()
    _, state = read_gguf(written(tmp_path / "a.gguf", network, packed=True))
    name = "model.layers.0.mlp.up_proj.weight"
    own = network.state_dict()[name].numpy()
    kind = GGMLQuantizationType.Q8_0
    assert state[name].dtype == torch.float32
    np.testing.assert_array_equal(state[name].numpy(), dequantize(quantize(own, kind), kind))
    np.testing.assert_allclose(state[name].numpy(), own, atol=np.abs(own).max() / 100)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"architecture": "mamba"}, "architecture 'mamba'; only 'llama'"),
        ({"extra": "blk.0.attn_q_norm.weight"}, "'blk.0.attn_q_norm.weight' of .* none of a Llama's"),
        ({"extra": "rope_freqs.weight"}, "none of a Llama's"),
    ],
)
def test_what_is_no_llama_is_refused(tmp_path: Path, more: dict[str, str], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        read_gguf(written(tmp_path / "a.gguf", llama(), **more))
