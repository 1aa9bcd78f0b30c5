"""Language models that explain units in words: one at hand, or any endpoint that speaks OpenAI's chat protocol."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Protocol

import torch

from tracemend.errors import NeuronError
from tracemend.models import LanguageModel
from tracemend.neurons.excerpts import SCALE, Floats

Messages = list[dict[str, str]]

_START = "the main thing this neuron does is find"
_MOST_TOKENS, _MOST_CHARACTERS = 60, 300
_RETRIED = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_LONGEST_PAUSE = 30.0


class Chat(Protocol):
    """Answers a conversation."""

    def answer(self, messages: Messages) -> str:
        """The next turn.

        Raises:
            NeuronError: there is none to be had.
        """


@dataclass(frozen=True)
class Endpoint:
    """Any server that speaks OpenAI's chat protocol, with limits on how long and how often it is asked.

    Attributes:
        url: up to and with the version, such as ``http://localhost:8000/v1``.
        model: what the server calls the model.
        key: name of the environment variable that holds the key; it is sent only if it is set, and never written.
        timeout: seconds that an answer may take.
        tries: how often a question is put before it is given up.
        pause: seconds before the second try; doubled each time, unless the server says how long.
    """

    url: str
    model: str
    key: str = "OPENAI_API_KEY"
    timeout: float = 60.0
    tries: int = 4
    pause: float = 1.0

    def __post_init__(self) -> None:
        if not re.match(r"https?://[^/]", self.url) or not self.model:
            raise NeuronError(
                f"the endpoint is {self.url!r} with the model {self.model!r}; expected an address such as "
                "http://localhost:8000/v1 and the name of a model there."
            )
        if self.timeout <= 0 or self.tries < 1 or self.pause < 0:
            raise NeuronError("timeout must be above 0, tries at least 1, and pause not below 0.")

    def answer(self, messages: Messages) -> str:
        """The text of the first choice.

        Raises:
            NeuronError: the server cannot be reached, refuses, is slow, or answers nonsense, each time it is tried.
        """
        asked = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": _MOST_TOKENS}
        last = ""
        for attempt in range(self.tries):
            wait = min(self.pause * 2**attempt, _LONGEST_PAUSE)
            try:
                return _content(self._posted(json.dumps(asked).encode()))
            except urllib.error.HTTPError as error:
                last = f"it answered {error.code} {error.reason}"
                if error.code not in _RETRIED:
                    break
                wait = _asked_to_wait(error.headers.get("Retry-After"), wait)
            except TimeoutError:
                last = f"it gave no answer within {self.timeout:g} s"
            except (urllib.error.URLError, HTTPException, OSError) as error:
                last = f"it cannot be reached ({getattr(error, 'reason', error)})"
            except ValueError as error:
                last = f"its answer cannot be read ({error})"
            if attempt + 1 < self.tries:
                time.sleep(wait)
        raise NeuronError(
            f"the endpoint {self.url} gave no explanation: {last}. Look at its address, the name of the model "
            f"({self.model}) and the key in {self.key}, and give the same command again; what was explained is kept."
        )

    def _posted(self, body: bytes) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        key = os.environ.get(self.key, "")
        if key:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", data=body, headers=headers)
        with urllib.request.urlopen(request, timeout=self.timeout) as answered:
            return json.loads(answered.read().decode("utf-8"))


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


def _content(answer: Any) -> str:
    try:
        found = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(f"no choices[0].message.content: {str(answer)[:80]}") from error
    if not isinstance(found, str) or not any(c.isalpha() for c in found):
        raise ValueError(f"no words: {str(found)[:80]!r}")
    return found


def _asked_to_wait(said: str | None, otherwise: float) -> float:
    try:
        return min(max(float(said or ""), 0.0), _LONGEST_PAUSE)
    except ValueError:
        return otherwise
