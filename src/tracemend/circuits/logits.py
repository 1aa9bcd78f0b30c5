"""Direct logit attribution and the logit lens: which layer, head and neuron wrote the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracemend.circuits.circuit import Circuit, generator, layers_of
from tracemend.circuits.tokens import ids_of, token_of
from tracemend.circuits.weights import FrozenNorm, module_at, unembedding, values, writes
from tracemend.data.prompts import Contrasts
from tracemend.errors import CircuitError
from tracemend.methods import MethodResult
from tracemend.models import LanguageModel, capture, tiny
from tracemend.progress import Progress

_TOP = 5
# Of the sum of all parts from the network's own logits, relative to the larger of 1 and the logits.
_TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class LogitsResult(MethodResult):
    """Parts of the logit difference, strongest first, and the lens.

    The table has a row a part: ``part`` (embedding, head, mlp, neuron, bias, lens), ``layer``, ``index`` (head or
    neuron; -1 where there is none), ``value`` (mean over the prompts, in logits), ``spread`` (standard deviation over
    the prompts), and for the lens ``p_answer`` and ``rank_answer`` (median, 1 is first). Embedding, heads, MLPs and
    biases add up to the logit difference; the neurons shown are a further division of their MLPs.
    """

    def parts(self, part: str) -> pd.DataFrame:
        """The rows of one kind of part."""
        return self.rows[self.rows["part"] == part].reset_index(drop=True)

    def figure(self) -> Any:
        """Heads by layer as a map, MLPs beside it, the lens below."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 6), layout="constrained")
        above, below = figure.subplots(2, 1)
        heads, mlps, lens = self.parts("head"), self.parts("mlp"), self.parts("lens")
        grid = heads.pivot(index="index", columns="layer", values="value")
        grid.loc["MLP"] = mlps.set_index("layer")["value"]
        most = float(np.abs(grid.to_numpy(dtype=float)).max())
        image = above.imshow(grid.to_numpy(dtype=float), cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
        above.set(xlabel="layer", ylabel="head", title="logits of the answer less the foil, by who wrote them")
        above.set_yticks(range(len(grid)), [str(name) for name in grid.index])
        figure.colorbar(image, ax=above)
        lens = lens.sort_values("layer")
        below.plot(lens["layer"], lens["value"], color="#2f6f8f")
        below.axhline(0, color="#b9b9b9", linewidth=0.8)
        below.set(xlabel="blocks passed", ylabel="logit difference", title="logit lens")
        return figure


@dataclass(frozen=True, kw_only=True)
class Logits(Circuit[LogitsResult]):
    """Direct logit attribution by layer, head and neuron, and the logit lens.

    The stream at the end of a prompt is a sum of what the embedding, the heads, the MLPs and their biases wrote. With
    the scale σ of the final norm held at what it was, the difference of two logits is a sum over the same parts c:

        logit(a) - logit(b) = Σ_c  c · (g ⊙ (W_U[a] - W_U[b])) / σ  + biases

    (g: gain of the norm; of a layer norm the mean is taken away first.) It is a *direct* effect: what a part does by
    way of later layers is not in it (see ``circuits.patch``). Elhage et al. 2021, "A Mathematical Framework for
    Transformer Circuits"; nostalgebraist 2020 for the lens, which applies final norm and unembedding to every block's
    stream.

    Metrics: ``logit_difference`` (answer less foil, mean over the prompts, in logits), ``top_heads`` (what the five
    heads with the largest mean share write, in logits), ``answer_preferred`` (share of prompts), ``sum_gap`` (largest
    deviation of the sum of parts from the network's logits). Control: ``logit_difference`` and ``top_heads`` along
    differences of random pairs of tokens, scaled to the same length, each with its own five best heads.

    Attributes:
        neurons: how many are shown, the strongest of all layers.
        draws: random pairs of tokens for the control.

    Raises:
        CircuitError: not a decoder; an answer or foil of several tokens, or both the same; parts that do not add up
            (an architecture whose blocks write what no site shows).

    Example:
        >>> prompts = Contrasts.make([{"prompt": "Paris is the capital of", "answer": "France", "foil": "Italy"}])
        >>> Logits().run(load("smollm2"), prompts).parts("head").head(3)
    """

    name: ClassVar[str] = "circuits.logits"
    inputs: ClassVar[str] = "Contrasts"
    at_least: ClassVar = {"neurons": 0, "draws": 1}

    neurons: int = 20
    draws: int = 20

    @torch.no_grad()
    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> LogitsResult:
        """Divide the logit difference at the end of each prompt.

        Args:
            model: a decoder.
            data: :class:`tracemend.data.prompts.Contrasts`.
            progress: shows the prompts that are done.

        Raises:
            CircuitError: see the class.
        """
        network, frame = self.decoder(model), self.table(Contrasts, data).frame
        texts = [ids_of(network, text) for text in frame["prompt"]]
        layers, vocabulary = layers_of(network), len(unembedding(network))
        longest = max(ids.shape[1] for ids in texts)
        inner = values(network, 0).shape[0]
        self.announce(
            longest * (layers * (3 * network.hidden_size + inner) + vocabulary) + len(frame) * layers * inner,
            "give shorter prompts or fewer of them",
        )
        pairs = []
        for at, row in frame.iterrows():
            pair = [token_of(network, row["prompt"], row[name]) for name in ("answer", "foil")]
            if pair[0] == pair[1]:
                raise CircuitError(f"answer and foil of row {at} are the same token; their difference is always 0.")
            pairs.append(pair)
        chance = torch.randint(vocabulary, (self.draws, 2), generator=generator(self.seed))
        found = [
            _divided(network, ids, torch.tensor([pair]), chance)
            for ids, pair in progress.track(list(zip(texts, pairs, strict=True)), task="logits")
        ]
        return self._result(found)

    def _result(self, found: list[_Divided]) -> LogitsResult:
        def over(name: str) -> tuple[Tensor, Tensor]:
            stacked = torch.stack([getattr(one, name) for one in found])
            return stacked.mean(0), stacked.std(0, unbiased=False)

        gap = max(one.gap for one in found)
        size = max(1.0, max(one.size for one in found))
        if not gap <= _TOLERANCE * size:
            raise CircuitError(
                f"the parts add up to {gap:.3g} logits beside what the network says; expected at most "
                f"{_TOLERANCE * size:.3g}. Its blocks write something that the table of sites does not show."
            )
        (heads, s_heads), (mlps, s_mlps), (bias, s_bias) = over("heads"), over("mlps"), over("bias")
        (embedded, s_embedded), (neurons, s_neurons), (lens, s_lens) = over("embedded"), over("neurons"), over("lens")
        rows = [("embedding", -1, -1, embedded, s_embedded), ("bias", -1, -1, bias, s_bias)]
        for layer in range(len(mlps)):
            rows.append(("mlp", layer, -1, mlps[layer], s_mlps[layer]))
            rows += [("head", layer, h, heads[layer, h], s_heads[layer, h]) for h in range(heads.shape[1])]
        for flat in neurons.flatten().abs().topk(min(self.neurons, neurons.numel())).indices.tolist():
            at = divmod(flat, neurons.shape[1])
            rows.append(("neuron", *at, neurons[at], s_neurons[at]))
        table = pd.DataFrame(
            [(part, layer, index, float(v), float(s)) for part, layer, index, v, s in rows],
            columns=["part", "layer", "index", "value", "spread"],
        )
        table = table.iloc[np.argsort(-table["value"].abs().to_numpy(), kind="stable")]
        p, ranks = over("p")[0], torch.stack([one.ranks for one in found]).double().quantile(0.5, dim=0)
        lenses = pd.DataFrame(
            {
                "part": "lens",
                "layer": range(len(lens)),
                "index": -1,
                "value": lens.double().numpy(),
                "spread": s_lens.double().numpy(),
                "p_answer": p.double().numpy(),
                "rank_answer": ranks.numpy(),
            }
        )
        difference = torch.tensor([one.difference for one in found])
        chance = torch.stack([one.chance_heads for one in found]).mean(0)
        totals = torch.stack([one.chance_total for one in found]).mean(0)
        return LogitsResult(
            metrics={
                "logit_difference": float(difference.mean()),
                "top_heads": float(heads.flatten().topk(min(_TOP, heads.numel())).values.sum()),
                "answer_preferred": float((difference > 0).double().mean()),
                "sum_gap": gap,
            },
            controls={
                "logit_difference": float(totals.mean()),
                "top_heads": float(chance.flatten(1).topk(min(_TOP, heads.numel())).values.sum(1).mean()),
            },
            config=self.config,
            rows=pd.concat([table, lenses], ignore_index=True),
        )

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Two prompts on a tiny decoder."""
        rows = [
            {"prompt": "you are so", "answer": "nice", "foil": "bad"},
            {"prompt": "we love this", "answer": "movie", "foil": "film"},
        ]
        return cls(neurons=5, draws=4), tiny("llama"), Contrasts.make(rows)


@dataclass(frozen=True, eq=False)
class _Divided:
    """One prompt: [layers, heads], [layers], [layers, d_mlp] ... in logits of the answer less the foil."""

    heads: Tensor
    mlps: Tensor
    neurons: Tensor
    embedded: Tensor
    bias: Tensor
    lens: Tensor
    p: Tensor
    ranks: Tensor
    difference: float
    size: float
    gap: float
    chance_heads: Tensor
    chance_total: Tensor


def _divided(model: LanguageModel, ids: Tensor, pair: Tensor, chance: Tensor) -> _Divided:
    layers = layers_of(model)
    last = f"blocks.{layers - 1}.hook_resid_post"
    of_layers = [
        f"blocks.{i}.{name}" for i in range(layers) for name in ("attn.hook_z", "hook_attn_out", "hook_mlp_out")
    ]
    post = [f"blocks.{i}.mlp.hook_post" for i in range(layers)]
    streams = ["blocks.0.hook_resid_pre", *(f"blocks.{i}.hook_resid_post" for i in range(layers))]
    with capture(model, [*of_layers, *post, *streams]) as seen:
        logits = model.network(ids, use_cache=False).logits[0, -1]
    norm, unembed = module_at(model, "ln_final.hook_normalized"), unembedding(model)
    frozen = FrozenNorm.at(norm, seen[last][0, -1])
    wanted = unembed[pair[:, 0]] - unembed[pair[:, 1]]
    random = unembed[chance[:, 0]] - unembed[chance[:, 1]]
    random = random * wanted.norm() / random.norm(dim=1, keepdim=True).clamp_min(1e-9)
    # Directions in the stream: the first is the answer's, the others are the control's.
    directions = frozen.direction(torch.cat([wanted, random]))
    heads, mlps, neurons, rest = [], [], [], torch.zeros(len(directions), device=directions.device)
    for i in range(layers):
        z = seen[f"blocks.{i}.attn.hook_z"][0, -1]
        by_head = torch.einsum("hd,hdm,nm->nh", z, writes(model, i), directions)
        rest = rest + directions @ seen[f"blocks.{i}.hook_attn_out"][0, -1] - by_head.sum(1)
        heads.append(by_head)
        mlps.append(directions @ seen[f"blocks.{i}.hook_mlp_out"][0, -1])
        neurons.append(seen[post[i]][0, -1] * (values(model, i) @ directions[0]))
    by_head, by_mlp = torch.stack(heads, 1), torch.stack(mlps, 1)
    head_bias: Any = getattr(model.network.get_output_embeddings(), "bias", None)
    constant = wanted[0] @ frozen.bias
    if head_bias is not None:
        constant = constant + head_bias[pair[0, 0]] - head_bias[pair[0, 1]]
    embedded = directions @ seen[streams[0]][0, -1]
    total = float(embedded[0] + by_head[0].sum() + by_mlp[0].sum() + rest[0] + constant)
    difference = float(logits[pair[0, 0]] - logits[pair[0, 1]])
    lens = model.network.get_output_embeddings()(norm(torch.stack([seen[name][0, -1] for name in streams]))).cpu()
    return _Divided(
        heads=by_head[0].cpu(),
        mlps=by_mlp[0].cpu(),
        neurons=torch.stack(neurons).cpu(),
        embedded=embedded[0].cpu(),
        bias=(rest[0] + constant).cpu(),
        lens=lens[:, pair[0, 0]] - lens[:, pair[0, 1]],
        p=lens.softmax(-1)[:, pair[0, 0]],
        ranks=1 + (lens > lens[:, pair[0, :1]]).sum(-1),
        difference=difference,
        size=float(logits[pair[0]].abs().max()),
        gap=abs(total - difference),
        chance_heads=by_head[1:].cpu(),
        chance_total=(directions[1:] @ seen[last][0, -1]).cpu(),
    )
