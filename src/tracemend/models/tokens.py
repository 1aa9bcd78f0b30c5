"""Tokens of words and texts that stand behind others."""

from __future__ import annotations

from tracemend.errors import ModelError
from tracemend.models.language_model import LanguageModel


def tokens_behind(model: LanguageModel, prompt: str, text: str) -> list[int]:
    """The tokens that ``text`` adds behind ``prompt``.

    Not those of ``text`` by itself, as some vocabularies put a mark of their own before whatever they are given (▁ in
    those of Llama 2).

    Raises:
        ModelError: it changes the tokens of the prompt, or adds none.
    """
    before = model.tokenizer(prompt, add_special_tokens=False).input_ids
    after = model.tokenizer(prompt + text, add_special_tokens=False).input_ids
    if after[: len(before)] != before:
        raise ModelError(
            f"{text!r} changes how the end of {prompt[-30:]!r} is cut into tokens by {model.name}; let the prompt end "
            "with a whole word and without a space."
        )
    if len(after) == len(before):
        raise ModelError(f"the tokenizer of {model.name} makes no token of {text!r}; leave it out.")
    return [int(token) for token in after[len(before) :]]


def word_tokens(model: LanguageModel, word: str) -> list[int]:
    """The tokens of a word, or of several, behind another word and a space.

    Raises:
        ModelError: there are none.

    Example:
        >>> word_tokens(tiny("gpt2"), "good") == tiny("gpt2").tokenizer(" good").input_ids
        True
    """
    return tokens_behind(model, "the", f" {word}")


def line_tokens(model: LanguageModel, text: str) -> list[int]:
    """The tokens of a text that begins a line behind another line."""
    try:
        return tokens_behind(model, "\n", text)
    except ModelError:
        # Line breaks join its own, or become spaces: vocabularies that do so make the same of a text by itself.
        found: list[int] = model.tokenizer(text, add_special_tokens=False).input_ids
        return found
