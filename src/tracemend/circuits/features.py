"""Features of a site by a sparse autoencoder, and what the network loses when it has only them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracemend.circuits.activation_store import ActivationStore, site_activations
from tracemend.circuits.activations import token_losses, windows
from tracemend.circuits.circuit import Circuit
from tracemend.circuits.sae import SparseAutoencoder, kind_of
from tracemend.circuits.sae_training import SaeTraining
from tracemend.circuits.superposition import principal_directions, random_directions
from tracemend.circuits.vocabulary import Vocabulary, words
from tracemend.circuits.weights import writes
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError
from tracemend.methods import MethodResult
from tracemend.models import LanguageModel, edit, site, tiny
from tracemend.progress import Progress

_FOLDER = "sae"
_EXAMPLES, _TOKENS, _AROUND = 3, 8, 10
# Sites whose directions are directions of the stream. What is as wide need not be one: heads side by side often are.
_STREAM = ("hook_embed", "hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_attn_out", "hook_mlp_out")
Reconstruction = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class FeaturesResult(MethodResult):
    """One row a feature, those that explain most first; of the first of them a card.

    Columns: ``feature``, ``density`` (share of the held-out tokens), ``mean`` (where it is active), ``explained`` (mean
    square of what it adds), and on a card ``examples`` (texts up to where it is most active), ``raises`` and ``lowers``
    (tokens whose logits its direction changes most: of sites of the stream the direction itself, of ``hook_z`` what W_O
    of the layer makes of it; empty at other sites), ``ablation`` (rise of the loss, nats a token, where it is active in
    its best text and taken away).

    Attributes:
        sae: the autoencoder; saved in SAELens's form under ``sae``.
    """

    sae: SparseAutoencoder

    def save(self, directory: Path | str) -> Path:
        """Write the result, and the autoencoder beside it."""
        path = super().save(directory)
        self.sae.save(path / _FOLDER)
        return path

    @classmethod
    def _read(cls, path: Path) -> dict[str, Any]:
        return {**super()._read(path), "sae": SparseAutoencoder.read(path / _FOLDER)}

    def figure(self) -> Any:
        """Densities of the features that were ever active."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 3.4), layout="constrained")
        axes = figure.subplots()
        alive = self.rows["density"][self.rows["density"] > 0]
        axes.hist(np.log10(alive), bins=40, color="#2f6f8f")
        axes.set(xlabel="log10 of the share of tokens", ylabel="features")
        return figure


@dataclass(frozen=True, kw_only=True)
class Features(Circuit[FeaturesResult]):
    """Sparse autoencoder of a site: features, what they reconstruct, and a card for each of the strongest.

    Training: :class:`tracemend.circuits.sae_training.SaeTraining`. On held-out tokens (the first position of each row
    is left out of everything) with x̂ the reconstruction and x̄ the mean activation:

        L0 = mean number of active features       FVU = Σ |x - x̂|² / Σ |x - x̄|²
        CE recovered = (CE(x̄) - CE(x̂)) / (CE(x̄) - CE(x))

    where CE(·) is the loss on the next token with this put in the place of x. Bricken et al. 2023, "Towards
    Monosemanticity"; Gao et al. 2024, arXiv 2406.04093.

    Metrics: ``l0``, ``fvu``, ``ce_recovered``, ``dead`` (share of features never active on the held-out tokens),
    ``density`` (median of the others), ``loss`` (with x̂, nats a token). Controls: ``pca`` (the first k principal
    components) and ``random`` (for each token the k best of as many random directions, fitted by least squares), with
    k the features that are active at once; ``clean`` and ``mean`` (``loss`` with x and with x̄).

    Attributes:
        site: whose activations.
        kind: ``topk`` or ``l1``.
        latents: features.
        k: active at once (topk).
        l1: weight of Σ f (l1).
        steps: of training.
        batch: activations a step.
        rate: learning rate.
        tokens: of the corpus, for training; at least 10 for each feature.
        held_out: further tokens, for the figures.
        length: of the rows that they are read in.
        cards: features with examples, logits and ablation.
        store: folder in which activations are kept, so that collecting goes on where it stopped; empty: in memory.

    Raises:
        CircuitError: not a decoder; no such site, or one that can only be read; too few tokens; constant activations;
            k above the latents.

    Example:
        >>> found = Features(site="blocks.15.hook_resid_post").run(load("smollm2"), Texts.read("texts.csv"))
        >>> found.sae.save("my-sae")        # SAELens reads it
    """

    name: ClassVar[str] = "circuits.features"
    inputs: ClassVar[str] = "Texts"
    capabilities: ClassVar[frozenset[str]] = frozenset({"decoder", "gradients"})
    at_least: ClassVar = {"held_out": 1, "cards": 1, "length": 8}

    site: str = "blocks.15.hook_resid_post"
    kind: str = "topk"
    latents: int = 2304
    k: int = 32
    l1: float = 1.5
    steps: int = 1200
    batch: int = 512
    rate: float = 1e-3
    tokens: int = 24576
    held_out: int = 2048
    length: int = 128
    cards: int = 10
    store: str = ""

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> FeaturesResult:
        """Collect activations, train, and measure on held-out tokens.

        Args:
            model: a decoder.
            data: :class:`tracemend.data.prompts.Texts`.
            progress: shows collecting, training, and the losses.

        Raises:
            CircuitError: see the class.
        """
        network, texts = self.decoder(model), self.table(Texts, data).frame["text"].tolist()
        kind, where = kind_of(self.kind), site(network, self.site).name
        width, outward = network.hidden_size, _outward(network, where)
        self.announce(
            self.tokens * 4 * width + 12 * self.latents * width + 4 * self.batch * self.latents
            + 2 * self.length * network.config.vocab_size,
            "read fewer tokens or take fewer latents",
        )  # fmt: skip
        ids = windows(network, texts, tokens=self.tokens + self.held_out, length=self.length)
        cut = -(-self.held_out // ids.shape[1])
        if cut >= len(ids):
            raise CircuitError(f"held_out is {self.held_out} and leaves nothing to train on; lower it.")
        if self.store:
            known = ActivationStore(Path(self.store)).collect(network, where, ids[:-cut], progress=progress)
        else:
            known = site_activations(network, where, ids[:-cut])
        how = SaeTraining(
            kind=kind, latents=self.latents, k=self.k, l1=self.l1, steps=self.steps, batch=self.batch, rate=self.rate,
            seed=self.seed,
        )  # fmt: skip
        trained = replace(how.fit(known, progress=progress), site=where, model=network.name)
        with torch.no_grad():
            return self._measured(network, where, outward, trained, known, ids[-cut:], progress)

    def _measured(
        self,
        model: LanguageModel,
        where: str,
        outward: Tensor | None,
        sae: SparseAutoencoder,
        known: Tensor,
        ids: Tensor,
        progress: Progress,
    ) -> FeaturesResult:
        held = site_activations(model, where, ids)
        features = torch.cat([sae.encode(part) for part in held.split(512)])
        active, mean = features > 0, known.mean(0)
        l0 = float(active.float().sum(-1).mean())
        count = max(1, min(round(l0), held.shape[1]))
        arms: dict[str, Reconstruction] = {
            "found": sae,
            "pca": _projection(principal_directions(known, count), mean),
            "random": _best_of(random_directions(held.shape[1], sae.latents, seed=self.seed), mean, count),
        }
        spread = float((held - held.mean(0)).square().sum())
        fvu = {name: float((held - _by_parts(arm, held)).square().sum()) / spread for name, arm in arms.items()}
        losses = {"clean": float(token_losses(model, ids).mean())}
        arms["mean"] = lambda x: mean.expand_as(x)
        for name, arm in progress.track(list(arms.items()), task="loss"):
            losses[name] = _loss_with(model, where, ids, arm)
        lost = losses["mean"] - losses["clean"]
        recovered = {name: (losses["mean"] - losses[name]) / lost if lost else float("nan") for name in arms}
        density = active.float().mean(0)
        alive = density > 0
        rows = self._rows(model, where, outward, sae, features, ids)
        return FeaturesResult(
            metrics={
                "l0": l0,
                "fvu": fvu["found"],
                "ce_recovered": recovered["found"],
                "dead": float((~alive).float().mean()),
                "density": float(density[alive].median()) if bool(alive.any()) else float("nan"),
                "loss": losses["found"],
            },
            controls={
                **{
                    name: {"l0": float(count), "fvu": fvu[name], "ce_recovered": recovered[name], "loss": losses[name]}
                    for name in ("pca", "random")
                },
                **{name: {"loss": losses[name]} for name in ("clean", "mean")},
            },
            config=self.config,
            rows=rows,
            sae=sae,
        )

    def _rows(
        self,
        model: LanguageModel,
        where: str,
        outward: Tensor | None,
        sae: SparseAutoencoder,
        features: Tensor,
        ids: Tensor,
    ) -> pd.DataFrame:
        active = features > 0
        number = active.sum(0)
        explained = features.square().mean(0) * sae.w_dec.square().sum(-1)
        rows = pd.DataFrame(
            {
                "feature": range(sae.latents),
                "density": (number / len(features)).numpy(),
                "mean": (features.sum(0) / number.clamp_min(1)).numpy(),
                "explained": explained.numpy(),
            }
        ).sort_values("explained", ascending=False, kind="stable", ignore_index=True)
        for name in ("examples", "raises", "lowers"):
            rows[name] = ""
        rows["ablation"] = np.nan
        vocabulary = None if outward is None else Vocabulary.of(model)
        for at in range(min(self.cards, len(rows))):
            feature = int(rows["feature"][at])
            if not number[feature]:
                continue
            best = features[:, feature].topk(min(_EXAMPLES, int(number[feature]))).indices.tolist()
            rows.loc[at, "examples"] = " ¶ ".join(_text(model, ids, place) for place in best)
            rows.loc[at, "ablation"] = self._ablation(model, where, sae, feature, ids, best[0])
            if vocabulary is not None and outward is not None:
                direction = sae.w_dec[feature][None] @ outward
                for name, sign in (("raises", 1.0), ("lowers", -1.0)):
                    tokens = vocabulary.concepts(sign * direction, _TOKENS)[0]
                    rows.loc[at, name] = words(model, tokens)
        return rows

    def _ablation(
        self, model: LanguageModel, where: str, sae: SparseAutoencoder, feature: int, ids: Tensor, place: int
    ) -> float:
        """Rise of the loss where the feature is active in its best row and taken away."""
        row = ids[place // (ids.shape[1] - 1)][None]
        kept: list[Tensor] = []

        def without(x: Tensor) -> Tensor:
            size = sae.encode(x)[..., feature]
            kept.append(size > 0)
            return x - size[..., None] * sae.w_dec[feature]

        changed = _losses_with(model, where, row, without) - token_losses(model, row)
        there = kept[0].reshape(-1)[: changed.shape[1] - 1]
        # Position 0 is left alone, and the last has no next token.
        own = changed[0, 1:][there]
        return float(own.mean()) if len(own) else float("nan")

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """A tiny decoder on rotations of one sentence."""
        said = "the movie is good and this film was sad so we hate it but they love to stop the awful toxic text"
        texts = [{"text": " ".join(np.roll(said.split(), i))} for i in range(60)]
        method = cls(
            site="blocks.0.hook_resid_post", latents=64, k=4, steps=60, batch=64, tokens=900, held_out=90, length=24,
            cards=3,
        )  # fmt: skip
        return method, tiny("llama"), Texts.make(texts)


def _outward(model: LanguageModel, where: str) -> Tensor | None:
    """What takes directions of the site to directions of the stream, [d, d_model]; None of sites that have none."""
    part = where.rpartition(".")[2]
    if part in _STREAM:
        return torch.eye(model.hidden_size)
    if part == "hook_z":
        # Heads lie side by side, as activations of the site are read.
        return writes(model, int(where.split(".")[1])).flatten(0, 1).float().cpu()
    return None


def _by_parts(arm: Reconstruction, x: Tensor) -> Tensor:
    return torch.cat([arm(part) for part in x.split(512)])


def _projection(directions: Tensor, mean: Tensor) -> Reconstruction:
    return lambda x: mean + (x - mean) @ directions.T @ directions


def _best_of(directions: Tensor, mean: Tensor, count: int) -> Reconstruction:
    """Reconstruction from the ``count`` directions nearest to each activation, by least squares."""

    def reconstruct(x: Tensor) -> Tensor:
        flat = (x - mean).reshape(-1, x.shape[-1])
        found = []
        for part in flat.split(64):
            chosen = directions[(part @ directions.T).abs().topk(count, dim=-1).indices]
            gram = chosen @ chosen.transpose(1, 2) + 1e-6 * torch.eye(count)
            weights = torch.linalg.solve(gram, chosen @ part[..., None])
            found.append((weights * chosen).sum(1))
        return torch.cat(found).view_as(x) + mean

    return reconstruct


def _putting(arm: Reconstruction) -> Callable[[Tensor], Tensor]:
    """The reconstruction in the place of the activation, from the second position on.

    Arms are fitted on kept activations, which are on the CPU wherever the model is.
    """

    def put(old: Tensor) -> Tensor:
        flat = old.flatten(2)
        new = torch.cat([flat[:, :1], arm(flat[:, 1:].float().cpu()).to(flat)], dim=1)
        return new.view_as(old)

    return put


def _losses_with(model: LanguageModel, where: str, ids: Tensor, arm: Reconstruction) -> Tensor:
    with edit(model, {where: _putting(arm)}):
        return token_losses(model, ids)


def _loss_with(model: LanguageModel, where: str, ids: Tensor, arm: Reconstruction) -> float:
    return float(_losses_with(model, where, ids, arm).mean())


def _text(model: LanguageModel, ids: Tensor, place: int) -> str:
    """The tokens up to a place among all rows' positions but the first."""
    width = ids.shape[1] - 1
    row, column = place // width, place % width + 1
    shown: Sequence[int] = ids[row, max(0, column + 1 - _AROUND) : column + 1].tolist()
    return str(model.tokenizer.decode(shown)).replace("\n", " ").strip()
