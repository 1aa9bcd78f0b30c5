"""Saliency by integrated gradients, with captum's engine and the completeness gap told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from tracemend.errors import TraceError
from tracemend.saliency.gradient import ByGradient
from tracemend.saliency.inputs import Absent, Batch, OfVectors, absent_token
from tracemend.saliency.method import Weighed
from tracemend.tuning import TextClassifier

# Texts times steps that pass the network at once.
_AT_ONCE = 64
# An output that the text hardly moves (in the output's units) demands no finer steps than one that moves this much.
_LEAST = 0.1


@dataclass(frozen=True, kw_only=True)
class IntegratedGradients(ByGradient):
    r"""The output's change from an absent text to the text, shared out among its words.

    .. math:: w_t = \sum_d (e_{td} - b_{td}) \int_0^1 \partial f(b + a (e - b)) / \partial e_{td} \, da

    for the vector :math:`e_t` of token t and :math:`b_t` in its place where the text is absent (Sundararajan et
    al. 2017). The weights of all tokens add up to f(e) - f(b), up to the completeness gap of the integral's
    approximation by Gauss-Legendre. Tokens that are not of the text (special ones, a prompt) stay as they are and weigh
    nothing.

    For each text the steps are doubled until its gap is at most ``tolerance`` of \|f(e) - f(b)\|, or ``max_steps`` is
    reached. Each text's ``gap`` (relative), ``steps`` and ``change`` (f(e) - f(b)) stand in the result's ``examples``;
    the metrics hold the largest gap and the share of texts over the tolerance.

    Attributes:
        absent: what stands for an absent word: ``mask``, ``pad``, ``zero`` (the zero vector), or ``auto``: the mask
            token where there is one, else the pad token.
        steps: points of the integral at first.
        max_steps: points at most.
        tolerance: largest relative gap that is accepted; 0.1 units of the output stand for a smaller change.

    Example:
        >>> IntegratedGradients().run(classifier, [("what an awful film", None)]).words(0)
    """

    name = "saliency.integrated-gradients"

    absent: Absent = "auto"
    steps: int = 16
    max_steps: int = 512
    tolerance: float = 0.01

    def tokens(self, classifier: TextClassifier, batch: Batch) -> Weighed:
        """The integral at each token [batch, seq], with the gap, the steps and the change of each text."""
        function = self.function(classifier)
        vectors = function.vectors(batch.ids, batch.mask)
        nothing = function.absent(batch, vectors, self.absent)
        with torch.no_grad():
            ends = [function(e, batch.ids, batch.mask, batch.targets) for e in (nothing, vectors)]
        change = (ends[1] - ends[0]).double()
        weights = torch.zeros_like(vectors[..., 0])
        gap, taken = torch.full_like(change, torch.inf), torch.zeros_like(change)
        steps = self.steps
        while True:
            again = (~(gap <= self.tolerance)).nonzero()[:, 0]
            found = self._integral(function, batch, vectors, nothing, again, steps)
            weights[again] = found.to(weights.dtype)
            off = (found.double().sum(1) - change[again]).abs()
            gap[again], taken[again] = off / change[again].abs().clamp(min=_LEAST), float(steps)
            if steps >= self.max_steps or bool((gap <= self.tolerance).all()):
                return weights, {"gap": gap, "steps": taken, "change": change}
            steps = min(2 * steps, self.max_steps)

    def figures(self, examples: pd.DataFrame) -> dict[str, float]:
        """The largest gap, the most steps, and the share of texts whose gap stayed over the tolerance."""
        return {
            "completeness_gap": float(examples["gap"].max()),
            "most_steps": float(examples["steps"].max()),
            "over_tolerance": float((examples["gap"] > self.tolerance).mean()),
        }

    def used(self, classifier: TextClassifier) -> dict[str, Any]:
        """What the choices named ``auto`` came to."""
        return super().used(classifier) | {"absent_word": absent_token(classifier.language_model, self.absent)[0]}

    def _integral(
        self, function: OfVectors, batch: Batch, vectors: Tensor, nothing: Tensor, some: Tensor, steps: int
    ) -> Tensor:
        # Imported here: captum takes a second, and the room's other methods do without it.
        from captum.attr import IntegratedGradients as Captum

        engine: Any = Captum(function)
        found: Tensor = engine.attribute(
            vectors[some],
            baselines=nothing[some],
            additional_forward_args=(batch.ids[some], batch.mask[some], batch.targets[some]),
            n_steps=steps,
            method="gausslegendre",
            internal_batch_size=max(_AT_ONCE, len(some)),
        )
        return found.detach().sum(-1)

    def _check(self, classifier: TextClassifier) -> None:
        super()._check(classifier)
        absent_token(classifier.language_model, self.absent)
        if not 1 <= self.steps <= self.max_steps:
            raise TraceError(f"steps is {self.steps} and max_steps {self.max_steps}; expected 1 <= steps <= max_steps.")
        if not self.tolerance > 0:
            raise TraceError(f"tolerance is {self.tolerance}; it must be above 0.")
