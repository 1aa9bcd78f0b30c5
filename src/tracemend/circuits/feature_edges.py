"""Circuits of features: which features of an earlier site make a later one fire, by their weights."""

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
from tracemend.circuits.circuit import Circuit, generator
from tracemend.circuits.planted import planted, planted_features
from tracemend.circuits.sae import SparseAutoencoder
from tracemend.circuits.tokens import ids_of
from tracemend.circuits.units import KINDS, UnitsResult, change_of, is_constant, judged
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError
from tracemend.models import LanguageModel, capture, edit, site, sites
from tracemend.models.shards import digest
from tracemend.progress import Progress
from tracemend.runs import fingerprint

_FEWEST = 20


@dataclass(frozen=True, eq=False)
class FeatureTexts(Texts):
    """Texts, and the autoencoders of two sites, the earlier one first; see :meth:`of`."""

    lower: SparseAutoencoder | None = None
    upper: SparseAutoencoder | None = None

    @classmethod
    def of(cls, texts: Texts, lower: SparseAutoencoder, upper: SparseAutoencoder) -> Self:
        """Texts with two autoencoders.

        Example:
            >>> early, late = (SparseAutoencoder.read(folder) for folder in ("runs/sae-12", "runs/sae-15"))
            >>> FeatureTexts.of(Texts.read("texts.csv"), early, late)
        """
        return cls(texts.frame, texts.note, lower, upper)

    @property
    def fingerprint(self) -> str:
        """Of the texts and of both autoencoders."""
        both = [
            digest(
                {"w_enc": s.w_enc, "b_enc": s.b_enc, "w_dec": s.w_dec, "b_dec": s.b_dec},
                {"kind": s.kind, "k": s.k, "site": s.site},
            )
            for s in (self.lower, self.upper)
            if s is not None
        ]
        return fingerprint(super().fingerprint, both)


@dataclass(frozen=True, kw_only=True)
class FeatureEdgesResult(UnitsResult):
    """The edges into the feature, the strongest first.

    The table has a row an edge: ``feature`` (of the earlier site), ``weight`` (change of the target's input for each 1
    of it, through the stream alone), ``mean``, ``density`` (share of positions where it is active), ``share`` (of the
    variance of the target's input).
    """

    def labels(self) -> list[str]:
        """The features of the edges."""
        return [str(row.feature) for row in self.rows.itertuples()]


@dataclass(frozen=True, kw_only=True)
class FeatureEdges(Circuit[FeatureEdgesResult]):
    """Weights between features of two sites as edges, confirmed by ablation, and combinations of pairs.

    Both sites are of the stream. What feature i of the earlier one adds to it, f_i d_i, is still there at the later
    one, where feature j reads along e_j:

        input       y = (x - b) · e_j + bias          edge       c_i = f_i (d_i · e_j)
        share_i     cov(c_i, y) / var(y)              circuit    the edges with the largest shares in absolute value
        lost        mean (y' - y)² / var(y), the circuit's features set to their means in the stream
        alone       1 - mean (y' - y)² / var(y), all other features set to their means

    What blocks between the sites make of a feature is no edge here, but it is in ``lost`` and ``alone``. Pairs are
    fitted as in ``circuits.units``. Bricken et al. 2023, "Towards Monosemanticity"; Olah et al. 2020, "Zoom In".

    Metrics: ``share`` (Σ of the circuit), ``lost``, ``alone``, ``units`` (Σ share of all features; the rest is the
    earlier autoencoder's error and what blocks between write), ``linear``, ``and``, ``or`` (R² of the best pair).
    Controls: ``random features`` (as many of those that are active somewhere, means of the draws; the R² of the best
    of as many random pairs), ``largest features`` (as many with the largest variance of f_i: activity without the
    weight: ``share``, ``lost``, ``alone``), ``nothing`` (``lost`` with no feature ablated, 0).

    Attributes:
        feature: of the later autoencoder.
        edges: of the circuit.
        combined: of the strongest edges, whose pairs are tried.
        draws: random circuits.
        tokens: of each text, at most.

    Raises:
        CircuitError: not a decoder; data without autoencoders, or ones of sites that are no streams or in the wrong
            order; no such feature; too few tokens; a feature whose input never changes.

    Example:
        >>> data = FeatureTexts.of(texts, early, late)
        >>> FeatureEdges(feature=17).run(load("smollm2"), data).table().head(10)
    """

    name: ClassVar[str] = "circuits.feature-edges"
    inputs: ClassVar[str] = "Texts"

    feature: int = 0
    edges: int = 10
    combined: int = 4
    draws: int = 5
    tokens: int = 128

    @torch.no_grad()
    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> FeatureEdgesResult:
        """Weigh every edge into the feature, ablate the strongest, and combine them.

        Args:
            model: a decoder.
            data: :class:`FeatureTexts`.
            progress: shows the texts, then the ablations.

        Raises:
            CircuitError: see the class.
        """
        network = self.decoder(model)
        lower, upper = self._dictionaries(network, data)
        batch = [ids_of(network, str(text))[:, : self.tokens] for text in data.frame["text"]]
        positions = sum(ids.shape[1] - 1 for ids in batch)
        if positions < _FEWEST:
            raise CircuitError(
                f"the texts have {positions} tokens after their first ones; {_FEWEST} are needed. Give more."
            )
        self.announce(3 * positions * lower.latents, "give fewer texts, or take fewer tokens of each")
        look = _Look(network, lower, upper, self.feature)
        f, y = (torch.cat(parts) for parts in zip(*(look.at(ids) for ids in batch), strict=True))
        weights = lower.w_dec @ upper.w_enc[:, self.feature]
        spread = y.double().var(correction=0)
        if is_constant(float(spread), float(y.double().square().mean())):
            raise CircuitError(f"the input of feature {self.feature} is the same on every token; choose another.")
        centred = (y - y.mean()).double()
        shares = ((f * weights).double().T @ centred / len(y) / spread).float()
        means, target = f.mean(0), y.double().numpy()
        own = shares.abs().argsort(descending=True)[: self.edges]
        alive = (f > 0).any(0).nonzero().flatten()
        if len(alive) < 2 * self.edges:
            raise CircuitError(
                f"{len(alive)} features are active on these texts; random circuits of {self.edges} edges need twice as "
                "many. Give more texts, or fewer edges."
            )
        random = generator(self.seed)
        drawn = [alive[torch.randperm(len(alive), generator=random)[: self.edges]] for _ in range(self.draws)]
        largest = (f.var(0) * lower.w_dec.square().sum(-1)).argsort(descending=True)[: self.edges]
        arms = []
        for circuit in progress.track([own, largest, *drawn], task="ablate"):
            mask = torch.zeros(lower.latents, dtype=torch.bool)
            mask[circuit] = True
            lost = change_of(look.without(batch, mask, means), target)
            alone = 1 - change_of(look.without(batch, ~mask, means), target)
            arms.append({"share": float(shares[mask].sum()), "lost": lost, "alone": alone})
        nothing = change_of(look.without(batch, torch.zeros(lower.latents, dtype=torch.bool), means), target)
        # What the feature itself is; of ``topk`` without the rivalry of the others.
        active: Floats = np.asarray(y.relu().double().numpy())
        pairs = _pairs(own[: self.combined], f, weights, active)
        chance = _pairs(drawn[0][: self.combined], f, weights, active)
        middle = pd.DataFrame(arms[2:]).mean()
        rows = [
            {"feature": i, "weight": float(weights[i]), "mean": float(means[i]),
             "density": float((f[:, i] > 0).float().mean()), "share": float(shares[i])}
            for i in own.tolist()
        ]  # fmt: skip
        return FeatureEdgesResult(
            metrics={
                **arms[0],
                "units": float(shares.sum()),
                **{kind: float(pairs.iloc[0][kind]) for kind in KINDS},
            },
            controls={
                "random features": {
                    **{name: float(middle[name]) for name in ("share", "lost", "alone")},
                    **{kind: float(chance.iloc[0][kind]) for kind in KINDS},
                },
                "largest features": arms[1],
                "nothing": {"lost": nothing},
            },
            config=self.config,
            rows=pd.DataFrame(rows),
            facts={"target": self.feature, "lower": lower.site, "upper": upper.site, "positions": positions},
            pairs=pairs,
        )

    def _dictionaries(self, model: LanguageModel, data: Any) -> tuple[SparseAutoencoder, SparseAutoencoder]:
        if not isinstance(data, FeatureTexts) or data.lower is None or data.upper is None:
            raise CircuitError(
                f"{self.name} takes FeatureTexts: texts with the autoencoders of two sites, made with FeatureTexts.of; "
                f"it was given {type(data).__name__}."
            )
        order = [s.name for s in sites(model) if "hook_resid" in s.name]
        places = []
        for side, sae in (("lower", data.lower), ("upper", data.upper)):
            if sae.site not in order or sae.w_dec.shape[1] != model.hidden_size:
                raise CircuitError(
                    f"the {side} autoencoder is of {sae.site!r} with width {sae.w_dec.shape[1]}; expected a site of "
                    f"the stream of {model.name}, such as {order[-1]}, with width {model.hidden_size}."
                )
            places.append(order.index(sae.site))
        if places[0] >= places[1]:
            raise CircuitError(
                f"the lower autoencoder is of {data.lower.site} and the upper one of {data.upper.site}; give the "
                "earlier site as lower."
            )
        if not 0 <= self.feature < data.upper.latents:
            raise CircuitError(f"feature is {self.feature}; the upper one has 0 to {data.upper.latents - 1}.")
        if min(self.draws, self.tokens - 1) < 1 or not 2 <= self.combined <= self.edges <= data.lower.latents // 2:
            raise CircuitError(
                f"draws is {self.draws}, tokens {self.tokens}, combined {self.combined} and edges {self.edges}; "
                f"expected at least 1 draw, 2 tokens, and 2 <= combined <= edges <= {data.lower.latents // 2}."
            )
        return data.lower, data.upper

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """A decoder in which a direction of the stream is an AND of two others, and autoencoders with these."""
        model, texts, _ = planted("and")
        lower, upper = planted_features(model)
        return cls(edges=2, combined=2, draws=3), model, FeatureTexts.of(texts, lower, upper)


@dataclass(frozen=True, eq=False)
class _Look:
    """A feature of the later site, and what the earlier ones do to it."""

    model: LanguageModel
    lower: SparseAutoencoder
    upper: SparseAutoencoder
    feature: int

    def at(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Earlier features [pos, latents] and the later one's input [pos], from position 1."""
        with capture(self.model, [self.lower.site, self.upper.site]) as seen:
            self.model.network(ids, use_cache=False)
        x, later = (seen[name][0, 1:].float().cpu() for name in (self.lower.site, self.upper.site))
        return self.lower.encode(x), self.upper.before(later)[:, self.feature]

    def without(self, batch: Sequence[Tensor], mask: Tensor, means: Tensor) -> Floats:
        """The later feature's input [positions] with these earlier features set to their means."""

        def put(old: Tensor) -> Tensor:
            x = old[:, 1:].float().cpu()
            change = torch.where(mask, self.lower.encode(x) - means, 0.0) @ self.lower.w_dec
            return torch.cat([old[:, :1], old[:, 1:] - change.to(old)], dim=1)

        found = []
        where = site(self.model, self.lower.site).name
        for ids in batch:
            with edit(self.model, {where: put}), capture(self.model, [self.upper.site]) as seen:
                self.model.network(ids, use_cache=False)
            found.append(self.upper.before(seen[self.upper.site][0, 1:].float().cpu())[:, self.feature])
        return np.asarray(torch.cat(found).double().numpy())


def _pairs(units: Tensor, f: Tensor, weights: Tensor, active: Floats) -> pd.DataFrame:
    rows = []
    for a, b in combinations(units.tolist(), 2):
        one, other = (f[:, i].numpy() * float(weights[i].sign()) for i in (a, b))
        rows.append({"a": str(a), "b": str(b), **judged(one, other, active)})
    return pd.DataFrame(rows).sort_values("fitted", ascending=False, kind="stable", ignore_index=True)
