"""A vocabulary as that of Llama 2: ▁ stands before every text that is given, and for every space."""

from __future__ import annotations

from dataclasses import replace

from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from tracemend.models import LanguageModel, tiny

_WORDS = ("the", "is", "good", "bad", "film", "was", "very", "my")


def marked() -> LanguageModel:
    """A tiny decoder with such a vocabulary, whose words are one token each, with the mark and without."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, "▁": 3, "\n": 4}
    merges = []
    for word in _WORDS:
        for piece in ("▁", ""):
            for letter in word:
                vocabulary.setdefault(letter, len(vocabulary))
                if piece:
                    merges.append((piece, letter))
                piece += letter
                vocabulary.setdefault(piece, len(vocabulary))
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=list(dict.fromkeys(merges)), unk_token="<unk>", fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    return replace(tiny("gpt2"), tokenizer=tokenizer)
