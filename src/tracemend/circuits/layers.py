"""Robustness to the loss of a layer: what each block is worth, and what later ones make up for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracemend.circuits.circuit import Circuit, generator, layers_of
from tracemend.circuits.tokens import ids_of
from tracemend.circuits.weights import FrozenNorm, unembedding
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError
from tracemend.methods import MethodResult
from tracemend.models import LanguageModel, Replay, tiny
from tracemend.progress import Progress

_FIGURES = ("removed", "placebo", "agreement", "direct", "total", "swapped")
# Below this a direct effect is too small to be divided by, in logits.
_SMALL = 0.1


@dataclass(frozen=True, kw_only=True)
class LayersResult(MethodResult):
    """One row a layer, in their order.

    Columns: ``layer``; ``removed``, ``placebo`` and ``swapped`` (rise of the loss in nats a token when the block is
    left out, when it writes noise of the same length, and when it changes places with the next one; NaN for the last);
    ``agreement`` (share of positions whose best token stays when it is left out); ``direct`` and ``total`` (effect on
    the logit of the token that the whole network prefers); ``compensation`` (1 - total / direct, NaN where the direct
    effect is below 0.1 logits).
    """

    def figure(self) -> Any:
        """Loss by layer, beside the placebo; direct and total effect below."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 5.5), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        above.plot(self.rows["layer"], self.rows["removed"], color="#2f6f8f", label="left out")
        above.plot(self.rows["layer"], self.rows["swapped"], color="#c07b2f", label="swapped with the next")
        above.plot(self.rows["layer"], self.rows["placebo"], color="#b9b9b9", label="noise of the same length")
        above.set(ylabel="rise of the loss, nats", yscale="symlog")
        below.plot(self.rows["layer"], self.rows["direct"], color="#2f6f8f", label="direct effect")
        below.plot(self.rows["layer"], self.rows["total"], color="#c07b2f", label="total effect")
        below.set(xlabel="layer", ylabel="logits")
        above.legend(fontsize="small")
        below.legend(fontsize="small")
        return figure


@dataclass(frozen=True, kw_only=True)
class Layers(Circuit[LayersResult]):
    """Removal of each layer, its direct against its total effect, and swaps of neighbours.

    A block is left out by handing its input on as its output. For the token w that the whole network prefers at a
    position, with c what the block wrote there and u(w) the direction of w's logit in the final stream at the scale
    it has in the whole run (logits are taken less their mean over the vocabulary):

        direct = c · u(w)     total = logit(w) - logit(w) without the block     compensation = 1 - total / direct

    Compensation above 0 says that later blocks make up for what is missing. McGrath et al. 2023, "The Hydra Effect",
    arXiv 2307.15771; Veit et al. 2016, arXiv 1605.06431, for the removal of blocks.

    Metrics: ``loss`` (of the whole network, nats a token), ``removed``, ``swapped`` (medians over layers),
    ``agreement`` (mean), ``cheap`` (layers whose removal costs at most 0.3 nats), ``compensation`` (median over
    layers with a direct effect of at least 0.1 logits). Controls: ``placebo``: the same figures where the block is not
    left out but writes noise of the same length at each position; ``nothing``: ``loss`` where every block is run by
    itself and none is left out, which must be the loss.

    Attributes:
        tokens: of each text that are read, at most.

    Raises:
        CircuitError: not a decoder; fewer than two tokens to predict.

    Example:
        >>> Layers().run(load("smollm2"), Texts.make([{"text": "It was a bright cold day in April."}])).table()
    """

    name: ClassVar[str] = "circuits.layers"
    inputs: ClassVar[str] = "Texts"

    tokens: int = 256

    @torch.no_grad()
    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> LayersResult:
        """Leave out every layer of the network, one at a time.

        Args:
            model: a decoder.
            data: :class:`tracemend.data.prompts.Texts`.
            progress: shows the layers, text by text.

        Raises:
            CircuitError: see the class.
        """
        network, frame = self.decoder(model), self.table(Texts, data).frame
        if self.tokens < 2:
            raise CircuitError(f"tokens is {self.tokens}; expected at least 2.")
        texts = [self._cut(network, text) for text in frame["text"]]
        layers, vocabulary, longest = layers_of(network), len(unembedding(network)), max(t.shape[1] for t in texts)
        heads = network.config.num_attention_heads
        self.announce(
            longest * (3 * vocabulary + layers * network.hidden_size + heads * longest),
            "read fewer tokens of each text",
        )
        count = sum(t.shape[1] - 1 for t in texts)
        if count < 2:
            raise CircuitError("the texts have fewer than two tokens to predict; give longer ones.")
        random, loss, again = generator(self.seed), 0.0, 0.0
        sums = np.zeros((layers, len(_FIGURES)))
        placebo_agreement = np.zeros(layers)
        for number, ids in enumerate(texts):
            clean = Replay(network, ids)
            whole = _Whole.of(network, clean, ids)
            loss += whole.loss
            again += whole.loss_of(clean.run(0, clean.streams[0], positions=slice(None))[0])
            for layer in progress.track(range(layers), task=f"layers, text {number + 1} of {len(texts)}"):
                figures, placebo = _without(network, clean, whole, layer, random)
                sums[layer] += figures
                placebo_agreement[layer] += placebo
        rows = pd.DataFrame(sums / count, columns=list(_FIGURES))
        rows.insert(0, "layer", range(layers))
        for name in ("removed", "placebo", "swapped"):
            rows[name] -= loss / count
        enough = rows["direct"].abs() >= _SMALL
        rows["compensation"] = np.where(enough, 1 - rows["total"] / rows["direct"].where(enough, 1.0), np.nan)
        rows.loc[layers - 1, "swapped"] = np.nan
        return LayersResult(
            metrics={
                "loss": loss / count,
                "removed": float(rows["removed"].median()),
                "agreement": float(rows["agreement"].mean()),
                "swapped": float(rows["swapped"].median()),
                "cheap": float((rows["removed"] <= 0.3).sum()),
                "compensation": float(rows["compensation"].median()),
            },
            controls={
                "placebo": {
                    "removed": float(rows["placebo"].median()),
                    "agreement": float((placebo_agreement / count).mean()),
                    "cheap": float((rows["placebo"] <= 0.3).sum()),
                },
                "nothing": {"loss": again / count},
            },
            config=self.config,
            rows=rows,
        )

    def _cut(self, model: LanguageModel, text: str) -> Tensor:
        found = model.tokenizer(text, truncation=True, max_length=min(self.tokens, model.window)).input_ids
        return ids_of(model, text) if not found else torch.tensor([found], device=model.network.device)

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Two texts on a tiny decoder."""
        texts = ["the people love this nice movie so much", "we hate that terrible film"]
        return cls(), tiny("llama"), Texts.make([{"text": text} for text in texts])


@dataclass(frozen=True, eq=False)
class _Whole:
    """The whole network on one text: next tokens [pos - 1], preferred tokens [pos - 1] and their directions."""

    following: Tensor
    preferred: Tensor
    centred: Tensor
    directions: Tensor
    loss: float

    @classmethod
    def of(cls, model: LanguageModel, clean: Replay, ids: Tensor) -> _Whole:
        logits, unembed = clean.logits[0, :-1], unembedding(model)
        preferred = logits.argmax(-1)
        frozen = FrozenNorm.at(clean.norm, clean.streams[-1][0, :-1])
        directions = frozen.direction(unembed[preferred] - unembed.mean(0))
        loss = float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        return cls(ids[0, 1:], preferred, _logit_of(logits, preferred), directions, loss)

    def loss_of(self, logits: Tensor) -> float:
        return float(torch.nn.functional.cross_entropy(logits[:-1], self.following, reduction="sum"))


def _without(
    model: LanguageModel, clean: Replay, whole: _Whole, layer: int, random: torch.Generator
) -> tuple[list[float], float]:
    """Sums over the positions of one text, in the order of ``_FIGURES``, and the placebo's agreement."""
    before, after = clean.streams[layer], clean.streams[layer + 1]
    written = after - before
    noise = torch.randn(written.shape, generator=random).to(written.device)
    noise = noise * written.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True)
    removed = clean.run(layer + 1, before, positions=slice(None))[0]
    placebo = clean.run(layer + 1, before + noise, positions=slice(None))[0]
    swapped = float("nan")
    if layer + 1 < len(clean.blocks):
        stream = clean.run_blocks(layer + 1, before, until=layer + 2)
        stream = clean.run_blocks(layer, stream, until=layer + 1)
        swapped = whole.loss_of(clean.run(layer + 2, stream, positions=slice(None))[0])
    agree = [float((logits[:-1].argmax(-1) == whole.preferred).sum()) for logits in (removed, placebo)]
    direct = float((written[0, :-1] * whole.directions).sum())
    total = float((whole.centred - _logit_of(removed[:-1], whole.preferred)).sum())
    return [whole.loss_of(removed), whole.loss_of(placebo), agree[0], direct, total, swapped], agree[1]


def _logit_of(logits: Tensor, tokens: Tensor) -> Tensor:
    """The tokens' logits less the mean over the vocabulary, [pos]."""
    return logits.gather(-1, tokens[:, None])[:, 0] - logits.mean(-1)
