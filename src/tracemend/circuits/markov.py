"""A source of texts of which the truth is known: a Markov chain with skip-trigrams and repeated segments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tracemend.circuits.circuit import generator
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError

# How sure a planted skip-trigram is, and how long a segment that is said again.
_SURE, _SEGMENT = 0.9, (8, 16)
_WORDS = tuple(a + b for a in "bdfghklmnprstvwz" for b in "aeiou")

Rule = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class MarkovSource:
    """A chain over symbols, in which a few "a ... b" make c follow, and segments are said again now and then.

    Attributes:
        transitions: probability of the next symbol, [symbols, symbols].
        rules: planted skip-trigrams (a, b, c): after b, where a stands anywhere before it, c follows 9 times in 10.
        again: probability at each place that a segment of the text so far begins again.
    """

    transitions: Tensor
    rules: Sequence[Rule]
    again: float = 0.04

    @classmethod
    def draw(
        cls, *, symbols: int = 48, rules: int = 6, spread: float = 0.1, again: float = 0.04, seed: int = 0
    ) -> MarkovSource:
        """Draw transitions (Dirichlet) and rules that share no symbol with one another.

        Args:
            symbols: how many.
            rules: planted skip-trigrams.
            spread: of the Dirichlet distribution; the smaller, the fewer symbols can follow one.
            again: see the class; with much repetition and a large spread, text is best predicted by copying.
            seed: of the draw.

        Raises:
            CircuitError: more symbols than there are words for, or too few for the rules; a spread of 0.
        """
        if not max(2, 3 * rules) <= symbols <= len(_WORDS) or rules < 0:
            raise CircuitError(
                f"{symbols} symbols with {rules} rules; expected at most {len(_WORDS)} symbols, three a rule."
            )
        if not spread > 0 or not 0 <= again <= 1:
            raise CircuitError(f"spread is {spread} and again {again}; expected above 0, and 0 to 1.")
        random = generator(seed)
        weights = torch._standard_gamma(torch.full((symbols, symbols), float(spread)), random) + 1e-4
        order = torch.randperm(symbols, generator=random).tolist()
        planted = [(order[3 * i], order[3 * i + 1], order[3 * i + 2]) for i in range(rules)]
        return cls(weights / weights.sum(-1, keepdim=True), planted, again)

    @property
    def words(self) -> list[str]:
        """The word of each symbol."""
        return list(_WORDS[: len(self.transitions)])

    def sample(self, count: int, length: int = 63, *, seed: int = 0) -> Tensor:
        """Symbols, [count, length]."""
        random = generator(seed)

        def chance(p: float) -> Tensor:
            return torch.rand(count, generator=random) < p

        symbols = torch.zeros((count, length), dtype=torch.long)
        symbols[:, 0] = torch.randint(len(self.transitions), (count,), generator=random)
        source, left = torch.zeros(count, dtype=torch.long), torch.zeros(count, dtype=torch.long)
        for at in range(1, length):
            now = symbols[:, at - 1]
            following = torch.multinomial(self.transitions[now], 1, generator=random)[:, 0]
            for a, b, c in self.rules:
                holds = (now == b) & (symbols[:, : at - 1] == a).any(1) & chance(_SURE)
                following = torch.where(holds, c, following)
            low, high = _SEGMENT
            if at > low:
                begins = (left == 0) & chance(self.again)
                source = torch.where(begins, torch.randint(at - low, (count,), generator=random), source)
                left = torch.where(begins, torch.randint(low, high, (count,), generator=random), left)
            again = symbols.gather(1, source[:, None])[:, 0]
            symbols[:, at] = torch.where(left > 0, again, following)
            source, left = torch.where(left > 0, source + 1, source), (left - 1).clamp_min(0)
        return symbols

    def texts(self, count: int = 2000, length: int = 63, *, seed: int = 0) -> Texts:
        """Such texts in words, as :meth:`sample` draws them."""
        words = self.words
        rows = self.sample(count, length, seed=seed).tolist()
        return Texts.make([{"text": " ".join(words[symbol] for symbol in row)} for row in rows])
