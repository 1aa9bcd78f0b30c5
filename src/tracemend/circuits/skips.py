"""Skip-trigrams of heads, and how often texts say them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tracemend.circuits.token_circuits import TokenCircuits

# Of each source, destinations and outputs that are looked at.
_EACH = 3
# Occurrences that a share needs on either side.
_FEWEST = 5
# Tokens that have no row in the tables, and places after the end of a text.
OTHER, END = -1, -2
Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Skip:
    """ "source ... destination -> output" of one head, as rows of the tables.

    Attributes:
        head: which.
        source: the token looked at.
        destination: the one that looks.
        output: what becomes more likely.
        attention: share of the attention that the source draws where it stands once in a text.
        logit: what full attention to it adds to the output, beyond what it adds to others and others add to it.
    """

    head: int
    source: int
    destination: int
    output: int
    attention: float
    logit: float

    @property
    def effect(self) -> float:
        """Expected logits: attention times logit."""
        return self.attention * self.logit


def skips_of(circuits: TokenCircuits, distances: Tensor, weights: Tensor, length: int, quantile: float) -> list[Skip]:
    """Skip-trigrams of every head of a layer, the strongest first.

    For each source the three destinations that attend to it most and the three outputs that it raises most are kept
    where both lie above the quantile of their table. A token that looks at itself makes a bigram and is left out.

    Args:
        circuits: of the layer.
        distances: over which attention is taken.
        weights: how frequent each token is, [n].
        length: tokens of a text.
        quantile: 0 to 1.
    """
    found: list[Skip] = []
    for head in range(len(circuits.queries)):
        scores = circuits.qk(head, distances)
        weight = (scores - scores.amax(-1, keepdim=True)).exp()
        # Among so many tokens drawn from the texts it stands once.
        attention = weight / (weight + (length - 1) * (weight @ weights)[:, None])
        logits = circuits.ov(head)
        logits = logits - logits.mean(-1, keepdim=True)
        logits = logits - weights @ logits
        low_a, low_l = _at(attention, quantile), _at(logits, quantile)
        count = min(_EACH, len(weights))
        a, destinations = attention.topk(count, dim=0)
        o, outputs = logits.topk(count, dim=1)
        for source in range(len(weights)):
            found += [
                Skip(head, source, int(destinations[i, source]), int(outputs[source, j]), float(a[i, source]),
                     float(o[source, j]))
                for i in range(count) for j in range(count)
                if a[i, source] >= low_a and o[source, j] >= low_l and destinations[i, source] != source
            ]  # fmt: skip
    return sorted(found, key=lambda skip: -skip.effect)


def _at(table: Tensor, quantile: float) -> float:
    flat = table.flatten()
    return float(flat.kthvalue(max(1, int(quantile * len(flat)))).values)


def said(triples: Sequence[tuple[int, int, int]], texts: Ints) -> npt.NDArray[np.float64]:
    """How often the output follows the destination with the source somewhere before it, and without.

    Args:
        triples: source, destination and output.
        texts: tokens as rows of the tables, [texts, pos]; OTHER is any other token, END none.

    Returns:
        [triples, 3]: share with, share without (NaN below 5 occurrences), occurrences with.
    """
    rows = np.full((len(triples), 3), np.nan)
    before = {a: np.cumsum(texts == a, axis=1) > 0 for a in {a for a, _, _ in triples}}
    for at, (source, destination, output) in enumerate(triples):
        here = texts[:, 1:-1] == destination
        followed = texts[:, 2:] == output
        seen = before[source][:, :-2]
        for column, side in enumerate((here & seen, here & ~seen)):
            count = int(side.sum())
            if count >= _FEWEST:
                rows[at, column] = float((side & followed).sum()) / count
        rows[at, 2] = int((here & seen).sum())
    return rows


def lift(triples: Sequence[tuple[int, int, int]], texts: Ints) -> tuple[float, int]:
    """Mean difference of the shares of :func:`said`, and over how many triples it could be taken."""
    rows = said(triples, texts)
    differences = rows[:, 0] - rows[:, 1]
    there = np.isfinite(differences)
    return (float(differences[there].mean()) if there.any() else float("nan")), int(there.sum())


def scrambled(texts: Ints, random: torch.Generator) -> Ints:
    """Every text with its tokens in random order."""
    keys = torch.rand(texts.shape, generator=random).numpy() + (texts == END)
    order = keys.argsort(axis=1, kind="stable")
    return np.take_along_axis(texts, order, axis=1)
