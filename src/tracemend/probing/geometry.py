"""Maps of vectors under which distances are those of a tree: Euclidean, and in the Poincaré ball."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from tracemend.arrays import Floats
from tracemend.errors import ProbeError

Geometry = Literal["euclidean", "poincare"]
# Points stay this far inside the ball, and the argument of arcosh this far above one: both have gradients there.
_RIM, _ABOVE = 1e-5, 1e-6


@dataclass(frozen=True, eq=False)
class Trees:
    """Vectors of the words of sentences, and what their trees say.

    Attributes:
        hidden: [layers, n, d], sentence after sentence.
        lengths: words of each sentence [s].
        distances: steps between two words of a sentence, one [t, t] a sentence.
        depths: steps to the root, one [t] a sentence.
    """

    hidden: Tensor
    lengths: npt.NDArray[np.int64]
    distances: Sequence[Floats]
    depths: Sequence[Floats]

    def batch(self, where: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Padded vectors [layers, b, t, d], mask [b, t], distances [b, t, t] and depths [b, t] of some sentences."""
        starts = np.concatenate([[0], np.cumsum(self.lengths)])
        most = int(max(self.lengths[i] for i in where))
        place = np.zeros((len(where), most), dtype=np.int64)
        mask = torch.zeros(len(where), most)
        distance, depth = torch.zeros(len(where), most, most), torch.zeros(len(where), most)
        for at, i in enumerate(where):
            n = int(self.lengths[i])
            place[at, :n] = np.arange(starts[i], starts[i] + n)
            mask[at, :n] = 1
            distance[at, :n, :n] = torch.from_numpy(self.distances[i])
            depth[at, :n] = torch.from_numpy(self.depths[i])
        return self.hidden[:, torch.from_numpy(place)], mask, distance, depth


class _Map(nn.Module):
    """One linear map a layer, and for the Poincaré ball a second one in the ball."""

    def __init__(self, layers: int, width: int, rank: int, geometry: Geometry, generator: torch.Generator) -> None:
        super().__init__()
        self.geometry = geometry
        # In the ball most points would start at the rim with 0.05, and stay there, for tanh is flat.
        most = 0.05 if geometry == "euclidean" else 0.005
        self.into = nn.Parameter(torch.empty(layers, width, rank).uniform_(-most, most, generator=generator))
        if geometry == "poincare":
            turn = torch.empty(layers, rank, rank).uniform_(-0.05, 0.05, generator=generator)
            self.turn = nn.Parameter(turn + torch.eye(rank))

    def points(self, x: Tensor) -> Tensor:
        """[layers, b, t, rank] of [layers, b, t, d]."""
        layers, b, t, width = x.shape
        z = torch.bmm(x.reshape(layers, b * t, width), self.into)
        if self.geometry == "poincare":
            z = _into_ball(z)
            turned = torch.bmm(z, self.turn)
            norm, new = _norm(z), _norm(turned)
            z = torch.tanh(new / norm * torch.atanh(norm.clamp(max=1 - _RIM))) * turned / new
        return z.view(layers, b, t, -1)

    def distances(self, q: Tensor) -> Tensor:
        """Squared distances of all pairs [layers, b, t, t]."""
        squares = q.square().sum(-1)
        apart = squares[..., :, None] + squares[..., None, :] - 2 * q @ q.transpose(-1, -2)
        if self.geometry == "euclidean":
            return apart.clamp_min(0)
        inside = (1 - squares).clamp_min(_RIM)
        return _arcosh(1 + 2 * apart.clamp_min(0) / (inside[..., :, None] * inside[..., None, :])).square()

    def depths(self, q: Tensor) -> Tensor:
        """Squared distances from the origin [layers, b, t]."""
        squares = q.square().sum(-1)
        if self.geometry == "euclidean":
            return squares
        return _arcosh(1 + 2 * squares / (1 - squares).clamp_min(_RIM)).square()


@dataclass(frozen=True, kw_only=True)
class TreeProbe:
    r"""A linear map a layer under which squared distances are those of the trees.

    .. math:: \min_B \frac{1}{|S|} \sum_s \frac{1}{|s|^2} \sum_{i,j} \left| d_T(w_i, w_j) - |B(h_i - h_j)|^2 \right|

    and for depth :math:`\frac{1}{|s|} \sum_i | \|w_i\|_T - |B h_i|^2 |`. All layers are trained side by side with Adam;
    the step falls to zero, and each layer keeps the epoch that was best on dev.

    Attributes:
        kind: what is learnt: ``distance`` or ``depth``.
        rank: of B.
        geometry: ``poincare`` maps into the unit ball, where distances grow towards the rim (Chen et al. 2021).
        epochs, batch_size, lr: of the training; batches count sentences.
        seed: of initial weights and order.
    """

    kind: Literal["distance", "depth"] = "distance"
    rank: int = 64
    geometry: Geometry = "euclidean"
    epochs: int = 20
    batch_size: int = 20
    lr: float = 1e-3
    seed: int = 0

    def fit(self, train: Trees, dev: Trees) -> Callable[[Trees], list[Floats]]:
        """Train on some trees and give a function that predicts others.

        Returns:
            A function of trees: for each sentence [layers, t, t] of squared distances, or [layers, t] of depths.

        Raises:
            ProbeError: no sentence of two words, or vectors that are not finite.
        """
        usable = np.flatnonzero(train.lengths > 1)
        if not len(usable) or not (dev.lengths > 1).any():
            raise ProbeError("no sentence has two words, so there is no tree to learn; give longer sentences.")
        if not bool(train.hidden.isfinite().all()):
            raise ProbeError("some vectors are not finite; the model has diverged, or its layers overflow.")
        generator = torch.Generator().manual_seed(self.seed)
        layers, _, width = train.hidden.shape
        network = _Map(layers, width, self.rank, self.geometry, generator)
        if self.geometry == "poincare":
            network.double()
        optimizer = torch.optim.Adam(network.parameters(), lr=self.lr)
        steps = self.epochs * -(-len(usable) // self.batch_size)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
        best = torch.full((layers,), torch.inf)
        kept = {name: value.detach().clone() for name, value in network.named_parameters()}
        for _ in range(self.epochs):
            order = usable[torch.randperm(len(usable), generator=generator).numpy()]
            for begin in range(0, len(order), self.batch_size):
                self._loss(network, train, order[begin : begin + self.batch_size].tolist()).sum().backward()
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
            with torch.no_grad():
                rows = np.flatnonzero(dev.lengths > 1)
                parts = [rows[i : i + 100].tolist() for i in range(0, len(rows), 100)]
                losses = torch.stack([self._loss(network, dev, part) * len(part) for part in parts]).sum(0).float()
                better = losses < best
                best = torch.where(better, losses, best)
                for name, value in network.named_parameters():
                    kept[name][better] = value[better]
        network.load_state_dict(kept)
        return lambda trees: self._predict(network, trees)

    def _loss(self, network: _Map, trees: Trees, where: list[int]) -> Tensor:
        """Of each layer [layers], a mean over sentences."""
        x, mask, distance, depth = trees.batch(where)
        q = network.points(x.to(network.into.dtype))
        lengths = mask.sum(1)
        if self.kind == "depth":
            apart = (network.depths(q) - depth).abs() * mask
            return (apart.sum(-1) / lengths).mean(1)
        both = mask[:, :, None] * mask[:, None, :]
        apart = (network.distances(q) - distance).abs() * both
        return (apart.sum((-1, -2)) / lengths.square()).mean(1)

    def _predict(self, network: _Map, trees: Trees) -> list[Floats]:
        found: list[Floats] = []
        order = range(len(trees.lengths))
        with torch.no_grad():
            for begin in range(0, len(order), 50):
                where = list(order[begin : begin + 50])
                q = network.points(trees.batch(where)[0].to(network.into.dtype))
                said: Any = (network.depths(q) if self.kind == "depth" else network.distances(q)).float().numpy()
                for at, i in enumerate(where):
                    n = int(trees.lengths[i])
                    found.append(said[:, at, :n] if self.kind == "depth" else said[:, at, :n, :n])
        return found


def _norm(z: Tensor) -> Tensor:
    found: Tensor = z.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    return found


def _into_ball(z: Tensor) -> Tensor:
    norm = _norm(z)
    return torch.tanh(norm).clamp(max=1 - _RIM) * z / norm


def _arcosh(value: Tensor) -> Tensor:
    return torch.acosh(value.clamp_min(1 + _ABOVE))
