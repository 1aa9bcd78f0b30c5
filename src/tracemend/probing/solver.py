"""Probes of all layers, and of several labellings, trained at once in torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from tracemend.errors import ProbeError

# Steps that the smallest training sets get; few epochs of few batches would leave a probe half trained.
_FEWEST_STEPS = 200


@dataclass(frozen=True, kw_only=True)
class Solver:
    r"""Multinomial logistic regression, or a network with one hidden layer, on the vectors of every layer.

    .. math:: \min_W \frac 1n \sum_i -\log softmax(W f(x_i) + b)_{y_i} + \frac{1}{2 C n} |W|^2

    with f the identity or ReLU(Vx + a): scikit-learn's objective, so that the same C means the same. Features are
    standardised by the training set. All layers and all labellings are independent problems solved side by side by Adam
    with mini-batches and a step that falls to zero: one batched product in place of one fit after another.

    Attributes:
        c: inverse strength of the penalty.
        hidden: units of the hidden layer; 0 for a linear probe.
        epochs: passes over the training set (more where it is small: at least 200 steps).
        batch_size: examples of a step at most; the batches are of one size, or differ by one.
        lr: the first step's size; None takes 0.02 for a linear probe and 0.01 with a hidden layer, which ended nearest
            to the least objective on the training sets of UD EWT in equal time.
        seed: of initial weights and batches.
    """

    c: float = 0.1
    hidden: int = 0
    epochs: int = 8
    batch_size: int = 256
    lr: float | None = None
    seed: int = 0

    def fit(self, x: Tensor, y: npt.NDArray[np.int64], classes: int) -> Probes:
        """Train.

        Args:
            x: vectors [layers, n, d].
            y: label indices of each labelling [k, n].
            classes: how many labels there are.

        Raises:
            ProbeError: no example, labels that do not fit the vectors, vectors that are not finite.
        """
        targets = torch.from_numpy(np.ascontiguousarray(y)).long()
        if x.ndim != 3 or targets.ndim != 2 or targets.shape[1] != x.shape[1] or not x.shape[1]:
            raise ProbeError(
                f"vectors have shape {tuple(x.shape)} and labels {tuple(targets.shape)}; expected [layers, n, d] and "
                "[labellings, n] with n >= 1."
            )
        if classes < 2 or int(targets.min()) < 0 or int(targets.max()) >= classes:
            raise ProbeError(f"label indices run to {int(targets.max())} with {classes} labels; a probe needs two.")
        mean = x.mean(1, keepdim=True)
        # By squares of the differences: torch's own standard deviation along this dimension takes ten times as long.
        scale = torch.stack([(of - m).square_().mean(0, keepdim=True) for of, m in zip(x, mean, strict=True)]).sqrt_()
        if not bool(mean.isfinite().all() and scale.isfinite().all()):
            raise ProbeError("some vectors are not finite; the model has diverged, or its layers overflow.")
        # A direction in which nothing varies says nothing.
        inverse = torch.where(scale > 1e-6, 1 / scale.clamp_min(1e-6), 0.0)
        generator = torch.Generator().manual_seed(self.seed)
        network = _Network(x.shape[0], x.shape[2], len(targets), classes, self.hidden, generator)
        # Shuffled and standardised once, batch by batch: gathering rows at each step would cost as much as using them.
        # Batches of one size, as all are used equally often: a rest of few examples would outweigh the others.
        n = x.shape[1]
        order = torch.randperm(n, generator=generator)
        batches = [
            (x[:, of].sub_(mean).mul_(inverse), targets[:, of].expand(x.shape[0], -1, -1))
            for of in order.tensor_split(-(-n // self.batch_size))
        ]
        steps = max(self.epochs * len(batches), _FEWEST_STEPS)
        lr = (0.01 if self.hidden else 0.02) if self.lr is None else self.lr
        optimizer = torch.optim.Adam(network.parameters(), lr=lr, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
        weights = [p for name, p in network.named_parameters() if name.startswith("weight")]
        turn: list[int] = []
        for _ in range(steps):
            turn = turn or torch.randperm(len(batches), generator=generator).tolist()
            rows, labels = batches[turn.pop()]
            logits = network(rows)
            loss = functional.cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="sum") / labels.shape[2]
            penalty: Any = sum(weight.square().sum() for weight in weights)
            (loss + penalty / (2 * self.c * n)).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        return Probes(network.eval().requires_grad_(False), mean, inverse)


class _Network(nn.Module):
    """Weights of every layer and labelling."""

    def __init__(
        self, layers: int, width: int, labellings: int, classes: int, hidden: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.labellings, self.classes, self.hidden = labellings, classes, hidden
        out = hidden or classes
        # A linear probe's problem is convex and starts at zero; a hidden layer must start uneven.
        first = torch.zeros(layers, width, labellings * out)
        if hidden:
            first.uniform_(-1, 1, generator=generator).mul_(width**-0.5)
            last = torch.empty(layers * labellings, hidden, classes)
            self.weight_last = nn.Parameter(last.uniform_(-1, 1, generator=generator).mul_(hidden**-0.5))
            self.bias_last = nn.Parameter(torch.zeros(layers * labellings, 1, classes))
        self.weight = nn.Parameter(first)
        self.bias = nn.Parameter(torch.zeros(layers, 1, labellings * out))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [layers, labellings, n, classes] of standardised vectors [layers, n, d]."""
        layers, n, _ = x.shape
        made = torch.baddbmm(self.bias, x, self.weight).view(layers, n, self.labellings, -1).transpose(1, 2)
        if not self.hidden:
            return made
        inner = made.relu().reshape(layers * self.labellings, n, self.hidden)
        return torch.baddbmm(self.bias_last, inner, self.weight_last).view(layers, self.labellings, n, self.classes)


@dataclass(frozen=True, eq=False)
class Probes:
    """Trained probes of every layer and labelling."""

    network: _Network
    mean: Tensor
    inverse: Tensor

    def log_probabilities(self, x: Tensor) -> Tensor:
        """Of every label, in nats [layers, labellings, n, classes]; ``x`` has the layers of the training."""
        with torch.inference_mode():
            parts = [self.network((part - self.mean) * self.inverse).log_softmax(-1) for part in x.split(4096, dim=1)]
            return torch.cat(parts, dim=2)

    def predict(self, x: Tensor) -> npt.NDArray[np.int64]:
        """The most probable label's index [layers, labellings, n]."""
        found: npt.NDArray[np.int64] = self.log_probabilities(x).argmax(-1).numpy()
        return found
