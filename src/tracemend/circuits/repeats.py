"""Random tokens said twice: the text on which heads that copy give themselves away."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tracemend.circuits.circuit import generator
from tracemend.errors import CircuitError
from tracemend.models import LanguageModel
from tracemend.runs import fingerprint


@dataclass(frozen=True, eq=False)
class Repeats:
    """Texts of random tokens, each followed by the same tokens again; and as long ones without a repetition.

    Attributes:
        ids: [texts, start + 2 * length], with the token that begins a text in front where the tokenizer has one.
        plain: [texts, start + 2 * length], no token twice in a text.
        length: tokens of one copy.
    """

    ids: Tensor
    plain: Tensor
    length: int

    @classmethod
    def draw(cls, model: LanguageModel, *, length: int = 25, count: int = 16, seed: int = 0) -> Repeats:
        """Draw texts for a model from all its tokens but the special ones, none twice within a copy.

        Args:
            model: whose vocabulary, window and start token count.
            length: tokens of one copy.
            count: texts.
            seed: of the draw.

        Raises:
            CircuitError: the texts would not fit the window (or the window of sliding attention), or the vocabulary
                is too small.
        """
        tokenizer = model.tokenizer
        special = set(tokenizer.all_special_ids)
        usable = torch.tensor([i for i in range(len(tokenizer)) if i not in special])
        start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
        if length < 2 or count < 1:
            raise CircuitError(f"length is {length} and count {count}; expected at least 2 and 1.")
        window = min(model.window, getattr(model.config, "sliding_window", None) or model.window)
        if len(start) + 2 * length > window:
            raise CircuitError(
                f"{len(start) + 2 * length} tokens do not fit the {window} that {model.name} sees at once; "
                f"take length {(window - len(start)) // 2} or less."
            )
        if len(usable) < 2 * length:
            raise CircuitError(
                f"{model.name} has {len(usable)} tokens, too few for {2 * length} different ones; take a smaller "
                "length."
            )
        drawn = torch.stack([torch.randperm(len(usable), generator=random) for random in [generator(seed)] * count])
        plain, front = usable[drawn[:, : 2 * length]], torch.tensor([start] * count, dtype=torch.long)
        copy = plain[:, :length]
        return cls(torch.cat([front, copy, copy], 1), torch.cat([front, plain], 1), length)

    @property
    def start(self) -> int:
        """Position of the first random token: 0, or 1 after a token that begins a text."""
        return int(self.ids.shape[1]) - 2 * self.length

    @property
    def fingerprint(self) -> str:
        """Of the tokens."""
        return fingerprint("Repeats", self.ids.tolist())
