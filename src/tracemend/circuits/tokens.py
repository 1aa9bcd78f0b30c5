"""Words as token ids: prompts, the one token of an answer, the tokens of a subject."""

from __future__ import annotations

import re
import unicodedata

import torch
from torch import Tensor

from tracemend.errors import CircuitError
from tracemend.models import LanguageModel
from tracemend.models.tokens import tokens_behind

# Scripts that part no words, or join endings to them.
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")


def ids_of(model: LanguageModel, text: str) -> Tensor:
    """Token ids of one text, [1, pos], with what the tokenizer puts in front, and without what it closes texts with.

    Raises:
        CircuitError: there are none, or more than the model's window holds.
    """
    read = model.tokenizer(text, return_special_tokens_mask=True)
    # Behind a token that ends the text nothing is predicted that a prompt asks for.
    closing = next((i for i, special in enumerate(reversed(read.special_tokens_mask)) if not special), 0)
    found = read.input_ids[: len(read.input_ids) - closing]
    if not found:
        raise CircuitError(f"the text {text!r} has no tokens; give one with words.")
    if len(found) > model.window:
        raise CircuitError(
            f"the text {text[:40]!r}... has {len(found)} tokens; {model.name} reads {model.window} at most. Shorten it."
        )
    return torch.tensor([found], device=model.network.device)


def following(word: str) -> str:
    """The word as it follows a prompt, with a space before it unless it begins with one or with a punctuation mark.

    Example:
        >>> following("blue"), following(" blue"), following(".")
        (' blue', ' blue', '.')
    """
    return f" {word}" if word[:1].isalnum() else word


def token_of(model: LanguageModel, prompt: str, word: str, *, first: bool = False) -> int:
    """The one token that ``word`` is when it follows ``prompt``.

    Args:
        first: take the first of several instead of refusing.

    Raises:
        CircuitError: it is several tokens.
        ModelError: it changes those of the prompt.
    """
    tokens = tokens_behind(model, prompt, following(word))
    if len(tokens) > 1 and not first:
        pieces = " | ".join(model.tokenizer.decode([t]) for t in tokens)
        raise CircuitError(
            f"{word!r} is {len(tokens)} tokens for {model.name} ({pieces}); expected one. Choose a shorter word."
        )
    return tokens[0]


def _joined(text: str, at: int) -> bool:
    """Whether the letters before and after a place are of one word; scripts without spaces have no such place."""
    if not 0 < at < len(text) or not (text[at - 1].isalnum() and text[at].isalnum()):
        return False
    return not any(unicodedata.name(letter, "").startswith(_UNSPACED) for letter in text[at - 1 : at + 1])


def span_of(model: LanguageModel, prompt: str, phrase: str) -> list[int]:
    """Positions of the tokens of the last ``phrase`` in ``prompt`` that is no part of a longer word.

    Raises:
        CircuitError: it does not occur, or within words alone.
    """
    begins = [found.start() for found in re.finditer(f"(?={re.escape(phrase)})", prompt)]
    if not phrase or not begins:
        raise CircuitError(f"{phrase!r} does not occur in {prompt!r}; the subject must stand in the prompt as it is.")
    size = len(phrase)
    whole = [at for at in begins if not (_joined(prompt, at) or _joined(prompt, at + size))]
    if not whole:
        raise CircuitError(
            f"{phrase!r} occurs in {prompt!r} only within a longer word; give the subject as whole words."
        )
    begin, end = whole[-1], whole[-1] + size
    offsets = model.tokenizer(prompt, return_offsets_mapping=True).offset_mapping
    # Offsets of byte-level tokenizers may take in the space before a word; special tokens have empty ones.
    found = [i for i, (a, b) in enumerate(offsets) if a < end and b > begin and b > a and prompt[a:b].strip()]
    if not found:
        raise CircuitError(f"no token of {prompt!r} covers {phrase!r}; give another subject.")
    return found


def shown(model: LanguageModel, token: int) -> str:
    """A token as a person reads it, or the tokenizer's name of one that is only a part of a letter."""
    text = str(model.tokenizer.decode([token]))
    return str(model.tokenizer.convert_ids_to_tokens(token)) if "\ufffd" in text else text
