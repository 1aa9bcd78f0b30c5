"""Bands: weights that follow the place they are for, in embeddings of positions and in a small convolutional net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tracemend.circuits.circuit import generator
from tracemend.errors import CircuitError, did_you_mean
from tracemend.models import LanguageModel
from tracemend.models.sites import trunk

Head = Literal["pooled", "dense"]
_POSITIONS = ("wpe", "position_embeddings", "embed_positions")
_SIDE, _SHAPES, _WIDTH = 32, 4, 16
# The last layer's kernel is 5 x 5, so that there are rows to compare.
_KERNEL = 5


def position_bands(model: LanguageModel, *, seed: int = 0) -> tuple[float, float]:
    """Mean cosine of the embeddings of neighbouring positions, and the same with the positions in random order.

    Near 1 the embeddings are smooth along the text: what a head learns of one place it knows of the next.

    Args:
        model: with learned positions, such as minilm or GPT-2.
        seed: of the random order.

    Raises:
        CircuitError: it has none.

    Example:
        >>> position_bands(load("minilm"))
    """
    bare = trunk(model)
    found = [m for name, m in bare.named_modules() if name.split(".")[-1] in _POSITIONS and isinstance(m, nn.Embedding)]
    if not found:
        raise CircuitError(
            f"{model.name} has no embeddings of positions: it rotates queries and keys instead. Look at the shift of "
            "circuits.structure, or give a model with learned positions, such as minilm."
        )
    # Of a table as long as the window; what lies in front of it (RoBERTa) are no places.
    rows = found[0].weight.detach().float()[-model.window :]
    rows = torch.nn.functional.normalize(rows, dim=-1)
    other = rows[torch.randperm(len(rows), generator=generator(seed)).to(rows.device)]
    return float((rows[1:] * rows[:-1]).sum(-1).mean()), float((other[1:] * other[:-1]).sum(-1).mean())


@dataclass(frozen=True, eq=False)
class WeightBands:
    """A small convolutional network on pictures of two shapes, one above the other.

    Four layers of convolutions are followed by a mean over all places (``pooled``) or by a linear layer that sees each
    place by itself (``dense``). The label is which of four shapes is above and which below, so that heights matter: a
    pooled network must have them in its convolutions. Petrov et al. 2021, "Weight Banding".

    Attributes:
        norms: length of the last convolution's weights at each place of its kernel, [y, x].
        accuracy: on pictures that were not trained on.
    """

    norms: Tensor
    accuracy: float

    @classmethod
    def fit(cls, head: Head, *, steps: int = 400, batch: int = 64, seed: int = 0) -> WeightBands:
        """Train on pictures drawn on the spot.

        Args:
            head: ``pooled`` or ``dense``.
            steps: of Adam.
            batch: pictures a step.
            seed: of weights and pictures.

        Raises:
            CircuitError: no such head, or fewer than one step or picture.
        """
        if head not in get_args(Head):
            raise CircuitError(f"the head {head!r} is {did_you_mean(head, get_args(Head))}")
        if min(steps, batch) < 1:
            raise CircuitError(f"steps is {steps} and batch {batch}; expected at least 1 of each.")
        random = generator(seed)
        sizes = [(1, _WIDTH, 3, 1), (_WIDTH, _WIDTH, 3, 2), (_WIDTH, _WIDTH, 3, 2), (_WIDTH, _WIDTH, _KERNEL, 1)]
        weights = [_drawn((out, into, k, k), random) for into, out, k, _ in sizes]
        shifts = [torch.zeros(out, requires_grad=True) for _, out, _, _ in sizes]
        places = 1 if head == "pooled" else (_SIDE // 4) ** 2
        last = _drawn((_SHAPES**2, _WIDTH * places), random)
        parts = [*weights, *shifts, last]
        adam = torch.optim.Adam(parts, lr=3e-3)

        def logits(x: Tensor) -> Tensor:
            for weight, shift, (_, _, k, stride) in zip(weights, shifts, sizes, strict=True):
                x = nn.functional.conv2d(x, weight, shift, stride=stride, padding=k // 2).relu()
            return (x.mean((2, 3)) if head == "pooled" else x.flatten(1)) @ last.T

        with torch.enable_grad():
            for _ in range(steps):
                pictures, labels = shapes(batch, random)
                loss = nn.functional.cross_entropy(logits(pictures), labels)
                for part, slope in zip(parts, torch.autograd.grad(loss, parts), strict=True):
                    part.grad = slope
                adam.step()
        with torch.no_grad():
            pictures, labels = shapes(512, random)
            right = float((logits(pictures).argmax(-1) == labels).float().mean())
            return cls(weights[-1].norm(dim=(0, 1)), right)

    @property
    def rows(self) -> float:
        """Share of the variance of the lengths that the row explains; 1/6 by chance in a kernel of 5 x 5."""
        return _explained(self.norms)

    @property
    def columns(self) -> float:
        """The same of the column: the control, since nothing hangs on left and right."""
        return _explained(self.norms.T)


def shapes(count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pictures [count, 1, 32, 32] of a shape in the upper and one in the lower half, and labels 0 to 15."""
    drawn = torch.randint(_SHAPES, (count, 2), generator=random)
    places = torch.randint(1, 6, (count, 2, 2), generator=random) * torch.tensor([1, 4])
    pictures, grid = torch.zeros(count, 1, _SIDE, _SIDE), torch.arange(9) - 4
    y, x = grid[:, None], grid[None, :]
    masks = torch.stack([(y.abs() <= 1) & (x == x), (x.abs() <= 1) & (y == y), (y - x).abs() <= 1, (y + x).abs() <= 1])
    for at in range(count):
        for half in range(2):
            top, left = int(places[at, half, 0]) + 16 * half, int(places[at, half, 1])
            # The lower half has 16 rows too, of which a shape of 9 begins in the first 6.
            pictures[at, 0, top : top + 9, left : left + 9] = masks[drawn[at, half]].float()
    noisy = pictures + 0.1 * torch.randn(pictures.shape, generator=random)
    return noisy, drawn[:, 0] * _SHAPES + drawn[:, 1]


def _drawn(shape: tuple[int, ...], random: torch.Generator) -> Tensor:
    inside = int(torch.tensor(shape[1:]).prod())
    found: Tensor = torch.randn(shape, generator=random) * (2 / inside) ** 0.5
    return found.requires_grad_()


def _explained(norms: Tensor) -> float:
    total = float((norms - norms.mean()).square().mean())
    between = float((norms.mean(1) - norms.mean()).square().mean())
    return between / total if total > 0 else 0.0
