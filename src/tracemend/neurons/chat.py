"""Language models that explain units in words: what they are asked, and how their answer is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from tracemend.arrays import Floats
from tracemend.errors import NeuronError
from tracemend.models import LanguageModel
from tracemend.models.endpoint import Messages
from tracemend.neurons.excerpts import SCALE

_START = "the main thing this neuron does is find"
_MOST_TOKENS, _MOST_CHARACTERS = 60, 300


class Chat(Protocol):
    """Answers a conversation."""

    def answer(self, messages: Messages) -> str:
        """The next turn.

        Raises:
            TracemendError: there is none to be had.
        """


@dataclass(frozen=True, eq=False)
class LocalChat:
    """A decoder at hand with a chat template, which answers greedily.

    Attributes:
        model: such as ``load("smollm2")``.
    """

    model: LanguageModel

    def __post_init__(self) -> None:
        if self.model.family != "decoder" or not getattr(self.model.tokenizer, "chat_template", None):
            raise NeuronError(
                f"{self.model.name} is no decoder with a chat template; explain with smollm2 or another chat model."
            )

    @torch.no_grad()
    def answer(self, messages: Messages) -> str:
        """The next turn, at most 60 tokens.

        Raises:
            NeuronError: the conversation does not fit the window.
        """
        tokenizer = self.model.tokenizer
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        given = tokenizer(text, return_tensors="pt", add_special_tokens=False).to(self.model.network.device)
        length = given.input_ids.shape[1]
        if length + _MOST_TOKENS > self.model.window:
            raise NeuronError(
                f"the question has {length} tokens and the window of {self.model.name} is {self.model.window}; give "
                "fewer or shorter excerpts."
            )
        made = self.model.network.generate(
            **given, max_new_tokens=_MOST_TOKENS, do_sample=False, pad_token_id=tokenizer.pad_token_id
        )
        return str(tokenizer.decode(made[0, length:], skip_special_tokens=True))


def question(excerpts: Sequence[tuple[Sequence[str], Floats]]) -> Messages:
    """What a language model is asked: excerpts with the activations above zero, and where its answer begins.

    Args:
        excerpts: words and activations of the excerpts on which the unit is most active.
    """
    highest = max([1e-12, *(float(value) for _, values in excerpts for value in values)])
    shown = []
    for words, values in excerpts:
        # Rounded down, as activations were told in 2023.
        levels = [int(SCALE * max(float(value), 0.0) / highest) for value in values]
        lines = [f"{word}\t{level}" for word, level in zip(words, levels, strict=True)]
        active = ", ".join(f"{w} ({n})" for w, n in zip(words, levels, strict=True) if n)
        shown.append("\n".join(lines) + (f"\nActive: {active}" if active else ""))
    asked = (
        "A neuron of a language model reacts to something in text. Below are excerpts, one word a line with the "
        f"neuron's activation from 0 to {SCALE}. Say in one short phrase what it looks for; do not list examples.\n\n"
        + "\n\n".join(f"Excerpt {i + 1}\n{text}" for i, text in enumerate(shown))
        + f"\n\nComplete the sentence: {_START} ..."
    )
    return [{"role": "user", "content": asked}]


def explained(chat: Chat, asked: Messages, *, tries: int) -> str | None:
    """The phrase in the first answer that holds one; None where none of them does.

    Args:
        chat: is asked.
        asked: the question.
        tries: how often it is put, at most.

    Raises:
        TracemendError: no answer is to be had.
    """
    for _ in range(tries):
        answer = chat.answer(asked)
        try:
            return explanation_in(answer)
        except NeuronError:
            # Nonsense; the next answer may be better.
            continue
    return None


def explanation_in(answer: str) -> str:
    """The phrase in an answer, without the words that it was asked to go on from.

    Raises:
        NeuronError: it has no letters: that is no explanation.
    """
    line = next((line.strip() for line in answer.splitlines() if line.strip()), "")
    line = re.sub(r"^(explanation:|answer:)\s*", "", line, flags=re.IGNORECASE).strip("\"'*` ")
    line = re.sub(rf"^{_START}\s*", "", line, flags=re.IGNORECASE)[:_MOST_CHARACTERS].strip("\"'*`. ")
    if not any(c.isalpha() for c in line):
        raise NeuronError(f"the answer {answer[:60]!r} holds no explanation; ask again, or another model.")
    return line
