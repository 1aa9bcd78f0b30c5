"""Weights in GGUF, read once: transformers parses such a file three times, and looks up every name anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig

from tracemend.arrays import Floats
from tracemend.errors import ModelError

_CONFIG = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "embedding_length": "hidden_size",
    "rope.dimension_count": "head_dim",
    "rope.freq_base": "rope_theta",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "vocab_size": "vocab_size",
}
_TOKENS = {
    "bos_token_id": "bos_token_id", "eos_token_id": "eos_token_id", "padding_token_id": "pad_token_id",
    "unknown_token_id": "unk_token_id",
}  # fmt: skip
_OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_INSIDE = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip


def read_gguf(path: Path) -> tuple[LlamaConfig, dict[str, Tensor]]:
    """Configuration and float32 weights of a Llama-like model in GGUF, by the names that transformers gives them.

    Args:
        path: of the file.

    Raises:
        ModelError: the model is of another architecture, or a tensor is not one of a Llama's.
    """
    # Importing it costs as much as reading a small model.
    from gguf import GGUFReader
    from gguf.quants import dequantize

    reader = GGUFReader(path)

    def told(ours: Mapping[str, str], under: str) -> dict[str, Any]:
        fields = {theirs: reader.get_field(f"{under}.{name}") for name, theirs in ours.items()}
        return {name: field.contents() for name, field in fields.items() if field is not None}

    kind = told({"architecture": "kind"}, "general").get("kind")
    if kind != "llama":
        raise ModelError(f"{path} holds a model of architecture {kind!r}; only 'llama' can be read from GGUF.")
    given = told(_CONFIG, "llama") | told(_TOKENS, "tokenizer.ggml")
    names = {tensor.name for tensor in reader.tensors}
    config = LlamaConfig(**given, tie_word_embeddings="output.weight" not in names)
    queries = config.num_attention_heads
    heads = {"attn_q": queries, "attn_k": config.num_key_value_heads or queries}
    state: dict[str, Tensor] = {}
    for tensor in reader.tensors:
        name, part = _name(tensor.name, path)
        weights = dequantize(tensor.data, tensor.tensor_type)
        if part in heads:
            weights = _rotary(weights, heads[part])
        state[name] = torch.from_numpy(np.array(weights, dtype=np.float32))
    return config, state


def _name(name: str, path: Path) -> tuple[str, str]:
    """What transformers calls a tensor, and what part of a block it is, if of one."""
    parts = name.removesuffix(".weight").split(".")
    if parts[0] in _OUTSIDE and len(parts) == 1:
        return f"{_OUTSIDE[parts[0]]}.weight", ""
    if parts[0] == "blk" and len(parts) == 3 and parts[2] in _INSIDE:
        return f"model.layers.{parts[1]}.{_INSIDE[parts[2]]}.weight", parts[2]
    raise ModelError(f"the tensor {name!r} of {path} is none of a Llama's; give another file.")


def _rotary(weights: Floats, heads: int) -> Floats:
    """Rows in the order of transformers: GGUF has the two halves of a rotated pair side by side."""
    half = weights.shape[0] // heads // 2
    found: Floats = weights.reshape(heads, half, 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)
    return found
