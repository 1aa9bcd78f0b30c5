"""Few-shot questions to a chat model behind a web address, and the label that its answer names."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tracemend.arrays import Doubles
from tracemend.errors import DataError
from tracemend.mend.rationales import Shot, Wording, words_of
from tracemend.models.endpoint import KeptAnswers, Messages
from tracemend.progress import Progress
from tracemend.tuning.adapted import Pair

# Room for a rationale before the answer, which the published prompts leave to the model.
_MOST = 120


@dataclass(frozen=True, eq=False)
class ChatAsked:
    """A chat model and the word of each label; see :class:`tracemend.mend.rationales.Asked`.

    It tells no probabilities: a row has a one where the answer named a label, and zeros alone where it named none.

    Attributes:
        model: answers, and keeps what it answered.
        words: of each label.
        wording: of examples and questions.
    """

    model: KeptAnswers
    words: tuple[str, ...]
    wording: Wording
    graded = False

    @classmethod
    def make(cls, model: KeptAnswers, labels: Sequence[str], given: Sequence[str], wording: Wording) -> ChatAsked:
        """Give each label its word: the given one (``label=word``), else its name.

        Raises:
            DataError: a word for no label, or two labels with one word.
        """
        words = words_of(labels, given)
        if len({word.casefold() for word in words}) < len(words):
            raise DataError(f"two labels have one word ({', '.join(words)}); give others (label=word).")
        return cls(model, words, wording)

    def length(self, text: str) -> int:
        """Nothing: the server counts tokens, and says so where there are too many."""
        return 0

    def room(self, pairs: Sequence[Pair]) -> int:
        """No limit that is known here."""
        return sys.maxsize

    def probabilities(
        self, shots: Sequence[Shot], pairs: Sequence[Pair], *, batch_size: int = 16, progress: Progress = Progress()
    ) -> Doubles:
        """One row a question [n, labels]: a one for the label that the answer names.

        Raises:
            ModelError: the server gives no answer; what it answered before is kept.
        """
        said = self.model.answers(
            [self._question(shots, pair) for pair in pairs],
            most=_MOST,
            progress=progress,
            task=f"ask {self.model.endpoint.model}",
        )
        found = np.zeros((len(pairs), len(self.words)))
        for row, answer in enumerate(said):
            label = label_in(answer, self.words, self.wording.asks)
            if label is not None:
                found[row, label] = 1.0
        return found

    def _question(self, shots: Sequence[Shot], pair: Pair) -> Messages:
        asked = f"Answer the last question. End with: {self.wording.asks} {' or '.join(self.words)}.\n\n"
        return [{"role": "user", "content": asked + self.wording.prompt(shots) + self.wording.question(pair)}]


def label_in(answer: str, words: Sequence[str], asks: str = Wording.asks) -> int | None:
    """The label whose word stands first behind the last ``asks``; without that, the only one named, or None.

    Example:
        >>> label_in("It is not negative. The answer is positive.", ["negative", "positive"])
        1
        >>> label_in("negative or positive", ["negative", "positive"]) is None
        True
    """

    def named(text: str) -> list[tuple[int, int, int]]:
        at = [(i, re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE)) for i, word in enumerate(words)]
        # Of two words that begin at one place, the longer one was said.
        return sorted((found.start(), -len(found.group()), i) for i, found in at if found)

    behind = re.split(re.escape(asks), answer, flags=re.IGNORECASE)
    if len(behind) > 1 and (first := named(behind[-1])):
        return first[0][2]
    anywhere = named(answer)
    return anywhere[0][2] if len(anywhere) == 1 else None
