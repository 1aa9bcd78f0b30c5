"""Random-weights models of every family, small enough for tests: two layers, a real tokenizer, no download."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    T5Config,
)

from tracemend.errors import ModelError, did_you_mean
from tracemend.models.language_model import Family, LanguageModel, fingerprint_of

Architecture = Literal["bert", "gpt2", "llama", "t5"]

WINDOW = 64
_SHAPE = {"layers": 2, "hidden": 32, "heads": 4, "inner": 64}
# The default of 0.02 leaves a network this small almost linear, with attention patterns nobody could tell apart.
_SPREAD = 0.2

# Words with a token of their own; all else falls apart into characters or bytes.
_VOCABULARY = """
safe unsafe yes no good bad positive negative true false toxic clean label text reply answer question
the a an and or not is are was be you i we they he she it this that to of in on for with as at by
my your me love hate like great terrible nice awful happy sad very so movie film people thanks please stop
what why how who when go do does did have has can will would
"""
_WORDS = _VOCABULARY.split()
_CHARACTERS = [chr(code) for code in range(33, 127)]


def tiny(architecture: str, *, seed: int = 0) -> LanguageModel:
    """A random-weights model of one architecture: 2 layers, width 32, 4 heads, window 64 tokens, float32, eval mode.

    ``bert`` is an encoder with CLS and SEP; ``gpt2`` a decoder that pads with its eos token; ``llama`` a decoder
    with grouped queries (2 key-value heads), a bos in front and a pad token of its own; ``t5`` an encoder-decoder.
    The same seed gives the same weights.

    Raises:
        ModelError: no such architecture.

    Example:
        >>> model = tiny("gpt2")
        >>> model.family, model.hidden_size, model.window
        ('decoder', 32, 64)
    """
    if architecture not in get_args(Architecture):
        raise ModelError(
            f"the tiny architecture {architecture!r} is {did_you_mean(architecture, get_args(Architecture))}"
        )
    tokenizer = {"bert": _wordpiece, "gpt2": _gpt2_bytes, "llama": _llama_bytes, "t5": _unigram}[architecture]()
    family, maker, config = _configured(architecture, tokenizer)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = maker.from_config(config, attn_implementation="eager", dtype=torch.float32)
    network.eval()
    return LanguageModel(
        f"tiny-{architecture}", family, network, tokenizer, WINDOW, fingerprint_of(network, tokenizer=tokenizer)
    )


def _configured(architecture: str, tokenizer: PreTrainedTokenizerFast) -> tuple[Family, Any, Any]:
    layers, hidden, heads, inner = _SHAPE.values()
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    if architecture == "bert":
        bert = BertConfig(
            vocab_size=len(tokenizer), hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
            intermediate_size=inner, max_position_embeddings=WINDOW, initializer_range=_SPREAD,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        return "encoder", AutoModel, bert
    if architecture == "gpt2":
        gpt2 = GPT2Config(
            vocab_size=len(tokenizer), n_embd=hidden, n_layer=layers, n_head=heads, n_inner=inner,
            n_positions=WINDOW, initializer_range=_SPREAD, **ids,
        )  # fmt: skip
        return "decoder", AutoModelForCausalLM, gpt2
    if architecture == "llama":
        llama = LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads,
            num_key_value_heads=heads // 2, intermediate_size=inner, max_position_embeddings=WINDOW,
            initializer_range=_SPREAD, **ids,
        )  # fmt: skip
        return "decoder", AutoModelForCausalLM, llama
    # Typed without the fields that every configuration shares.
    seq2seq: Any = T5Config
    t5 = seq2seq(
        vocab_size=len(tokenizer), d_model=hidden, num_layers=layers, num_decoder_layers=layers, num_heads=heads,
        d_kv=hidden // heads, d_ff=inner, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return "encoder-decoder", AutoModelForSeq2SeqLM, t5


def _fast(tokenizer: Tokenizer, **special: Any) -> PreTrainedTokenizerFast:
    fast: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerFast = fast(
        tokenizer_object=tokenizer, model_max_length=WINDOW, padding_side="right", truncation_side="right", **special
    )
    return made


def _index(*tokens: str) -> dict[str, int]:
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def _wordpiece() -> PreTrainedTokenizerFast:
    characters = [c for c in _CHARACTERS if c == c.lower()]
    pieces = [f"##{c}" for c in characters if c.isalnum()]
    vocabulary = _index("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_WORDS, *characters, *pieces)
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    return _fast(
        tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip


def _byte_level(*special: str) -> Tokenizer:
    """Byte-level BPE that builds each word with a space before it, letter by letter; all else stays bytes."""
    merges: dict[tuple[str, str], None] = {}
    for word in _WORDS:
        for end in range(len(word)):
            merges["Ġ" + word[:end], word[end]] = None
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = _index(*special, *alphabet, *("".join(pair) for pair in merges))
    tokenizer = Tokenizer(models.BPE(vocabulary, list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _gpt2_bytes() -> PreTrainedTokenizerFast:
    end = "<|endoftext|>"
    return _fast(_byte_level(end), bos_token=end, eos_token=end, pad_token=end, unk_token=end)


def _llama_bytes() -> PreTrainedTokenizerFast:
    tokenizer = _byte_level("<pad>", "<s>", "</s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return _fast(tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def _unigram() -> PreTrainedTokenizerFast:
    special = ["<pad>", "</s>", "<unk>"]
    # Longer pieces score better, so a whole word beats its letters.
    scored = dict.fromkeys([*special, "▁", *_CHARACTERS], -10.0) | {f"▁{word}": -5.0 for word in _WORDS}
    tokenizer = Tokenizer(models.Unigram(list(scored.items()), unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Replace(Regex(r"\s+"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", special.index("</s>"))]
    )
    return _fast(tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
