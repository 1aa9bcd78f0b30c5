"""Sparse features in fewer dimensions than there are of them: data of which the truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tracemend.circuits.circuit import generator
from tracemend.errors import CircuitError

# A direction counts as found above this cosine.
FOUND = 0.9
_PLANTED, _CONTROL = 1_000_003, 2_000_003


@dataclass(frozen=True, eq=False)
class Superposition:
    """Sums of few of many directions of length 1.

    Attributes:
        directions: the planted features, [features, d].
        active: mean number that are there at once.
    """

    directions: Tensor
    active: float

    @classmethod
    def draw(cls, *, features: int = 128, width: int = 32, active: float = 4.0, seed: int = 0) -> Superposition:
        """Random directions.

        Raises:
            CircuitError: fewer features than dimensions, or more active than there are.
        """
        if features <= width or width < 2 or not 0 < active <= features:
            raise CircuitError(
                f"{features} features in {width} dimensions, {active:g} at once: expected more features than "
                "dimensions, at least 2 of these, and some features active but not more than there are."
            )
        # Numbers of its own: an autoencoder that begins with the same seed must not begin at the truth.
        drawn = torch.randn((features, width), generator=generator(_PLANTED + seed))
        return cls(torch.nn.functional.normalize(drawn, dim=-1), active)

    def sample(self, count: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Sums [count, d] and what is in them [count, features]: each feature there or not, with size 0 to 1."""
        random, shape = generator(_PLANTED + 1 + seed), (count, len(self.directions))
        there = torch.rand(shape, generator=random) < self.active / len(self.directions)
        features = there * torch.rand(shape, generator=random)
        return features @ self.directions, features

    def recovered(self, found: Tensor) -> tuple[float, float]:
        """Share of the planted features with a cosine above 0.9 to one found [n, d], and the mean of the best cosines.

        Either end of a direction counts.
        """
        unit = torch.nn.functional.normalize(found, dim=-1)
        best = (self.directions @ unit.T).abs().amax(-1)
        return float((best > FOUND).float().mean()), float(best.mean())


@dataclass(frozen=True, eq=False)
class ToyModel:
    """x' = ReLU(x W Wᵀ + b): a network that must keep many features in few dimensions (Elhage et al. 2022).

    Attributes:
        weights: W, [features, d].
        bias: [features].
    """

    weights: Tensor
    bias: Tensor

    @classmethod
    def fit(
        cls,
        *,
        features: int = 20,
        width: int = 5,
        sparsity: float = 0.95,
        decay: float = 0.9,
        steps: int = 2000,
        seed: int = 0,
    ) -> ToyModel:
        """Train on features that are absent with probability ``sparsity``, else uniform in 0 to 1.

        Args:
            features: of the input.
            width: dimensions that they must pass.
            sparsity: 0 to 1.
            decay: importance of each feature relative to the one before.
            steps: of Adam, 512 inputs each.
            seed: of weights and inputs.

        Raises:
            CircuitError: a sparsity outside 0 to 1, or fewer features than dimensions.
        """
        if not 0 <= sparsity < 1 or features < width:
            raise CircuitError(
                f"sparsity is {sparsity} with {features} features in {width} dimensions; expected 0 to below 1 and at "
                "least as many features as dimensions."
            )
        random = generator(seed)
        weights = (torch.randn((features, width), generator=random) / width**0.5).requires_grad_()
        bias = torch.zeros(features, requires_grad=True)
        importance = decay ** torch.arange(features)
        adam = torch.optim.Adam([weights, bias], lr=1e-2)
        with torch.enable_grad():
            for _ in range(steps):
                there = torch.rand((512, features), generator=random) >= sparsity
                x = there * torch.rand((512, features), generator=random)
                loss = (importance * (x - (x @ weights @ weights.T + bias).relu()).square()).sum(-1).mean()
                weights.grad, bias.grad = torch.autograd.grad(loss, [weights, bias])
                adam.step()
        return cls(weights.detach(), bias.detach())

    @property
    def dimensionality(self) -> Tensor:
        """Share of a dimension that each feature has to itself: |W_i|² / Σ_j (Ŵ_i · W_j)², [features]."""
        length = self.weights.norm(dim=-1)
        unit = self.weights / length.clamp_min(1e-12)[:, None]
        shared = (unit @ self.weights.T).square().sum(-1)
        found: Tensor = length.square() / shared.clamp_min(1e-12)
        return found


def principal_directions(x: Tensor, count: int) -> Tensor:
    """The first principal components of [n, d], at most d of them: the control of a dictionary, [count, d]."""
    centred = x - x.mean(0)
    vectors: Tensor = torch.linalg.eigh(centred.T @ centred)[1].flip(1)
    return vectors[:, :count].T


def random_directions(width: int, count: int, *, seed: int = 0) -> Tensor:
    """Directions drawn at random, [count, d]: the other control."""
    drawn = torch.randn((count, width), generator=generator(_CONTROL + seed))
    return torch.nn.functional.normalize(drawn, dim=-1)
