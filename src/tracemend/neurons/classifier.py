"""Linear classifiers on sets of units, many at once: the probe of every comparison, and the weights that rank."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tracemend.arrays import Indices

_EPOCHS = 10
_BATCH = 512
# Steps that the smallest training sets get.
_FEWEST_STEPS = 200
_RATE = 0.01
# Of the solver that ranks, and the change of a weight below which it has arrived.
_MOST_STEPS = 400
_STILL = 1e-4


def fit(
    x: Tensor, y: Indices, classes: int, *, l1: float = 1e-3, l2: float = 1e-3, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Softmax classifiers with an elastic net, by Adam with a step that falls to zero.

    Each minimises mean -log softmax(x W + b)_y + l1 |W|_1 + l2 |W|_2^2, independent of the others.

    Args:
        x: standardised activations of m sets of k units [m, n, k].
        y: label indices of l labellings [l, n].
        classes: how many labels there are.
        l1: weight of the sum of absolute weights.
        l2: weight of the sum of their squares.
        seed: of the order of batches.

    Returns:
        Weights [m, l, k, classes] and biases [m, l, 1, classes].
    """
    sets, n, k = x.shape
    target = torch.from_numpy(np.ascontiguousarray(y))
    generator = torch.Generator().manual_seed(seed)
    weight = torch.zeros(sets, k, len(y) * classes, requires_grad=True)
    bias = torch.zeros(sets, 1, len(y) * classes, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=_RATE)
    order = torch.randperm(n, generator=generator)
    # Of one size, as all are used equally often: a rest of few examples would outweigh the others.
    parts = -(-n // _BATCH)
    batches = list(zip(x[:, order].tensor_split(parts, dim=1), target[:, order].T.tensor_split(parts), strict=True))
    steps = max(_EPOCHS * len(batches), _FEWEST_STEPS)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    turn: list[int] = []
    for _ in range(steps):
        turn = turn or torch.randperm(len(batches), generator=generator).tolist()
        rows, labels = batches[turn.pop()]
        logits = torch.baddbmm(bias, rows, weight).unflatten(-1, (len(y), classes))
        loss = functional.cross_entropy(
            logits.flatten(0, 2), labels.expand(sets, -1, -1).flatten(), reduction="sum"
        ) / len(labels)
        penalty: Any = l1 * weight.abs().sum() + l2 * weight.square().sum()
        (loss + penalty).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    shape = (len(y), classes)
    return (
        weight.detach().unflatten(-1, shape).transpose(1, 2).contiguous(),
        bias.detach().unflatten(-1, shape).transpose(1, 2).contiguous(),
    )


def elastic_net(x: Tensor, y: Indices, classes: int, *, l1: float = 1e-3, l2: float = 1e-3) -> Tensor:
    """Weights [d, classes] of one softmax classifier with an elastic net, run to convergence: for ranking.

    The objective of :func:`fit` by accelerated proximal gradient with restarts (Beck and Teboulle 2009), which sets
    weights to exactly zero. A few epochs of Adam grow every useful weight at the same pace, and so rank nothing.

    Args:
        x: standardised activations [n, d].
        y: label indices [n].
        classes: how many labels there are.
        l1: weight of the sum of absolute weights.
        l2: weight of the sum of their squares.
    """
    n, d = x.shape
    ones = torch.cat([x, x.new_ones(n, 1)], dim=1)
    target = functional.one_hot(torch.from_numpy(y), classes).to(x.dtype)
    # Of the softmax loss, whose curvature in the logits is at most a half.
    rate = 1 / (0.5 * float(torch.linalg.eigvalsh(ones.T @ ones / n)[-1]) + 2 * l2)
    weight = x.new_zeros(d + 1, classes)
    ahead, momentum = weight, 1.0
    for _ in range(_MOST_STEPS):
        gradient = ones.T @ ((ones @ ahead).softmax(-1) - target) / n
        gradient[:d] += 2 * l2 * ahead[:d]
        new = ahead - rate * gradient
        new[:d] = new[:d].sign() * (new[:d].abs() - rate * l1).clamp_min(0)
        moved = new - weight
        if float((ahead - new).flatten() @ moved.flatten()) > 0:
            momentum = 1.0
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = new + (momentum - 1) / following * moved
        weight, momentum = new, following
        if float(moved.abs().max()) < _STILL:
            break
    return weight[:d]


def predict(x: Tensor, weight: Tensor, bias: Tensor) -> Indices:
    """The most probable label's index [m, l, n] of activations [m, n, k] by what :func:`fit` gives."""
    found: Indices = (torch.matmul(x[:, None], weight) + bias).argmax(-1).numpy()
    return found
