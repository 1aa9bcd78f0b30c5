"""The embedded simulator of explanations in words: how near a word's meaning is to what the explanation says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tracemend.arrays import Floats
from tracemend.models import LanguageModel, load, represent


class SimilaritySimulator:
    """Simulates a unit on each word by the cosine of the word's vector and the explanation's, by a sentence encoder.

    It knows words out of context, and so nothing of explanations such as "the second character named".

    Args:
        encoder: of sentences; the embedded minilm where none is given.

    Example:
        >>> SimilaritySimulator().simulate("words for colours", ["a", "red", "door"]).argmax()
        1
    """

    def __init__(self, encoder: LanguageModel | None = None) -> None:
        self.encoder = load("minilm") if encoder is None else encoder
        self._known: dict[str, Floats] = {}

    def simulate(self, explanation: str, words: Sequence[str]) -> Floats:
        """What a unit with this explanation would do on each word [n]; only differences count."""
        asked = [word if self._readable(word) else "." for word in (word.strip() for word in words)]
        new = sorted({text for text in (*asked, explanation) if text not in self._known})
        if new:
            last = int(self.encoder.config.num_hidden_layers)
            found = represent(self.encoder, [[text] for text in new], unit="sentence", layers=[last]).hidden[0]
            unit = torch.nn.functional.normalize(found, dim=-1).double().numpy()
            self._known |= dict(zip(new, unit, strict=True))
        of = self._known[explanation]
        return np.array([float(self._known[text] @ of) for text in asked])

    def _readable(self, word: str) -> bool:
        """Whether a word has a token: blanks and control characters have none."""
        return word in self._known or bool(self.encoder.tokenizer(word, add_special_tokens=False).input_ids)
