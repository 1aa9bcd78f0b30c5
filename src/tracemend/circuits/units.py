"""Circuits at unit grain: which earlier neurons make a neuron fire, by their weights, and how it combines them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracemend.arrays import Floats
from tracemend.circuits.circuit import Circuit, generator, layers_of
from tracemend.circuits.planted import planted
from tracemend.circuits.tokens import ids_of
from tracemend.circuits.weights import FrozenNorm, matrix, module_at
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError
from tracemend.methods import MethodResult
from tracemend.models import LanguageModel, capture, edit
from tracemend.models.hooks import Edit
from tracemend.models.sites import sites
from tracemend.progress import Progress

Unit = tuple[int, int]
KINDS = ("linear", "and", "or")
# Positions without which nothing can be said.
_FEWEST = 20


@dataclass(frozen=True, kw_only=True)
class UnitsResult(MethodResult):
    """The edges into the unit, the strongest first.

    The table has a row an edge: ``layer``, ``neuron`` (that writes), ``weight`` (change of the target's input for
    each 1 of its activation, at the mean scale of the norm), ``mean`` (its mean activation), ``share`` (of the
    variance of the target's input; all edges, heads and the embedding together have 1).

    Attributes:
        pairs: ``a``, ``b`` (units as ``L3.17``), R² of ``linear``, ``and``, ``or`` on the other half of the texts;
            ``best`` and ``fitted``, the best kind and its R² on the half that was fitted, by which pairs are ordered.
    """

    tables: ClassVar[tuple[str, ...]] = ("pairs",)

    pairs: pd.DataFrame

    def labels(self) -> list[str]:
        """The units of the edges."""
        return [f"L{row.layer}.{row.neuron}" for row in self.rows.itertuples()]

    def figure(self) -> Any:
        """Shares of the strongest edges, and what circuit and random ones of its size do."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        shown = self.rows.head(20)
        left.barh(self.labels()[:20], shown["share"], color="#2f6f8f")
        left.invert_yaxis()
        left.set(xlabel="share of the variance")
        names, random = ("share", "lost", "alone"), next(iter(self.controls.values()))
        table = pd.DataFrame(
            {"circuit": [self.metrics[n] for n in names], "random": [random[n] for n in names]}, index=list(names)
        )
        table.plot.bar(ax=right, color=["#2f6f8f", "#b9b9b9"], rot=0)
        right.axhline(0, color="#b9b9b9", linewidth=0.8)
        return figure


@dataclass(frozen=True, kw_only=True)
class Units(Circuit[UnitsResult]):
    """Weights between neurons as edges, confirmed by ablation, and linear, AND and OR combinations of pairs.

    The input y of a neuron (before its nonlinearity; of gated ones the gate's) is linear in the normalised stream, to
    which each earlier neuron i adds its activation a_i times its value v_i. With u the direction that the neuron
    reads at the scale σ that its norm has at a position:

        edge        c_i = a_i v_i · u / σ       share_i = cov(c_i, y) / var(y)
        circuit     the edges with the largest shares in absolute value
        lost        mean (y' - y)² / var(y), the circuit's neurons set to their means
        alone       1 - mean (y' - y)² / var(y), all other earlier neurons set to their means
        linear      f = α + β a_a + γ a_b      and: f = α + β [both on]      or: f = α + β [either on]

    f is the neuron's activation; a unit is on above the middle of the 1st and 99th percentile of its activation, or
    below it where its weight is negative; the best pair is chosen on the half of the texts that was fitted, and its R²
    taken on the other half. Olah et al. 2020,
    "Zoom In: An Introduction to Circuits".

    Metrics: ``share`` (Σ of the circuit), ``lost``, ``alone``, ``units`` (Σ share of all earlier neurons; heads and
    embedding have the rest), ``linear``, ``and``, ``or`` (R² of the best pair). Controls: ``random units`` (as many:
    ``share``, ``lost``, ``alone``, mean of the draws; the three R² of the best of as many random pairs, chosen in the
    same way), ``nothing`` (``lost`` with no neuron ablated, 0).

    Attributes:
        layer: of the neuron; -1 is the last.
        neuron: which.
        edges: of the circuit.
        combined: of the strongest edges, whose pairs are tried.
        draws: random circuits.
        tokens: of each text, at most.

    Raises:
        CircuitError: not a decoder; the first layer, no such neuron, or fewer than two edges; too few tokens; a
            neuron whose input never changes.

    Example:
        >>> Units(layer=20, neuron=7).run(load("smollm2"), texts).table().head(10)
    """

    name: ClassVar[str] = "circuits.units"
    inputs: ClassVar[str] = "Texts"

    layer: int = -1
    neuron: int = 0
    edges: int = 10
    combined: int = 4
    draws: int = 5
    tokens: int = 128

    @torch.no_grad()
    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> UnitsResult:
        """Weigh every edge into the neuron, ablate the strongest, and combine them.

        Args:
            model: a decoder.
            data: :class:`tracemend.data.prompts.Texts`.
            progress: shows the texts, then the ablations.

        Raises:
            CircuitError: see the class.
        """
        network, texts = self.decoder(model), self.table(Texts, data)
        target = self._target(network)
        batch = [ids_of(network, str(text))[:, : self.tokens] for text in texts.frame["text"]]
        longest = max(ids.shape[1] for ids in batch)
        self.announce(target.layer * target.width * (longest + 12), "take fewer tokens of each text")
        shares, means, weights, y = self._edges(target, batch, progress)
        flat = shares.flatten().abs().argsort(descending=True)
        own = [(int(i) // target.width, int(i) % target.width) for i in flat[: self.edges]]
        random = generator(self.seed)
        others = [self._drawn(target, random) for _ in range(self.draws)]
        arms = []
        for circuit in progress.track([own, *others], task="ablate"):
            mask = _mask(target, circuit)
            lost = change_of(target.inputs(batch, means, mask), y)
            alone = 1 - change_of(target.inputs(batch, means, ~mask), y)
            arms.append({"share": float(shares[mask].sum()), "lost": lost, "alone": alone})
        nothing = change_of(target.inputs(batch, means, _mask(target, [])), y)
        pairs = self._pairs(target, batch, own[: self.combined])
        chance = self._pairs(target, batch, self._drawn(target, random)[: self.combined])
        best = pairs.iloc[0]
        middle = pd.DataFrame(arms[1:]).mean()
        rows = [
            {"layer": at, "neuron": i, "weight": float(weights[at, i]), "mean": float(means[at, i]),
             "share": float(shares[at, i])}
            for at, i in own
        ]  # fmt: skip
        return UnitsResult(
            metrics={**arms[0], "units": float(shares.sum()), **{kind: float(best[kind]) for kind in KINDS}},
            controls={
                "random units": {
                    **{name: float(middle[name]) for name in ("share", "lost", "alone")},
                    **{kind: float(chance.iloc[0][kind]) for kind in KINDS},
                },
                "nothing": {"lost": nothing},
            },
            config=self.config,
            rows=pd.DataFrame(rows),
            facts={"target": f"L{target.layer}.{self.neuron}", "positions": len(y)},
            pairs=pairs,
        )

    def _target(self, model: LanguageModel) -> _Target:
        layers = layers_of(model)
        layer = self.layer if self.layer >= 0 else layers + self.layer
        if not 1 <= layer < layers:
            raise CircuitError(f"layer is {self.layer}; expected 1 to {layers - 1}: before it must be neurons.")
        width = matrix(module_at(model, f"blocks.{layer}.mlp.hook_post")).shape[0]
        if not width:
            raise CircuitError(f"{model.name} has no feed-forward neurons; give a model with them.")
        if not 0 <= self.neuron < width:
            raise CircuitError(f"neuron is {self.neuron}; layer {layer} of {model.name} has 0 to {width - 1}.")
        if min(self.draws, self.tokens) < 1 or not 2 <= self.combined <= self.edges <= layer * width // 2:
            raise CircuitError(
                f"draws is {self.draws}, tokens {self.tokens}, combined {self.combined} and edges {self.edges}; "
                f"expected at least 1 draw and token, and 2 <= combined <= edges <= {layer * width // 2}."
            )
        return _Target(model, layer, self.neuron, width)

    def _drawn(self, target: _Target, random: torch.Generator) -> list[Unit]:
        flat = torch.randperm(target.layer * target.width, generator=random)[: self.edges].tolist()
        return [(i // target.width, i % target.width) for i in flat]

    def _edges(
        self, target: _Target, batch: Sequence[Tensor], progress: Progress
    ) -> tuple[Tensor, Tensor, Tensor, Floats]:
        """Shares, mean activations and mean weights [layers, neurons], and the target's input [positions]."""
        shape = (target.layer, target.width)
        sums = {name: torch.zeros(shape, dtype=torch.double) for name in ("a", "w", "c", "cy")}
        inputs: list[Tensor] = []
        for ids in progress.track(batch, task="edges"):
            activations, weights, y, _ = target.look(ids)
            c = activations * weights
            inputs.append(y)
            sums["a"] += activations.double().sum(1)
            sums["w"] += weights.double().sum(1)
            sums["c"] += c.double().sum(1)
            sums["cy"] += torch.einsum("lpn,p->ln", c.double(), y.double())
        y = torch.cat(inputs).double()
        if len(y) < _FEWEST:
            raise CircuitError(
                f"the texts have {len(y)} tokens after their first ones; {_FEWEST} are needed. Give more."
            )
        n, variance = len(y), float(y.var(correction=0))
        if is_constant(variance, float(y.square().mean())):
            raise CircuitError(f"the input of neuron {self.neuron} is the same on every token; choose another.")
        shares = (sums["cy"] / n - sums["c"] / n * y.mean()) / variance
        return shares.float(), (sums["a"] / n).float(), (sums["w"] / n).float(), y.numpy()

    def _pairs(self, target: _Target, batch: Sequence[Tensor], units: Sequence[Unit]) -> pd.DataFrame:
        looked = [target.look(ids) for ids in batch]
        # With the sign of its weight, so that what is on drives the neuron.
        c = {
            (at, i): torch.cat([a[at, :, i] for a, _, _, _ in looked]).numpy()
            * float(torch.cat([w[at, :, i] for _, w, _, _ in looked]).mean().sign())
            for at, i in units
        }
        f = torch.cat([found for _, _, _, found in looked]).numpy()
        rows = []
        for a, b in combinations(units, 2):
            rows.append({"a": f"L{a[0]}.{a[1]}", "b": f"L{b[0]}.{b[1]}", **judged(c[a], c[b], f)})
        return pd.DataFrame(rows).sort_values("fitted", ascending=False, kind="stable", ignore_index=True)

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """A decoder in which one neuron is an AND of two others."""
        model, texts, _ = planted("and")
        return cls(neuron=5, edges=2, combined=2, draws=3), model, texts


@dataclass(frozen=True, eq=False)
class _Target:
    """A neuron, and how to read what makes it fire."""

    model: LanguageModel
    layer: int
    neuron: int
    width: int

    @property
    def stream(self) -> str:
        names = {s.name for s in sites(self.model)}
        middle = f"blocks.{self.layer}.hook_resid_mid"
        return middle if middle in names else f"blocks.{self.layer}.hook_resid_pre"

    def look(self, ids: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Activations and weights of earlier neurons [layers, pos, neurons], input and activation [pos], from pos 1."""
        model, at = self.model, f"blocks.{self.layer}"
        before = [f"blocks.{i}.mlp.hook_post" for i in range(self.layer)]
        own = [f"{at}.mlp.hook_pre", f"{at}.mlp.hook_post", self.stream]
        with capture(model, [*before, *own]) as seen:
            model.network(ids, use_cache=False)
        norm = FrozenNorm.at(module_at(model, f"{at}.ln2.hook_normalized"), seen[self.stream][0, 1:])
        read = matrix(module_at(model, f"{at}.mlp.hook_pre"))[:, self.neuron]
        direction = norm.direction(read)
        values = torch.stack([matrix(module_at(model, name)) for name in before])
        weights = torch.einsum("pd,lnd->lpn", direction, values)
        activations = torch.stack([seen[name][0, 1:] for name in before])
        y, f = (seen[f"{at}.mlp.hook_{part}"][0, 1:, self.neuron] for part in ("pre", "post"))
        return activations.cpu(), weights.cpu(), y.cpu(), f.cpu()

    def inputs(self, batch: Sequence[Tensor], means: Tensor, silent: Tensor) -> Floats:
        """The neuron's input [positions] with earlier neurons [layers, neurons] set to their means."""

        def put(layer: int) -> Edit:
            here, mean = (each[layer].to(self.model.network.device) for each in (silent, means))
            return lambda old: torch.where(here, mean.to(old.dtype), old)

        edits = {f"blocks.{i}.mlp.hook_post": put(i) for i in range(self.layer) if bool(silent[i].any())}
        name, found = f"blocks.{self.layer}.mlp.hook_pre", []
        for ids in batch:
            with edit(self.model, edits), capture(self.model, [name]) as seen:
                self.model.network(ids, use_cache=False)
            found.append(seen[name][0, 1:, self.neuron].cpu())
        return np.asarray(torch.cat(found).double().numpy())


def judged(a: Floats, b: Floats, f: Floats) -> dict[str, Any]:
    """R² of each kind as :func:`combined`, with ``best`` and ``fitted``: the kind that fits best, and its R² there.

    Which kind and which pair are best must not be asked of the half that judges them.
    """
    first, second = _combined(a, b, f)
    best = max(first, key=lambda kind: first[kind])
    return {**second, "best": best, "fitted": first[best]}


def combined(a: Floats, b: Floats, f: Floats) -> dict[str, float]:
    """R² of ``f`` as a linear, AND and OR combination of two activations, fitted on the first half, on the second.

    Args:
        a: activation of one unit, with the sign of its weight, [positions].
        b: of the other.
        f: activation that they make, [positions].
    """
    return _combined(a, b, f)[1]


def _combined(a: Floats, b: Floats, f: Floats) -> tuple[dict[str, float], dict[str, float]]:
    """R² by kind on the half that was fitted, and on the other."""
    on = [x > np.quantile(x, (0.01, 0.99)).mean() for x in (a, b)]
    designs = {"linear": np.stack([a, b], 1), "and": (on[0] & on[1])[:, None], "or": (on[0] | on[1])[:, None]}
    half = len(f) // 2
    found: tuple[dict[str, float], dict[str, float]] = ({}, {})
    for kind, design in designs.items():
        x = np.concatenate([np.ones((len(f), 1)), design], 1).astype(float)
        fitted, *_ = np.linalg.lstsq(x[:half], f[:half], rcond=None)
        for part, r2 in zip((slice(half), slice(half, None)), found, strict=True):
            spread = float(((f[part] - f[:half].mean()) ** 2).sum())
            r2[kind] = 1 - float(((f[part] - x[part] @ fitted) ** 2).sum()) / spread if spread > 0 else float("nan")
    return found


def _mask(target: _Target, units: Sequence[Unit]) -> Tensor:
    mask = torch.zeros((target.layer, target.width), dtype=torch.bool)
    for layer, neuron in units:
        mask[layer, neuron] = True
    return mask


def is_constant(variance: float, square: float) -> bool:
    """Whether what varies is no more than rounding in float32, by variance and mean square."""
    return variance <= max(1e-12, 1e-10 * square)


def change_of(found: Floats, y: Floats) -> float:
    """Mean squared change of a unit's input, in variances of it."""
    return float(((found - y) ** 2).mean() / y.var())
