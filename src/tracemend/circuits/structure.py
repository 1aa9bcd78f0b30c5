"""Structure that nobody asked for: heads of one kind gather in one branch, and positions only count by distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch

from tracemend.arrays import Floats
from tracemend.circuits.circuit import Circuit, heads_of, layers_of
from tracemend.circuits.induction import SCORES, head_scores
from tracemend.circuits.repeats import Repeats
from tracemend.circuits.weights import unembedding
from tracemend.errors import CircuitError
from tracemend.methods import MethodResult
from tracemend.models import LanguageModel, tiny
from tracemend.progress import Progress

# How much wider positions are spread for the control of the shifts.
_STRETCH = 2


@dataclass(frozen=True, kw_only=True)
class StructureResult(MethodResult):
    """One row a score (induction, previous, duplicate, first): ``eta2``, ``eta2_permuted`` (mean), ``p``."""

    def figure(self) -> Any:
        """Explained variance of each score beside its permutations."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 3), layout="constrained")
        axes = figure.subplots()
        shown = self.rows.set_index("score")[["eta2", "eta2_permuted"]]
        shown.plot.barh(ax=axes, color=["#2f6f8f", "#b9b9b9"])
        axes.invert_yaxis()
        axes.set(xlabel="share of the variance within layers", xlim=(0, 1), ylabel="")
        return figure


@dataclass(frozen=True, kw_only=True)
class Structure(Circuit[StructureResult]):
    """Branch specialisation in key-value groups, and equivariance to shifted positions.

    Heads that share a key-value head (grouped queries) are a branch. Of each score s of the heads (see
    ``circuits.induction``), the share of the variance within layers that the group explains:

        η² = Σ_layers Σ_groups n_g (s_g - s_l)² / Σ_layers Σ_heads (s_h - s_l)²

    against permutations of the heads within their layers; p is the share of permutations with as much. Voss et al.
    2021, "Branch Specialization" (of convolutional networks; groups of heads are the like of its branches).

    Shifting all position numbers by the same amount should not change the logits where attention sees distances alone
    (Olah et al. 2020, "Naturally Occurring Equivariance in Neural Networks", for the idea).

    Metrics: ``eta2_SCORE`` and ``p_SCORE``; ``shift`` (largest change of any logit over the shifts). Controls:
    ``permuted`` (mean ``eta2_SCORE`` of the permutations; with few groups it is far from 0), ``stretched`` (``shift``
    where position numbers are spread twice as wide, so that distances do change).

    Attributes:
        permutations: of the heads within their layers.
        shifts: of the position numbers; those that leave the window are left out.

    Raises:
        CircuitError: not a decoder; every head has a key-value head of its own, or all share one: there are no groups.

    Example:
        >>> model = load("smollm2")
        >>> Structure().run(model, Repeats.draw(model)).table()
    """

    name: ClassVar[str] = "circuits.structure"
    inputs: ClassVar[str] = "Repeats"

    permutations: int = 2000
    shifts: tuple[int, ...] = (1, 50, 500)

    @torch.no_grad()
    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> StructureResult:
        """Score the heads, compare their groups with permutations, and shift positions.

        Args:
            model: a decoder with grouped queries.
            data: :class:`Repeats`, drawn for this model.
            progress: shows the scores that are permuted.

        Raises:
            CircuitError: see the class.
        """
        network = self.decoder(model)
        if not isinstance(data, Repeats):
            raise CircuitError(
                f"{self.name} takes Repeats, not {type(data).__name__}; draw them: Repeats.draw(model, length=25)."
            )
        heads = heads_of(network)
        groups = int(getattr(network.config, "num_key_value_heads", None) or heads)
        if not 1 < groups < heads:
            raise CircuitError(
                f"{network.name} has {heads} heads a layer and {groups} key-value heads; groups of heads that share "
                "one are needed (grouped queries). Give a model with them, such as smollm2."
            )
        tokens, window = data.ids.shape[1], network.window
        shifts = [shift for shift in self.shifts if tokens + shift <= window]
        if self.permutations < 1 or not shifts or min(shifts) < 1 or _STRETCH * tokens > window:
            raise CircuitError(
                f"permutations is {self.permutations}, shifts {self.shifts}, and the texts have {tokens} tokens of a "
                f"window of {window}; expected at least 1 permutation, shifts from 1 that fit, and texts of half the "
                "window at most."
            )
        self.announce(
            4 * layers_of(network) * heads * tokens**2 + 3 * tokens * len(unembedding(network)), "draw shorter repeats"
        )
        table = head_scores(network, data)
        rng = np.random.default_rng(self.seed)
        rows: list[dict[str, Any]] = []
        for name in progress.track(SCORES, task="permutations"):
            grid = table.pivot(index="layer", columns="head", values=name).to_numpy(dtype=float)
            found = explained(grid, groups)
            chance = np.array([explained(rng.permuted(grid, axis=1), groups) for _ in range(self.permutations)])
            p = float((1 + (chance >= found).sum()) / (1 + self.permutations))
            rows.append({"score": name, "eta2": found, "eta2_permuted": float(chance.mean()), "p": p})
        result = pd.DataFrame(rows)
        plain = torch.arange(tokens)[None]
        base = _logits(network, data, plain)
        moved = max(float((_logits(network, data, plain + shift) - base).abs().max()) for shift in shifts)
        stretched = float((_logits(network, data, plain * _STRETCH) - base).abs().max())
        by_score = {row["score"]: row for row in rows}
        return StructureResult(
            metrics={
                **{f"eta2_{name}": float(by_score[name]["eta2"]) for name in SCORES},
                **{f"p_{name}": float(by_score[name]["p"]) for name in SCORES},
                "shift": moved,
            },
            controls={
                "permuted": {f"eta2_{name}": float(by_score[name]["eta2_permuted"]) for name in SCORES},
                "stretched": {"shift": stretched},
            },
            config=self.config,
            rows=result,
        )

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """A tiny decoder with two key-value heads and short repeats."""
        model = tiny("llama")
        return cls(permutations=50, shifts=(1, 5)), model, Repeats.draw(model, length=8, count=3)


def explained(scores: Floats, groups: int) -> float:
    """η²: the share of the variance within layers that groups of neighbouring heads explain, between 0 and 1.

    Args:
        scores: [layers, heads].
        groups: a layer, of equally many heads each.

    Example:
        >>> explained(np.array([[1.0, 1.0, 0.0, 0.0]]), 2)
        1.0
    """
    centred = scores - scores.mean(axis=1, keepdims=True)
    by_group = centred.reshape(len(scores), groups, -1)
    total = float((centred**2).sum())
    between = float((by_group.mean(axis=2) ** 2).sum()) * by_group.shape[2]
    return between / total if total > 0 else 0.0


def _logits(model: LanguageModel, data: Repeats, positions: torch.Tensor) -> torch.Tensor:
    ids, device = data.plain[:1], model.network.device
    return torch.as_tensor(model.network(ids.to(device), position_ids=positions.to(device), use_cache=False).logits)
