"""Random-weights decoders of architectures that `tiny` does not make, with a tokenizer and 4 heads, width 32."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GemmaConfig,
    GPTNeoXConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from tracemend.models import LanguageModel, tiny

_GROUPED: dict[str, Any] = {"num_key_value_heads": 2, "head_dim": 8}
CONFIGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "mistral": (MistralConfig, _GROUPED),
    "qwen2": (Qwen2Config, {"num_key_value_heads": 2}),
    "qwen3": (Qwen3Config, _GROUPED),
    "gemma": (GemmaConfig, _GROUPED),
    "neox": (GPTNeoXConfig, {}),
    "neox-sequential": (GPTNeoXConfig, {"use_parallel_residual": False}),
}


def decoder(name: str, *, layers: int = 2) -> LanguageModel:
    """A decoder of that architecture; ``gpt2`` and ``llama`` are those of `tiny`."""
    if name in ("gpt2", "llama"):
        return tiny(name)
    tokenizer = tiny("llama").tokenizer
    made, more = CONFIGS[name]
    config = made(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=layers, num_attention_heads=4,
        intermediate_size=64, initializer_range=0.2, max_position_embeddings=64,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, **more,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    return LanguageModel(f"tiny-{name}", "decoder", network, tokenizer, 64, name)


DECODERS = ("gpt2", "llama", *CONFIGS)
