from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracemend.errors import ModelError
from tracemend.models import LanguageModel, tiny


def test_same_seed_same_weights_and_the_global_generator_is_left_alone(model: LanguageModel) -> None:
    architecture = model.name.removeprefix("tiny-")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    again, other = tiny(architecture), tiny(architecture, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert again.fingerprint == model.fingerprint != other.fingerprint
    for (name, weights), (_, same) in zip(
        model.network.state_dict().items(), again.network.state_dict().items(), strict=True
    ):
        assert torch.equal(weights, same), name


def test_shape_of_the_promise(model: LanguageModel) -> None:
    assert not model.network.training
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}
    assert model.hidden_size == 32 and model.window == 64
    assert model.config._attn_implementation == "eager"
    assert model.tokenizer.is_fast and model.tokenizer.padding_side == "right"
    assert model.config.pad_token_id == model.tokenizer.pad_token_id is not None
    assert len(model.tokenizer) == model.network.get_input_embeddings().num_embeddings


def test_families() -> None:
    assert {name: tiny(name).family for name in ("bert", "gpt2", "llama", "t5")} == {
        "bert": "encoder",
        "gpt2": "decoder",
        "llama": "decoder",
        "t5": "encoder-decoder",
    }
    assert tiny("llama").config.num_key_value_heads == 2


def test_bert_pairs_have_two_segments() -> None:
    tokens = tiny("bert").tokenizer("You are SAFE", "no")
    pieces = tiny("bert").tokenizer.convert_ids_to_tokens(tokens["input_ids"])
    assert pieces == ["[CLS]", "you", "are", "safe", "[SEP]", "no", "[SEP]"]
    assert tokens["token_type_ids"] == [0, 0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "t5"])
@pytest.mark.parametrize("word", [" safe", " unsafe", " yes", " no"])
def test_verbaliser_words_are_one_token(architecture: str, word: str) -> None:
    assert len(tiny(architecture).tokenizer.encode(word, add_special_tokens=False)) == 1


_GPT2 = tiny("gpt2").tokenizer


@given(st.text(max_size=40))
def test_bytes_round_trip(text: str) -> None:
    assert _GPT2.decode(_GPT2.encode(text), clean_up_tokenization_spaces=False) == text


def test_unknown_architecture_names_the_valid_ones() -> None:
    with pytest.raises(ModelError, match=r"not one of: bert, gpt2, llama, t5; did you mean 'bert'"):
        tiny("brt")
