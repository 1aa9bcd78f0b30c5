"""A probe that sees nothing of a sentence but numbers for each pair of words, and must find every word's head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tracemend.errors import ProbeError

_BATCH = 16
# Offsets further apart than this are one to the control that knows offsets alone.
REACH = 10


@dataclass(frozen=True, eq=False)
class ArcProbe:
    r"""The attention-only probe of Clark et al. 2019 (arXiv 1906.04341, section 5).

    .. math:: p(\text{head of } i = j) = softmax_j \sum_k w_k a^k_{ij} + u_k a^k_{ji}, \quad j \neq i

    Attributes:
        weights: one for each number of a pair, w before u [2 k] for attention, or any other k numbers [k].
        scale: what each number is divided by: its spread over the training pairs [k].
    """

    weights: Tensor
    scale: Tensor

    def heads(self, pairs: Sequence[Tensor]) -> list[npt.NDArray[np.int64]]:
        """The likeliest head of every word of each sentence, given its numbers [k, t, t]."""
        return [_scores(x, self.weights, self.scale).argmax(-1).numpy() for x in pairs]


def fit_arcs(
    pairs: Sequence[Tensor],
    heads: Sequence[Sequence[int]],
    *,
    epochs: int = 15,
    lr: float = 0.05,
    weight_decay: float = 1e-3,
    seed: int = 0,
) -> ArcProbe:
    """Train it; the loss is the cross-entropy of the gold head, roots left out.

    Args:
        pairs: numbers of each sentence [k, t, t], dependent before head.
        heads: place of each word's head, -1 for the root.
        epochs: passes over the sentences.
        lr: of Adam's first step; it falls to zero.
        weight_decay: added to the loss, times the square of the weights.
        seed: of the order.

    Raises:
        ProbeError: no sentence with a word that has a head.
    """
    usable = [i for i, of in enumerate(heads) if len(of) > 1]
    if not usable:
        raise ProbeError("no sentence has two words, so there is no head to find; give longer sentences.")
    # In place of the spread over all pairs of all sentences at once, which would be a copy of them.
    squares = torch.stack([pairs[i].square().mean((1, 2)) for i in usable]).mean(0)
    means = torch.stack([pairs[i].mean((1, 2)) for i in usable]).mean(0)
    scale = (squares - means**2).clamp_min(0).sqrt().clamp_min(1e-6)
    weights = torch.zeros(len(scale), requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=lr)
    batches = -(-len(usable) // _BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (epochs * batches))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = [usable[i] for i in torch.randperm(len(usable), generator=generator).tolist()]
        for begin in range(0, len(order), _BATCH):
            losses = []
            for i in order[begin : begin + _BATCH]:
                gold = torch.tensor(heads[i])
                said = _scores(pairs[i], weights, scale).log_softmax(-1)[gold >= 0]
                losses.append(-said.gather(1, gold[gold >= 0][:, None])[:, 0])
            loss = torch.cat(losses).mean() + weight_decay * weights.square().sum()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    return ArcProbe(weights.detach(), scale)


def both_ways(attention: Tensor) -> Tensor:
    """Attention of a word to another and of the other to it, side by side [2 k, t, t]."""
    return torch.cat([attention, attention.transpose(1, 2)])


def offsets(length: int) -> Tensor:
    """Which of 2 ``REACH`` + 1 offsets lies between dependent and head [2 REACH + 1, t, t]: the control."""
    places = torch.arange(length)
    between = (places[None] - places[:, None]).clamp(-REACH, REACH) + REACH
    return torch.nn.functional.one_hot(between, 2 * REACH + 1).permute(2, 0, 1).float()


def _scores(x: Tensor, weights: Tensor, scale: Tensor) -> Tensor:
    """Of every pair [t, t]; a word is not its own head."""
    found = torch.einsum("k,kij->ij", weights / scale, x)
    return found.masked_fill(torch.eye(len(found), dtype=torch.bool), -torch.inf)
