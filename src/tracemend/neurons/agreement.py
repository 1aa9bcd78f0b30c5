"""How far units of one model are found again in another: by one unit, by all together, by shared directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracemend.arrays import Floats
from tracemend.neurons.units import Units

# Shares of the words' number that weigh against large weights; one is chosen on dev.
_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# Of the variance, that directions are kept for.
_KEPT = 0.99
_SMALL = 1e-8


@dataclass(frozen=True, eq=False)
class Agreement:
    """Of each unit how far it is found in another model, measured on test words; dead units have 0.

    Attributes:
        pair: absolute correlation with the unit of the other model that goes most with it in training [d].
        training: that correlation on the training words, which chose the unit [d].
        regression: share of its variance that all units of the other model tell [d]; below 0 where they mislead.
        shared: share of its variance along directions that both models hold, each weighed by its squared canonical
            correlation [d].
        svcca: canonical correlations, the highest first in training [directions].
    """

    pair: Floats
    training: Floats
    regression: Floats
    shared: Floats
    svcca: Floats

    @classmethod
    def between(cls, one: Units, other: Units) -> Agreement:
        """Compare on the same words in the same order."""
        return cls(*_pairs(one, other), _regression(one, other), *_svcca(one, other))

    @classmethod
    def of(cls, found: Sequence[Agreement], by: str) -> Floats:
        """Scores of units against several models [d]: the lowest of them, but by ``max`` that of the best model.

        Which model is the best for a unit is told by the training words, as its partner is: the highest of several
        test figures would be high by luck.

        Args:
            found: one a model.
            by: max, min, regression (the lowest over models, as published) or svcca.
        """
        if by == "max":
            best = np.stack([one.training for one in found]).argmax(0)
            chosen: Floats = np.stack([one.pair for one in found])[best, np.arange(len(best))]
            return chosen
        every = [{"min": one.pair, "regression": one.regression, "svcca": one.shared}[by] for one in found]
        lowest: Floats = np.stack(every).min(0)
        return lowest

    @property
    def figures(self) -> dict[str, float]:
        """Mean, 95th percentile and highest of the pairs; mean of the others."""
        return {
            "correlation": float(self.pair.mean()),
            "correlation_p95": float(np.quantile(self.pair, 0.95)),
            "correlation_max": float(self.pair.max()),
            "regression": float(self.regression.mean()),
            "svcca": float(self.svcca.mean()),
        }


def _standard(x: Tensor) -> Tensor:
    centred = x.double() - x.double().mean(0)
    found: Tensor = centred / centred.norm(dim=0).clamp_min(_SMALL)
    return found


def _pairs(one: Units, other: Units) -> tuple[Floats, Floats]:
    """Correlation with the best partner, on test words and on the training words that chose it."""
    train = _standard(one.x["train"]).T @ _standard(other.x["train"])
    highest, partner = train.abs().max(1)
    later = (_standard(one.x["test"]) * _standard(other.x["test"])[:, partner]).sum(0)
    return later.abs().numpy(), highest.numpy()


def _regression(one: Units, other: Units) -> Floats:
    """By ridge regression on standardised units, its penalty chosen on dev for all units together."""
    x, y = other.x["train"].double(), one.x["train"].double()
    values, basis = torch.linalg.eigh(x.T @ x / len(x))
    turned = basis.T @ (x.T @ y) / len(x)
    best = -np.inf
    found: Floats = np.zeros(0)
    for penalty in _PENALTIES:
        weight = basis @ (turned / (values + penalty)[:, None])
        dev, test = (_told(one.x[part].double(), other.x[part].double() @ weight) for part in ("dev", "test"))
        if dev.mean() > best:
            best, found = float(dev.mean()), test
    found[one.dead] = 0.0
    return found


def _told(true: Tensor, said: Tensor) -> Floats:
    rest = (true - said).square().sum(0)
    found: Floats = (1 - rest / (true - true.mean(0)).square().sum(0).clamp_min(_SMALL)).numpy()
    return found


def _svcca(one: Units, other: Units) -> tuple[Floats, Floats]:
    """Canonical directions between the main directions of both (Raghu et al. 2017), found in training."""
    ways = [_main(of) for of in (one, other)]
    scores = [of.x["train"].double() @ way for of, way in zip((one, other), ways, strict=True)]
    left, _, right = torch.linalg.svd(scores[0].T @ scores[1] / len(scores[0]), full_matrices=False)
    tested = [_standard(of.x["test"].double() @ way @ turn)
              for of, way, turn in zip((one, other), ways, (left, right.T), strict=True)]  # fmt: skip
    canonical = (tested[0] * tested[1]).sum(0).abs()
    weights = (_standard(one.x["test"]).T @ tested[0]).square() * canonical.square()
    return weights.sum(1).clamp_max(1.0).numpy(), canonical.numpy()


def _main(of: Units) -> Tensor:
    """Directions that hold 99 % of the variance of training, scaled to variance 1 [d, k]."""
    x = of.x["train"].double()
    values, basis = torch.linalg.eigh(x.T @ x / len(x))
    values, basis = values.flip(0), basis.flip(1)
    share = values.cumsum(0) / values.sum()
    k = int((share < _KEPT).sum()) + 1
    ways: Tensor = basis[:, :k] / values[:k].clamp_min(_SMALL).sqrt()
    return ways
