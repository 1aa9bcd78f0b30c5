"""Orders of units: by the difference of class means, by a classifier's weights, by bits, by average precision."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import average_precision_score

from tracemend.arrays import Floats, Indices
from tracemend.neurons.classifier import elastic_net
from tracemend.neurons.gaussian import Gaussians, greedy
from tracemend.neurons.units import Units

# Units that the greedy search chooses for a comparison, and words it looks at; the rest follow by their last gain.
_GREEDY = 50
_SEARCHED = 2_000


def mean_differences(x: npt.NDArray[np.float32], y: Indices, classes: int) -> Floats:
    """Of each unit, the sum over pairs of classes of the difference of their means [d]."""
    means = np.stack([x[y == c].mean(0) for c in range(classes)]).astype(np.float64)
    # Sorted, the i-th of m values is added i times and taken away m - 1 - i times: all pairs without a pair of loops.
    signs = 2 * np.arange(classes) - (classes - 1)
    found: Floats = (np.sort(means, axis=0) * signs[:, None]).sum(0)
    return found


def first_masses(weights: Floats) -> Floats:
    """The share of a class's absolute weight that larger weights have when a unit comes in, of each class [d, classes].

    Args:
        weights: of a linear classifier [d, classes].
    """
    size = np.abs(weights)
    order = np.argsort(-size, axis=0, kind="stable")
    ranked = np.take_along_axis(size, order, axis=0)
    total = np.maximum(ranked.sum(0), np.finfo(float).tiny)
    found = np.empty_like(size)
    np.put_along_axis(found, order, (np.cumsum(ranked, axis=0) - ranked) / total, axis=0)
    return found


def by_mass(weights: Floats) -> Indices:
    """Units by the least share at which any class takes them in; those taken at once by their largest weight."""
    share = first_masses(weights).min(1)
    return np.lexsort((-np.abs(weights).max(1), share)).astype(np.int64)


def probeless(units: Units, y: Indices, classes: int, seed: int) -> Indices:
    """Units by the difference of class means (Antverg and Belinkov 2022)."""
    del seed
    found = mean_differences(units.x["train"].numpy(), y, classes)[units.alive]
    return units.alive[np.argsort(-found, kind="stable")]


def linear(units: Units, y: Indices, classes: int, seed: int) -> Indices:
    """Units by the weight mass of an elastic-net classifier (Dalvi et al. 2019)."""
    del seed
    weight = elastic_net(units.x["train"][:, torch.from_numpy(units.alive)], y, classes)
    return units.alive[by_mass(weight.double().numpy())]


def gaussian(units: Units, y: Indices, classes: int, seed: int) -> Indices:
    """Units by greedy Gaussian probing (Torroba Hennigen et al. 2020)."""
    x = units.x["train"]
    some = np.sort(np.random.default_rng(seed).permutation(len(y))[:_SEARCHED])
    fitted = Gaussians.fit(x, y, classes)
    return greedy(fitted, x[torch.from_numpy(some)], y[some], _GREEDY, alive=units.alive).order


def average_precision(units: Units, y: Indices, classes: int, seed: int) -> Indices:
    """Units by the best average precision of the bare activation, or its negative, for any class above its share."""
    del seed
    x = units.x["train"].numpy()[:, units.alive]
    best = np.full(len(units.alive), -np.inf)
    for c in range(classes):
        true = y == c
        for sign in (1, -1):
            found = [average_precision_score(true, sign * x[:, j]) for j in range(x.shape[1])]
            best = np.maximum(best, np.array(found) - true.mean())
    return units.alive[np.argsort(-best, kind="stable")]


ORDERS: dict[str, Callable[[Units, Indices, int, int], Indices]] = {
    "linear": linear,
    "probeless": probeless,
    "gaussian": gaussian,
    "average-precision": average_precision,
}
