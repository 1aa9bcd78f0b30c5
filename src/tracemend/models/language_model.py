"""A loaded Hugging Face model and what the other rooms must know of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import torch

from tracemend.runs import fingerprint

# Case, accents in both forms, digits, marks, spaces, line breaks and three scripts: where tokenizers differ.
_SAMPLE = (
    " The Caf\u00e9's  3,141 unhappy re\u0301sume\u0301s\n\t<b>\u0130DEAS</b> \u4f60\u597d \u0434\u0430 \U0001f44b"
)

Family = Literal["encoder", "decoder", "encoder-decoder"]


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A pretrained network with its tokenizer, untuned and in eval mode.

    Attributes:
        name: what the user called it (``minilm``, a hub id, a folder).
        family: ``encoder`` (bare ``AutoModel``), ``decoder`` (``AutoModelForCausalLM``) or ``encoder-decoder``
            (``AutoModelForSeq2SeqLM``).
        network: the transformers ``PreTrainedModel``.
        tokenizer: a fast tokenizer with a pad token, padding on the right.
        window: the most tokens an input may have.
        fingerprint: sha256 (16 hex digits) over configuration, weights and tokenizer.
    """

    name: str
    family: Family
    network: Any
    tokenizer: Any
    window: int
    fingerprint: str

    @property
    def config(self) -> Any:
        """The network's transformers configuration."""
        return self.network.config

    @property
    def hidden_size(self) -> int:
        """Width of the residual stream."""
        return int(self.config.hidden_size)


def fingerprint_of(network: Any, weights: str | None = None, tokenizer: Any = None) -> str:
    """Sha256 (16 hex digits) over a network's configuration and weights, and over what turns text into its input.

    Args:
        network: a transformers ``PreTrainedModel``.
        weights: a hash of the weights where one is already known (a pinned file); else it is taken over the bytes
            of every parameter and buffer, in the order of their names.
        tokenizer: its words, and what it makes of a sample of scripts, signs and spaces; versions of the library that
            write the same tokenizer otherwise do not count.
    """
    # Where it was loaded from and by which version do not change what it computes.
    passing = {"transformers_version", "architectures", "dtype"}
    config = network.config.to_diff_dict()
    facts = {key: value for key, value in config.items() if not key.startswith("_") and key not in passing}
    if weights is None:
        digest = hashlib.sha256()
        for name, tensor in sorted(network.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        weights = digest.hexdigest()
    if tokenizer is None:
        return fingerprint(facts, weights)
    return fingerprint(facts, weights, sorted(tokenizer.get_vocab().items()), tokenizer(_SAMPLE)["input_ids"])
