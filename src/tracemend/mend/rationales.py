"""Few-shot prompts whose examples name key words, and how probable a decoder finds each label's word behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import softmax

from tracemend.arrays import Doubles
from tracemend.errors import DataError
from tracemend.models import LanguageModel
from tracemend.models.likelihood import check_likelihood
from tracemend.models.representations import padded
from tracemend.models.tokens import word_tokens
from tracemend.progress import Progress
from tracemend.tuning.adapted import Pair


@dataclass(frozen=True)
class Shot:
    """An example of a prompt.

    Attributes:
        pair: text and reply.
        answer: the word of its label.
        words: its key words, in their order; none: the label alone is shown.
    """

    pair: Pair
    answer: str
    words: tuple[str, ...] = ()


def question(pair: Pair) -> str:
    r"""A text, and its reply where it has one, each on one line.

    Example:
        >>> question(("a fine film", None))
        'Q: a fine film\nA: '
    """
    text, reply = (None if part is None else " ".join(part.split()) for part in pair)
    return f"Q: {text}\n{'' if reply is None else f'Reply: {reply}{chr(10)}'}A: "


@dataclass(frozen=True)
class Wording:
    """How examples and questions are worded.

    Attributes:
        rationale: names an example's key words, {words}, and the word of its label, {label}.
        asks: stands before the label's word.
    """

    rationale: str = "The key words {words} are important clues to predict that the text is {label}."
    asks: str = "The answer is"

    def __post_init__(self) -> None:
        if "{words}" not in self.rationale or not self.asks.strip():
            raise DataError(
                f"the rationale {self.rationale!r} must hold {{words}}, and what asks for the label must not be empty."
            )

    def named(self, words: Sequence[str], answer: str) -> str:
        """The sentence that names the key words of a label; empty without words.

        Example:
            >>> Wording("{words} say {label}.").named(["fine", "warm"], "positive")
            '"fine", "warm" say positive. '
        """
        if not words:
            return ""
        quoted = ", ".join(f'"{word}"' for word in words)
        # The label first: a key word might itself be written in braces.
        return self.rationale.replace("{label}", answer).replace("{words}", quoted) + " "

    def question(self, pair: Pair) -> str:
        """What is asked, up to the label's word."""
        return question(pair) + self.asks

    def prompt(self, shots: Sequence[Shot]) -> str:
        """The examples as they stand before the question."""
        return "".join(f"{question(s.pair)}{self.named(s.words, s.answer)}{self.asks} {s.answer}.\n\n" for s in shots)


def words_of(labels: Sequence[str], given: Sequence[str] = ()) -> tuple[str, ...]:
    """The word of each label: the given one (``label=word``), else its name.

    Raises:
        DataError: a word for no label, or none for a label that is given one.
    """
    said = dict(pair.partition("=")[::2] for pair in given)
    unknown = sorted(set(said) - set(labels))
    if unknown or not all(word.strip() for word in said.values()):
        raise DataError(
            f"words are given for {', '.join(unknown) or 'a label that gets none'}; expected label=word for labels "
            f"among: {', '.join(labels)}."
        )
    return tuple(said.get(label, label).strip() for label in labels)


class Asks(Protocol):
    """Whoever answers few-shot questions: a decoder at hand, or a chat model behind a web address."""

    @property
    def words(self) -> tuple[str, ...]:
        """Of each label."""

    @property
    def wording(self) -> Wording:
        """Of examples and questions."""

    @property
    def graded(self) -> bool:
        """Whether probabilities are more than the label that was said."""

    def length(self, text: str) -> int:
        """Tokens of a text."""

    def room(self, pairs: Sequence[Pair]) -> int:
        """Tokens that the window leaves for examples before the longest of these questions; may be below 0."""

    def probabilities(
        self, shots: Sequence[Shot], pairs: Sequence[Pair], *, batch_size: int = 16, progress: Progress = Progress()
    ) -> Doubles:
        """Of each label behind the examples and a question [n, labels]; a row of zeros where none was said."""


def decided(probabilities: Doubles) -> npt.NDArray[np.int64]:
    """The label of each row [n]; -1 where none was said."""
    found: npt.NDArray[np.int64] = np.where(probabilities.any(axis=1), probabilities.argmax(axis=1), -1)
    return found


@dataclass(frozen=True, eq=False)
class Asked:
    """A decoder and the word of each label.

    Attributes:
        model: whose probabilities decide.
        words: of each label.
        tokens: ids of each word behind a space.
        wording: of examples and questions.
    """

    model: LanguageModel
    words: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    wording: Wording = Wording()
    graded = True

    @classmethod
    def make(
        cls, model: LanguageModel, labels: Sequence[str], given: Sequence[str] = (), wording: Wording = Wording()
    ) -> Asked:
        """Give each label its word: the given one (``label=word``), else its name.

        Raises:
            DataError: a word for no label, two labels with one word, or a word that begins like another.
            ModelError: no bos token.
        """
        check_likelihood(model)
        words = words_of(labels, given)
        tokens = tuple(tuple(word_tokens(model, word)) for word in words)
        for i, one in enumerate(tokens):
            for j, other in enumerate(tokens):
                if i != j and other[: len(one)] == one:
                    raise DataError(
                        f"for {model.name} the word {words[j]!r} begins with the tokens of {words[i]!r}, so it could "
                        "never be the more probable one; give others (label=word)."
                    )
        return cls(model, words, tokens, wording)

    def length(self, text: str) -> int:
        """Tokens of a text."""
        return len(self.model.tokenizer(text, add_special_tokens=False, verbose=False).input_ids)

    def room(self, pairs: Sequence[Pair]) -> int:
        """Tokens that the window leaves for examples before the longest of these questions; may be below 0."""
        longest = max(self.length(self.wording.question(pair)) for pair in pairs)
        return self.model.window - 1 - longest - max(map(len, self.tokens))

    def probabilities(
        self, shots: Sequence[Shot], pairs: Sequence[Pair], *, batch_size: int = 16, progress: Progress = Progress()
    ) -> Doubles:
        """The probability of each label's word behind the examples and a question, among those words [n, labels].

        A word's log-probability is the sum over its tokens. The examples are read once for all questions.

        Raises:
            DataError: a prompt longer than the window.
        """
        model = self.model
        prefix = [int(model.tokenizer.bos_token_id)]
        if shots:
            prefix += model.tokenizer(self.wording.prompt(shots), add_special_tokens=False, verbose=False).input_ids
        texts = [self.wording.question(pair) for pair in pairs]
        asked = [model.tokenizer(text, add_special_tokens=False, verbose=False).input_ids for text in texts]
        # A word's last token is never read, so that words of one token share a row.
        heads = dict.fromkeys(own[:-1] for own in self.tokens)
        jobs = [(i, head) for i in range(len(pairs)) for head in heads]
        longest = len(prefix) + max(map(len, asked)) + max(map(len, self.tokens))
        if longest > model.window:
            raise DataError(
                f"a prompt has {longest} tokens and the window of {model.name} is {model.window}; take fewer shots or "
                "shorter texts."
            )
        ids, mask = padded(model, [prefix])
        found = np.zeros((len(pairs), len(self.words)))
        jobs.sort(key=lambda job: len(asked[job[0]]))
        with torch.inference_mode():
            read = model.network(input_ids=ids, attention_mask=mask, use_cache=True).past_key_values
            for begin in progress.track(range(0, len(jobs), batch_size), task=f"ask {model.name}"):
                batch = jobs[begin : begin + batch_size]
                coming, seen = padded(model, [[*asked[i], *head] for i, head in batch])
                cache = deepcopy(read)  # a pass writes into the cache that it is given
                cache.batch_repeat_interleave(len(batch))
                whole = torch.cat([mask.expand(len(batch), -1), seen], dim=1)
                logits = model.network(input_ids=coming, attention_mask=whole, past_key_values=cache).logits
                for row, (i, head) in enumerate(batch):
                    at = len(asked[i]) - 1
                    scores = logits[row, at : at + len(head) + 1].double().log_softmax(-1)
                    for y, own in enumerate(self.tokens):
                        if own[:-1] == head:
                            found[i, y] = float(sum(scores[k, token] for k, token in enumerate(own)))
        probabilities: Doubles = softmax(found, axis=1)
        return probabilities


def fitting(arms: Mapping[str, Sequence[Shot]], asked: Asks, pairs: Sequence[Pair]) -> int:
    """How many of the first shots every arm's prompt has room for, so that all arms show the same examples.

    Args:
        arms: the shots of each arm, the same samples in the same order.
        asked: who is asked.
        pairs: the questions that follow.
    """
    room, most = asked.room(pairs), min(map(len, arms.values()))
    for n in range(most, 0, -1):
        if all(asked.length(asked.wording.prompt(of[:n])) <= room for of in arms.values()):
            return n
    return 0
