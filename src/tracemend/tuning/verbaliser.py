"""Words for labels, and the prompt that asks for them: how decoders and encoder-decoders classify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracemend.errors import TuningError

# Of which text a token is (0 the text, 1 the reply), and where in it: first character, end.
Place = tuple[int, int, int]


@dataclass(frozen=True)
class Verbaliser:
    """The prompt around a text and one token a label.

    Attributes:
        before, between, after: token ids around the text and the reply; ``between`` stands only before a reply.
        tokens: the first token of each label's word, in the order of the labels.

    Example:
        >>> Verbaliser.make(tokenizer, ("safe", "unsafe")).tokens
        (5165, 37927)
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]
    tokens: tuple[int, ...]

    @classmethod
    def make(
        cls, tokenizer: Any, labels: Sequence[str], *, words: Mapping[str, str] | None = None, closing: bool = False
    ) -> Verbaliser:
        """Choose a word for each label and tokenise the template.

        Args:
            words: a word for each label; default the labels themselves, or letters where their first tokens collide.
            closing: end the prompt with the end-of-sequence token, as encoder-decoders expect.

        Raises:
            TuningError: words are missing for a label, or two labels begin with the same token.
        """
        chosen = {label: (words or {}).get(label, label) for label in labels}
        tokens = [_first(tokenizer, chosen[label]) for label in labels]
        if len(set(tokens)) < len(labels) and words is None and len(labels) <= 26:
            chosen = {label: chr(ord("A") + i) for i, label in enumerate(labels)}
            tokens = [_first(tokenizer, chosen[label]) for label in labels]
        if len(set(tokens)) < len(labels):
            raise TuningError(
                f"the words for the labels begin with the same token: {chosen}; "
                "name words that differ in their first token."
            )
        options = ", ".join(w if w == label else f"{w} = {label}" for label, w in chosen.items())
        first = tokenizer("Message:").input_ids
        if first and first[-1] == tokenizer.eos_token_id:  # T5-like tokenizers close every text
            first = first[:-1]
        end = [tokenizer.eos_token_id] if closing and tokenizer.eos_token_id is not None else []
        return cls(
            before=tuple(first),
            between=tuple(_plain(tokenizer, "\nReply:")),
            after=tuple(_plain(tokenizer, f"\nLabel ({options}):")) + tuple(end),
            tokens=tuple(tokens),
        )

    @property
    def length(self) -> int:
        """Tokens of the prompt around a text and a reply."""
        return len(self.before) + len(self.between) + len(self.after)

    def encode(self, tokenizer: Any, text: str, reply: str | None, room: int) -> tuple[list[int], bool]:
        """Token ids of the whole prompt, and whether the text had to be cut to fit ``room`` tokens."""
        body = _plain(tokenizer, " " + text)
        answer = [] if reply is None else _plain(tokenizer, " " + reply)
        between = () if reply is None else self.between
        cut = self._cut(body, answer, room, len(between))
        return [*self.before, *body, *between, *answer, *self.after], cut

    def places(self, tokenizer: Any, text: str, reply: str | None, room: int) -> list[Place | None]:
        """Where each token of :meth:`encode` stands in the text or the reply; None for those of the template."""
        body = _places(tokenizer, text, 0)
        answer = [] if reply is None else _places(tokenizer, reply, 1)
        between = () if reply is None else self.between
        self._cut(body, answer, room, len(between))
        return [*[None] * len(self.before), *body, *[None] * len(between), *answer, *[None] * len(self.after)]

    def _cut(self, body: list[Any], answer: list[Any], room: int, between: int) -> bool:
        """Shorten both to what ``room`` leaves them, and say whether that took anything."""
        budget = max(2, room - len(self.before) - between - len(self.after))
        cut = len(body) + len(answer) > budget
        while len(body) + len(answer) > budget:  # the longer part gives way
            excess = len(body) + len(answer) - budget
            longer = body if len(body) >= len(answer) else answer
            del longer[max(1, len(longer) - max(1, min(excess, abs(len(body) - len(answer)) or 1))) :]
        return cut


def _places(tokenizer: Any, text: str, part: int) -> list[Place]:
    """Where the tokens of ``_plain(tokenizer, " " + text)`` stand in the text; the space in front is not of it."""
    offsets = tokenizer(" " + text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    return [(part, max(0, start - 1), max(0, end - 1)) for start, end in offsets]


def _plain(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return ids


def _first(tokenizer: Any, word: str) -> int:
    """The token that follows the template's colon; by itself, a word may begin with a lone space (Llama 2)."""
    colon, whole = _plain(tokenizer, ":"), _plain(tokenizer, ": " + word)
    if whole[: len(colon)] == colon and len(whole) > len(colon):
        return whole[len(colon)]
    ids = _plain(tokenizer, " " + word) or _plain(tokenizer, word)
    if not ids:
        raise TuningError(f"the tokenizer has no token for the label word {word!r}; name another word.")
    return ids[0]
