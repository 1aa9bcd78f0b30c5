"""The token of a label's word is the one that follows the template, whatever a tokenizer does to a text's begin."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from tracemend.models import tiny
from tracemend.tuning.verbaliser import Verbaliser

LABELS = ("safe", "unsafe")


def like_llama_2() -> Any:
    """BPE over ``▁``, one of which is put in front of every text: `` safe`` becomes ``▁`` and ``▁safe``."""
    symbols = ["<pad>", "<s>", "</s>", "<unk>", "▁", *(chr(code) for code in range(33, 127))]
    merges = dict.fromkeys((f"▁{word[:end]}", word[end]) for word in (*LABELS, "A", "B") for end in range(len(word)))
    vocabulary = dict.fromkeys([*symbols, *("".join(pair) for pair in merges)])
    bpe = models.BPE({token: i for i, token in enumerate(vocabulary)}, list(merges), unk_token="<unk>")
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def test_a_lone_space_is_not_taken_for_the_word() -> None:
    tokenizer = like_llama_2()
    assert tokenizer.tokenize(" safe") == ["▁", "▁safe"]
    made = Verbaliser.make(tokenizer, LABELS)
    assert tokenizer.convert_ids_to_tokens(list(made.tokens)) == ["▁safe", "▁unsafe"]


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "t5"])
def test_the_token_is_the_first_of_the_spaced_word(architecture: str) -> None:
    tokenizer = tiny(architecture).tokenizer
    made = Verbaliser.make(tokenizer, LABELS)
    assert list(made.tokens) == [tokenizer(f" {label}", add_special_tokens=False).input_ids[0] for label in LABELS]
