"""A large model behind an address: asked as a chat, and heard by the label's word that it writes."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tracemend.errors import DataError, ModelError
from tracemend.mend.rationales import Shot, Wording, words_of_labels
from tracemend.progress import Progress
from tracemend.tuning.adapted import Pair

Floats = npt.NDArray[np.float64]
# English has about four characters a token; fewer are assumed, since no tokenizer is at hand.
_CHARACTERS = 3


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A model that an OpenAI-compatible server answers for; every prompt, with the texts in it, is sent there.

    Attributes:
        url: of the server, with its version, such as ``http://localhost:8000/v1``.
        name: of the model, as the server calls it.
        key_from: environment variable with the key; servers of one's own mostly need none.
        window: tokens of a prompt and its answer, taken to be of three characters.
        most: tokens of an answer.
        timeout: seconds to wait for one.

    Example:
        >>> model = Endpoint(url="http://localhost:8000/v1", name="llama-3-70b")
        >>> Amplify().run(model, splits, proxy=load("minilm")).arms()
    """

    url: str
    name: str
    key_from: str = "OPENAI_API_KEY"
    window: int = 4096
    most: int = 16
    timeout: float = 60.0

    @property
    def fingerprint(self) -> str:
        """What is known of the model: where it is asked, and for whom."""
        return f"{self.url} {self.name}"

    def write(self, prompts: Sequence[str], *, progress: Progress = Progress()) -> list[str]:
        """What the model writes behind each prompt, at temperature 0.

        Raises:
            ModelError: the client is not installed, nobody answers, or the server refuses.
        """
        try:
            import openai
        except ImportError as error:
            raise ModelError(
                "asking an endpoint needs the client openai, which is not installed; pip install 'tracemend[llm]'."
            ) from error
        key = os.environ.get(self.key_from) or "none"
        found = []
        try:
            with openai.OpenAI(base_url=self.url, api_key=key, timeout=self.timeout) as client:
                for prompt in progress.track(prompts, task=f"ask {self.name}"):
                    answer = client.chat.completions.create(
                        model=self.name,
                        messages=[{"role": "user", "content": prompt}],
                        temperature=0,
                        max_tokens=self.most,
                    )
                    found.append(answer.choices[0].message.content or "" if answer.choices else "")
        except openai.AuthenticationError as error:
            raise ModelError(
                f"{self.url} refuses the key; put a valid one into the environment variable {self.key_from}."
            ) from error
        except openai.APIConnectionError as error:
            raise ModelError(
                f"{self.url} does not answer ({error}); start the server, or give its address with the version, such "
                "as http://localhost:8000/v1."
            ) from error
        except openai.APIError as error:
            raise ModelError(
                f"{self.url} refuses to answer for {self.name!r}: {error.message}; look at the name of the model."
            ) from error
        return found


@dataclass(frozen=True, eq=False)
class AskedThere:
    """An endpoint and the word of each label; what :class:`tracemend.mend.rationales.Asked` is for a decoder.

    Attributes:
        model: that is asked.
        words: of each label.
        wording: of examples and questions.
    """

    model: Endpoint
    words: tuple[str, ...]
    wording: Wording

    @classmethod
    def make(cls, model: Endpoint, labels: Sequence[str], given: Sequence[str], wording: Wording) -> AskedThere:
        """Give each label its word: the given one (``label=word``), else its name.

        Raises:
            DataError: a word for no label, or two labels with one word.
        """
        words = words_of_labels(labels, given)
        if len({word.casefold() for word in words}) < len(words):
            raise DataError(f"two labels have one word among {', '.join(words)}; give others (label=word).")
        return cls(model, words, wording)

    def length(self, text: str) -> int:
        """Tokens of a text, by its characters."""
        return math.ceil(len(text) / _CHARACTERS)

    def room(self, pairs: Sequence[Pair]) -> int:
        """Tokens that the window leaves for examples before the longest of these questions; may be below 0."""
        return self.model.window - self.model.most - max(self.length(self.wording.question(pair)) for pair in pairs)

    def probabilities(
        self, shots: Sequence[Shot], pairs: Sequence[Pair], *, batch_size: int = 1, progress: Progress = Progress()
    ) -> Floats:
        """1 for the label whose word is written, 0 for the others; all 0 where none is [n, labels].

        Args:
            shots: examples.
            pairs: questions.
            batch_size: nothing; each question is asked by itself.

        Raises:
            ModelError: see :meth:`Endpoint.write`.
        """
        before = self.wording.prompt(shots)
        written = self.model.write([before + self.wording.question(pair) for pair in pairs], progress=progress)
        found = np.zeros((len(pairs), len(self.words)))
        for row, text in zip(found, written, strict=True):
            label = heard(text, self.words, self.wording.asks)
            if label is not None:
                row[label] = 1.0
        return found


def heard(text: str, words: Sequence[str], asks: str) -> int | None:
    """Which label's word an answer names first, behind ``asks`` where that is repeated; None for none.

    Args:
        text: what was written.
        words: of the labels.
        asks: what stands before an answer.

    Example:
        >>> heard("Not negative. The answer is positive.", ["negative", "positive"], "The answer is")
        1
    """
    said = text.casefold().rpartition(asks.casefold())[2]
    places = []
    for label, word in enumerate(words):
        match = re.search(rf"(?<!\w){re.escape(word.casefold())}(?!\w)", said)
        if match:
            # Of two words at one place the longer one was meant.
            places.append((match.start(), -len(word), label))
    return min(places)[2] if places else None
