"""Value vectors of feed-forward layers as concepts: what they say, how much they weigh, and steering by them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracemend.circuits.activations import windows
from tracemend.circuits.circuit import Circuit, generator, layers_of
from tracemend.circuits.vocabulary import Vocabulary, like, words
from tracemend.circuits.weights import module_at, unembedding, values
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError
from tracemend.methods import MethodResult
from tracemend.models import LanguageModel, capture, edit, tiny
from tracemend.models.edits import add
from tracemend.models.hooks import Edit
from tracemend.models.sites import trunk
from tracemend.progress import Progress

_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class SubupdatesResult(MethodResult):
    """One row a sampled value vector, the most coherent first, and one row a layer.

    Columns: ``layer``, ``neuron``, ``coherence``, ``tokens`` (what it stands for), ``largest`` (coefficient over the
    texts, in absolute value), ``steered``, and where it was steered ``own`` and ``others`` (change of the mean
    log-probability of its own tokens and of random ones).

    Attributes:
        layers: ``layer``, ``coherence`` (median), ``coherence_random``, ``above`` and ``above_random`` (share above the
            95th percentile of random vectors), ``raw`` and ``raw_random`` (coherence without cleaning), ``dynamic``
            (share of Σ |m| |v| that the ten heaviest memories carry, mean over positions).
    """

    tables: ClassVar[tuple[str, ...]] = ("layers",)

    layers: pd.DataFrame

    def figure(self) -> Any:
        """Coherence by layer beside that of random vectors."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.layers["layer"], self.layers["coherence"], color="#2f6f8f", label="value vectors")
        axes.plot(self.layers["layer"], self.layers["coherence_random"], color="#b9b9b9", label="random vectors")
        axes.set(xlabel="layer", ylabel="coherence of the top tokens")
        axes.legend(fontsize="small")
        return figure


@dataclass(frozen=True, kw_only=True)
class Subupdates(Circuit[SubupdatesResult]):
    """Value vectors as concepts in the vocabulary, with steering by coefficients and early exit.

    A feed-forward layer adds Σ m_i v_i; each part multiplies the probability of a token w by exp(e_w · m_i v_i) up to
    scale. A value vector stands for the tokens whose cleaned rows of the unembedding point its way
    (:class:`tracemend.circuits.vocabulary.Vocabulary`); its coherence is the mean cosine between their rows. Steering
    sets m_i at the last position to ``coefficient`` times the largest |m_i| of the texts. Early exit leaves the network
    when the best token of the logit lens has not changed for ``patience`` blocks. Geva et al. 2022, "Transformer
    Feed-Forward Layers Build Predictions by Promoting Concepts in the Vocabulary Space", arXiv 2203.14680.

    Metrics: ``coherence`` (median over the upper third of the layers), ``above`` (share above the 95th percentile of
    random vectors, there), ``raw`` (coherence without cleaning, there), ``dynamic``, ``steer_own`` (mean change of the
    log-probability of a steered vector's own tokens, nats), ``steer_right`` (share of steered vectors whose own tokens
    rise more than random ones), ``exit_saved`` (share of blocks not run), ``exit_agreement`` (with the whole network's
    best token). Controls: ``random vectors`` (of the same mean and covariance: ``coherence``, ``above`` of a second
    draw, ``raw``; and in place of the steered vector, as long as its change: ``steer_own``, ``steer_right``),
    ``random tokens`` (``steer_own`` of these), ``equal weights`` (``dynamic``), ``fixed layer`` (``exit_agreement``
    when all leave at the mean layer).

    Attributes:
        stride: every how many layers are looked at.
        neurons: sampled in each layer.
        top: tokens of a concept.
        remove: principal components taken out of the vocabulary.
        steered: vectors that are steered, the most coherent of the upper two thirds of the layers.
        coefficient: in units of the largest |m_i| of the texts.
        tokens: of the texts that are read.
        length: of the rows that they are read in.
        patience: blocks for which the best token must stay.

    Raises:
        CircuitError: not a decoder, too few tokens, more neurons than a layer has.

    Example:
        >>> found = Subupdates(stride=5).run(load("smollm2"), Texts.read("texts.csv"))
        >>> found.table()[["layer", "neuron", "coherence", "tokens"]].head(10)
    """

    name: ClassVar[str] = "circuits.subupdates"
    inputs: ClassVar[str] = "Texts"
    at_least: ClassVar = {"stride": 1, "top": 2, "steered": 1, "tokens": 8, "length": 4, "patience": 1}

    stride: int = 3
    neurons: int = 100
    top: int = 10
    remove: int = 3
    steered: int = 12
    coefficient: float = 3.0
    tokens: int = 256
    length: int = 32
    patience: int = 3

    @torch.no_grad()
    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> SubupdatesResult:
        """Read the value vectors of every ``stride``-th layer as concepts, steer by the best, and leave early.

        Args:
            model: a decoder.
            data: :class:`tracemend.data.prompts.Texts`.
            progress: shows the layers, then what is steered.

        Raises:
            CircuitError: see the class.
        """
        network, texts = self.decoder(model), self.table(Texts, data).frame["text"].tolist()
        inner, vocabulary = len(values(network, 0)), len(unembedding(network))
        self._check(inner)
        layers = list(range(0, layers_of(network), self.stride))
        self.announce(
            vocabulary * (3 * network.hidden_size + 256) + self.tokens * (len(layers) * inner + 3 * vocabulary),
            "read fewer tokens",
        )
        ids = windows(network, texts, tokens=self.tokens, length=self.length)
        clean, raw = Vocabulary.of(network, remove=self.remove), Vocabulary.raw(network)
        names = [f"blocks.{layer}.mlp.hook_post" for layer in layers]
        with capture(network, names) as seen:
            trunk(network)(input_ids=ids.to(network.network.device), use_cache=False)
        rows, by_layer = [], []
        for layer, name in progress.track(list(zip(layers, names, strict=True)), task="layers"):
            coefficients = seen.pop(name)[:, 1:].flatten(0, 1).float().cpu()
            found, summary = self._layer(network, layer, coefficients, clean, raw)
            rows.append(found)
            by_layer.append(summary)
        table = pd.concat(rows).sort_values("coherence", ascending=False, kind="stable", ignore_index=True)
        table, steering = self._steered(network, ids, table, clean, progress)
        return self._result(table, pd.DataFrame(by_layer), steering, self._exits(network, ids), inner)

    def _check(self, inner: int) -> None:
        if not 2 <= self.neurons <= inner:
            raise CircuitError(
                f"neurons is {self.neurons}; the layers have {inner} neurons each, so expected 2 to {inner}."
            )

    def _layer(
        self, model: LanguageModel, layer: int, coefficients: Tensor, clean: Vocabulary, raw: Vocabulary
    ) -> tuple[pd.DataFrame, dict[str, Any]]:
        own = values(model, layer).float().cpu()
        chosen = torch.randperm(len(own), generator=generator(self.seed + layer))[: self.neurons]
        random = like(own, 2 * self.neurons, self.seed + layer)
        tokens = clean.concepts(own[chosen], self.top)
        coherence, chance = clean.coherence(tokens), clean.coherence(clean.concepts(random, self.top))
        first, second = chance[: self.neurons], chance[self.neurons :]
        level = first.quantile(_LEVEL)
        weights = coefficients.abs() * own.norm(dim=-1)
        heaviest = weights.topk(min(10, len(own)), dim=-1).values.sum(-1) / weights.sum(-1)
        found = pd.DataFrame(
            {
                "layer": layer,
                "neuron": chosen.numpy(),
                "coherence": coherence.numpy(),
                "tokens": [words(model, row) for row in tokens],
                "largest": coefficients[:, chosen].abs().amax(0).numpy(),
            }
        )
        return found, {
            "layer": layer,
            "coherence": float(coherence.median()),
            "coherence_random": float(first.median()),
            "above": float((coherence > level).float().mean()),
            "above_random": float((second > level).float().mean()),
            "raw": float(raw.coherence(raw.concepts(own[chosen], self.top)).median()),
            "raw_random": float(raw.coherence(raw.concepts(random[: self.neurons], self.top)).median()),
            "dynamic": float(heaviest.mean()),
        }

    def _steered(
        self, model: LanguageModel, ids: Tensor, table: pd.DataFrame, clean: Vocabulary, progress: Progress
    ) -> tuple[pd.DataFrame, dict[str, Tensor]]:
        """Changes of log-probabilities, [steered] each: own tokens, random tokens, own by a random vector, ..."""
        late = table[table["layer"] >= layers_of(model) // 3].index[: self.steered]
        prompts = ids[:4, : max(4, self.length // 2)].to(model.network.device)
        layers = sorted(set(table["layer"][late].tolist()))
        with capture(model, [f"blocks.{layer}.mlp.hook_post" for layer in layers]) as before:
            plain = self._said(model, prompts, {})
        random = generator(self.seed + 1)
        usable = clean.used.nonzero().flatten().cpu()
        found: dict[str, list[float]] = {"own": [], "others": [], "random": [], "random_others": []}
        for at in progress.track(late.tolist(), task="steer"):
            layer, neuron = int(table["layer"][at]), int(table["neuron"][at])
            vector = values(model, layer)[neuron].float()
            tokens = clean.concepts(vector[None], self.top)[0]
            others = usable[torch.randperm(len(usable), generator=random)[: self.top]]
            target = self.coefficient * float(table["largest"][at])
            site = f"blocks.{layer}.mlp.hook_post"
            changed = self._said(model, prompts, {site: _raised(neuron, target)}) - plain
            noise = like(values(model, layer).float(), 1, self.seed + int(at))[0]
            # As far as steering moves each prompt, which depends on the coefficient that it has without.
            size = (target - before[site][:, -1, neuron].float()).abs() * vector.norm()
            noise = size[:, None, None] * noise / noise.norm()
            blurred = self._said(model, prompts, {f"blocks.{layer}.hook_mlp_out": add(noise, positions=[-1])}) - plain
            for name, change, those in (
                ("own", changed, tokens), ("others", changed, others),
                ("random", blurred, tokens), ("random_others", blurred, others),
            ):  # fmt: skip
                found[name].append(float(change[:, those].mean()))
        table["steered"] = table.index.isin(late)
        for name in ("own", "others"):
            table[name] = np.nan
            table.loc[late, name] = found[name]
        return table, {name: torch.tensor(each) for name, each in found.items()}

    def _said(self, model: LanguageModel, prompts: Tensor, edits: dict[str, Edit]) -> Tensor:
        with edit(model, edits):
            logits = model.network(prompts, use_cache=False, logits_to_keep=1).logits[:, -1]
        found: Tensor = logits.float().log_softmax(-1).cpu()
        return found

    def _exits(self, model: LanguageModel, ids: Tensor) -> dict[str, float]:
        names = [f"blocks.{i}.hook_resid_post" for i in range(layers_of(model))]
        rows = ids[: max(1, 128 // ids.shape[1])].to(model.network.device)
        with capture(model, names) as streams:
            trunk(model)(input_ids=rows, use_cache=False)
        norm, head = module_at(model, "ln_final.hook_normalized"), model.network.get_output_embeddings()
        best = torch.stack([head(norm(streams.pop(name)[:, 1:].flatten(0, 1))).argmax(-1) for name in names]).cpu()
        layers, stays = len(names), torch.zeros(best.shape[1], dtype=torch.long)
        left = torch.full((best.shape[1],), layers - 1)
        for layer in range(1, layers):
            stays = torch.where(best[layer] == best[layer - 1], stays + 1, 0)
            left = torch.where((stays >= self.patience) & (left == layers - 1), layer, left)
        fixed = min(layers - 1, round(float(left.float().mean())))
        return {
            "saved": float((layers - 1 - left).float().mean()) / layers,
            "agreement": float((best.gather(0, left[None])[0] == best[-1]).float().mean()),
            "fixed": float((best[fixed] == best[-1]).float().mean()),
        }

    def _result(
        self,
        table: pd.DataFrame,
        layers: pd.DataFrame,
        steering: dict[str, Tensor],
        exits: dict[str, float],
        inner: int,
    ) -> SubupdatesResult:
        upper = layers.tail(max(1, len(layers) // 3)).mean()
        right = (steering["own"] > steering["others"]).float().mean()
        return SubupdatesResult(
            metrics={
                **{name: float(upper[name]) for name in ("coherence", "above", "raw")},
                "dynamic": float(layers["dynamic"].mean()),
                "steer_own": float(steering["own"].mean()),
                "steer_right": float(right),
                "exit_saved": exits["saved"],
                "exit_agreement": exits["agreement"],
            },
            controls={
                "random vectors": {
                    **{name: float(upper[f"{name}_random"]) for name in ("coherence", "above", "raw")},
                    "steer_own": float(steering["random"].mean()),
                    "steer_right": float((steering["random"] > steering["random_others"]).float().mean()),
                },
                "random tokens": {"steer_own": float(steering["others"].mean())},
                "equal weights": {"dynamic": min(10, inner) / inner},
                "fixed layer": {"exit_agreement": exits["fixed"]},
            },
            config=self.config,
            rows=table,
            layers=layers,
        )

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """A tiny decoder on rotations of one sentence."""
        said = "the movie is good and this film was sad so we hate it but they love to stop the awful toxic text"
        texts = [{"text": " ".join(np.roll(said.split(), i))} for i in range(20)]
        return cls(stride=1, neurons=20, steered=3, tokens=60, length=12, patience=1), tiny("llama"), Texts.make(texts)


def _raised(neuron: int, target: float) -> Edit:
    """Set one coefficient at the last position."""

    def change(old: Tensor) -> Tensor:
        old[:, -1, neuron] = target
        return old

    return change
