"""Chat models behind a web address: any server that speaks OpenAI's protocol."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tracemend.errors import ModelError
from tracemend.progress import Progress
from tracemend.runs import Lines

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Endpoint:
    """Any server that speaks OpenAI's chat protocol, with limits on how long and how often it is asked.

    The client is OpenAI's own (``pip install 'tracemend[llm]'``): it waits between tries, as long as the server says.

    Attributes:
        url: up to and with the version, such as ``http://localhost:8000/v1``.
        model: what the server calls the model.
        key: name of the environment variable that holds the key; it is sent only if it is set, and never written.
        timeout: seconds that an answer may take.
        tries: how often a question is put before it is given up.

    Raises:
        ModelError: no address, no name, or limits out of range.

    Example:
        >>> Endpoint("http://localhost:8000/v1", "my-model").answer([{"role": "user", "content": "Hello"}])
        'Hello! How can I help you?'
    """

    url: str
    model: str
    key: str = "OPENAI_API_KEY"
    timeout: float = 60.0
    tries: int = 4

    def __post_init__(self) -> None:
        if not re.match(r"https?://[^/]", self.url) or not self.model:
            raise ModelError(
                f"the endpoint is {self.url!r} with the model {self.model!r}; expected an address such as "
                "http://localhost:8000/v1 and the name of a model there."
            )
        if self.timeout <= 0 or self.tries < 1:
            raise ModelError("timeout must be above 0, and tries at least 1.")

    @property
    def name(self) -> str:
        """What the server calls the model."""
        return self.model

    @property
    def fingerprint(self) -> str:
        """Of the address and the model's name; what lies behind them may change unseen."""
        return hashlib.sha256(f"{self.url} {self.model}".encode()).hexdigest()

    def answer(self, messages: Messages, *, most: int = 60) -> str:
        """The text of the first choice, as probable as there is one.

        Args:
            messages: the conversation, as the protocol has it.
            most: tokens of the answer.

        Raises:
            ModelError: the server cannot be reached, refuses, is slow, or answers nonsense, each time it is tried; or
                the client is not installed.
        """
        try:
            from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError, omit
        except ImportError as error:
            raise ModelError(
                "a model behind a web address is asked with OpenAI's client, which is not installed; install it with "
                "pip install 'tracemend[llm]'."
            ) from error
        said = ""
        # The client wants a key; a server that needs none is sent none.
        headers: Any = {} if os.environ.get(self.key) else {"Authorization": omit}
        for _ in range(self.tries):
            try:
                answered = self._client.chat.completions.create(
                    model=self.model, messages=messages, temperature=0, max_tokens=most, extra_headers=headers
                )
                return _content(answered)
            except APITimeoutError:
                said = f"it gave no answer within {self.timeout:g} s"
                break
            except APIConnectionError as error:
                said = f"it cannot be reached ({error.__cause__ or error})"
                break
            except APIStatusError as error:
                said = f"it answered {error.status_code} ({error.message[:200]})"
                break
            except (APIError, ValueError) as error:  # an answer that is none; the next may be
                said = f"its answer cannot be read ({error})"
        raise ModelError(
            f"the endpoint {self.url} gave no answer: {said}. Look at its address, the name of the model "
            f"({self.model}) and the key in {self.key}, and give the same command again; what was answered is kept."
        )

    @cached_property
    def _client(self) -> Any:
        from openai import OpenAI

        key = os.environ.get(self.key, "")
        return OpenAI(base_url=self.url, api_key=key or "none", timeout=self.timeout, max_retries=self.tries - 1)


@dataclass(frozen=True)
class KeptAnswers:
    """Answers of an endpoint, one line of a file each: a stopped run goes on, and nothing is asked twice.

    Attributes:
        endpoint: is asked what the file does not hold.
        path: of the file; None keeps nothing.
        at_once: how many questions are under way together.
    """

    endpoint: Endpoint
    path: Path | None = None
    at_once: int = 4

    def answers(
        self, questions: Sequence[Messages], *, most: int = 60, progress: Progress = Progress(), task: str = "ask"
    ) -> list[str]:
        """The answer to each, in their order.

        Raises:
            ModelError: see :meth:`Endpoint.answer`; what was answered before is kept.
            RunError: the disk is full or not writable.
        """
        lines = Lines(self.path)
        known = {str(row["asked"]): str(row["answer"]) for row in lines if {"asked", "answer"} <= row.keys()}
        names = [self._name(messages, most) for messages in questions]
        missing = {name: messages for name, messages in zip(names, questions, strict=True) if name not in known}
        with ThreadPoolExecutor(self.at_once) as pool:
            coming = pool.map(lambda messages: self.endpoint.answer(messages, most=most), missing.values())
            try:
                for name in progress.track(list(missing), task=task):
                    known[name] = next(coming)
                    lines.add({"asked": name, "answer": known[name]})
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [known[name] for name in names]

    def _name(self, messages: Messages, most: int) -> str:
        asked = json.dumps([self.endpoint.fingerprint, messages, most], sort_keys=True)
        return hashlib.sha256(asked.encode()).hexdigest()[:32]


def _content(answered: Any) -> str:
    choices = getattr(answered, "choices", None)
    message = getattr(choices[0], "message", None) if choices else None
    found = getattr(message, "content", None)
    if not isinstance(found, str) or not any(c.isalpha() for c in found):
        raise ValueError(f"no words in {str(answered)[:80]!r}")
    return found
