"""Adapters on architectures whose configuration, or whose width, is not what PEFT expects."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers.models.albert import AlbertConfig, AlbertModel
from transformers.models.distilbert import DistilBertConfig, DistilBertModel
from transformers.models.phi3 import Phi3Config, Phi3ForCausalLM

from tracemend.errors import TuningError
from tracemend.models import LanguageModel, tiny
from tracemend.models.language_model import fingerprint_of
from tracemend.tuning import Tuning

SIZE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


def made(kind: str) -> LanguageModel:
    source = tiny("gpt2" if kind == "phi3" else "bert")
    words = len(source.tokenizer)
    torch.manual_seed(0)
    maker: Any
    config: Any
    if kind == "distilbert":  # its configuration has other names for everything
        maker, config = (
            DistilBertModel,
            DistilBertConfig(vocab_size=words, dim=32, n_layers=2, n_heads=4, hidden_dim=64),
        )
    elif kind == "albert":  # embeds narrower than it computes
        maker, config = AlbertModel, AlbertConfig(vocab_size=words, embedding_size=16, **SIZE)
    else:  # PEFT has no list of its modules
        maker, config = Phi3ForCausalLM, Phi3Config(vocab_size=words, pad_token_id=0, eos_token_id=0, **SIZE)
    network = maker._from_config(config, attn_implementation="eager")
    family = "decoder" if kind == "phi3" else "encoder"
    return LanguageModel(kind, family, network.eval(), source.tokenizer, 64, fingerprint_of(network))


@pytest.mark.parametrize("adapter", ["lora", "prompt", "p-tuning"])
@pytest.mark.parametrize("kind", ["distilbert", "albert", "phi3"])
def test_the_usual_adapters_go_on(kind, adapter):
    classifier = Tuning(adapter=adapter, precision="fp32").classifier(made(kind), ("no", "yes"))
    p = classifier.probabilities([("hello there", None), ("you", None)], precision="fp32")
    assert p.shape == (2, 2) and p.sum(axis=1) == pytest.approx([1, 1], abs=1e-5)
    names = [name for name in classifier.trainable() if "lora_" in name or "prompt" in name or "mlp_head" in name]
    assert names, "the adapter has no parameters"


@pytest.mark.parametrize("kind", ["distilbert", "albert"])
def test_a_prefix_that_an_encoder_does_not_take_is_refused_before_the_first_step(kind):
    with pytest.raises(TuningError, match=f"a prefix cannot be put on a model of type {kind}: .*Try --adapter lora or"):
        Tuning(adapter="prefix").classifier(made(kind), ("no", "yes"))


def test_a_remedy_is_never_what_was_tried():
    with pytest.raises(TuningError, match="Try --adapter lora or prompt") as refused:
        Tuning(adapter="ia3").classifier(made("albert"), ("no", "yes"))
    assert "IA3" in str(refused.value)
