"""What each head attends to, and what of it is moved: patterns beside value-weighted patterns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from tracemend.circuits.circuit import Circuit, heads_of, layers_of
from tracemend.circuits.tokens import ids_of, shown
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError
from tracemend.methods import MethodResult
from tracemend.models import LanguageModel, tiny
from tracemend.models.moved import looked_and_moved
from tracemend.models.random_weights import random_weights
from tracemend.progress import Progress

# A pattern of the view is kept in steps of 1/255.
STEPS = 255
_FIGURES = ("first", "moved_first", "previous", "itself", "entropy")


@dataclass(frozen=True, kw_only=True)
class AttentionResult(MethodResult):
    """What heads attend to, and the patterns of some texts for the view.

    The table has a row a head: ``layer``, ``head``, and means over texts and query positions of ``first``,
    ``previous``, ``itself`` (shares of the attention), ``moved_first`` (the first token's share of what is moved) and
    ``entropy`` (bits).

    Attributes:
        maps: a row a text, layer and head: ``attention`` and ``moved``, each pos x pos bytes, a row a query, 255 for
            all of it.
        tokens: a row a text and position: ``token``.
    """

    tables: ClassVar[tuple[str, ...]] = ("maps", "tokens")

    maps: pd.DataFrame = field(default_factory=pd.DataFrame)
    tokens: pd.DataFrame = field(default_factory=pd.DataFrame)

    def pattern(self, text: int, layer: int, head: int, kind: str = "attention") -> npt.NDArray[np.float64]:
        """One head's pattern on one text, [query, key]; ``kind`` is ``attention`` or ``moved``."""
        found = self.maps[(self.maps["text"] == text) & (self.maps["layer"] == layer) & (self.maps["head"] == head)]
        if kind not in ("attention", "moved") or found.empty:
            raise CircuitError(
                f"no pattern of text {text}, layer {layer}, head {head}, kind {kind!r}: kinds are attention and moved, "
                f"and {self.maps['text'].nunique()} texts were kept."
            )
        flat = np.frombuffer(found[kind].iloc[0], dtype=np.uint8)
        side = int(len(flat) ** 0.5)
        return flat.reshape(side, side) / STEPS

    def figure(self) -> Any:
        """The first token's share by layer and head, of what is attended to and of what is moved."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 5), layout="constrained")
        titles = {"first": "attention to the first token", "moved_first": "its share of what is moved"}
        for axes, (name, title) in zip(figure.subplots(2, 1, sharex=True), titles.items(), strict=True):
            grid = self.rows.pivot(index="head", columns="layer", values=name).to_numpy(dtype=float)
            figure.colorbar(axes.imshow(grid, cmap="viridis", vmin=0, vmax=1, aspect="auto"), ax=axes)
            axes.set(ylabel="head", title=title)
        axes.set(xlabel="layer")
        return figure


@dataclass(frozen=True, kw_only=True)
class Attention(Circuit[AttentionResult]):
    """Attention patterns, and the same weighted by how much of each token a head really moves.

    A head's pattern A says where it looks; from position j to i it moves A_ij v_j W_O, so that

        moved_ij = A_ij ||v_j W_O|| / Σ_k A_ik ||v_k W_O||

    is what its output at i is made of. Where a head has nothing to do it looks at the first token or at a separator,
    whose values are short: the pattern alone overstates them (Kobayashi et al. 2020, arXiv 2004.10102; Lieberum et al.
    2023, arXiv 2307.09458). What later layers make of it is not in either (``circuits.patch``).

    Metrics, means over heads, texts and query positions (of a decoder without the first, which can look at itself
    only): ``first``, ``moved_first``, ``previous``, ``itself``, ``entropy`` (bits) as in the table, ``previous_best``
    (the best head). Control: the same figures of the same network with random weights.

    Attributes:
        length: tokens at which a longer text is cut.
        shown: texts whose patterns are kept for the view.

    Raises:
        CircuitError: an encoder-decoder; ``length`` or ``shown`` out of range; the memory would go over the limit.
        ModelError: the model was loaded without attention patterns; load it with ``attention="eager"``.

    Example:
        >>> found = Attention().run(load("smollm2"), Texts.make([{"text": "the cat sat on the mat"}]))
        >>> found.pattern(0, layer=18, head=6).shape
        (6, 6)
    """

    name: ClassVar[str] = "circuits.attention"
    inputs: ClassVar[str] = "Texts"
    capabilities: ClassVar[frozenset[str]] = frozenset({"decoder", "encoder"})
    at_least: ClassVar = {"length": 2, "shown": 0}

    length: int = 64
    shown: int = 3

    @torch.no_grad()
    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> AttentionResult:
        """Read every head's pattern on every text.

        Args:
            model: a decoder or an encoder.
            data: :class:`tracemend.data.prompts.Texts`.
            progress: shows the texts that are done, of the model and of the control.

        Raises:
            CircuitError: see the class.
        """
        network, frame = self._reader(model), self.table(Texts, data).frame
        whole = [ids_of(network, text) for text in frame["text"]]
        texts = [ids[:, : self.length] for ids in whole]
        longest, heads = max(ids.shape[1] for ids in texts), heads_of(network)
        layers = layers_of(network)
        # Patterns and values of one text, and one layer's writings.
        self.announce(
            layers * (2 * heads * longest**2 + longest * network.hidden_size) + heads * longest * network.hidden_size,
            f"cut the texts shorter (length, now {self.length})",
        )
        untrained = random_weights(network, seed=self.seed)
        found, control = [], []
        maps: list[dict[str, Any]] = []
        for at, ids in enumerate(progress.track(texts, task="attention")):
            looked, moved = _patterns(network, ids)
            found.append(_scores(looked, moved, network.family))
            control.append(_scores(*_patterns(untrained, ids), network.family))
            if at < self.shown:
                maps += _kept(at, looked, moved)
        rows = _rows(np.mean(found, axis=0))
        metrics, random = _means(rows), _means(_rows(np.mean(control, axis=0)))
        tokens = [
            {"text": at, "position": position, "token": shown(network, int(token))}
            for at, ids in enumerate(texts[: self.shown])
            for position, token in enumerate(ids[0])
        ]
        return AttentionResult(
            metrics=metrics,
            controls={"random weights": random},
            config=self.config,
            rows=rows,
            maps=pd.DataFrame(maps, columns=["text", "layer", "head", "attention", "moved"]),
            tokens=pd.DataFrame(tokens, columns=["text", "position", "token"]),
            findings=_findings(metrics, random, sum(ids.shape[1] > self.length for ids in whole)),
            facts={"texts": len(texts), "layers": layers, "heads": heads},
        )

    def _reader(self, model: Any) -> LanguageModel:
        if isinstance(model, LanguageModel) and model.family == "encoder":
            return model
        if isinstance(model, LanguageModel) and model.family == "encoder-decoder":
            raise CircuitError(
                f"{self.name} is not defined for {model.name}, an encoder-decoder, which has three kinds of attention; "
                "tracemend.models.attention.read_attention reads each of them."
            )
        return self.decoder(model)

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """A random GPT-2 on two texts."""
        texts = Texts.make([{"text": "we love this movie"}, {"text": "a bad film so"}])
        return cls(length=8), tiny("gpt2", seed=1), texts


def _patterns(model: LanguageModel, ids: Tensor) -> tuple[Tensor, Tensor]:
    return looked_and_moved(model, lambda: model.network(ids))


def _scores(looked: Tensor, moved: Tensor, family: str) -> npt.NDArray[np.float64]:
    """The figures of a text, [layer, head, figure] in the order of ``_FIGURES``."""
    # A decoder's first token has nothing else to look at.
    asked = slice(1, None) if family == "decoder" and looked.shape[-1] > 1 else slice(None)
    entropy = -(looked * looked.clamp_min(1e-12).log2()).sum(-1)
    figures = (
        looked[..., 0][..., asked],
        moved[..., 0][..., asked],
        looked.diagonal(-1, -2, -1) if looked.shape[-1] > 1 else torch.zeros_like(looked[..., 0]),
        looked.diagonal(0, -2, -1)[..., asked],
        entropy[..., asked],
    )
    return np.stack([figure.mean(-1).cpu().double().numpy() for figure in figures], axis=-1)


def _rows(scores: npt.NDArray[np.float64]) -> pd.DataFrame:
    layers, heads, _ = scores.shape
    at = pd.MultiIndex.from_product([range(layers), range(heads)], names=["layer", "head"])
    return pd.DataFrame(scores.reshape(layers * heads, -1), index=at, columns=list(_FIGURES)).reset_index()


def _means(rows: pd.DataFrame) -> dict[str, float]:
    return {
        **{name: float(rows[name].mean()) for name in _FIGURES},
        "previous_best": float(rows["previous"].max()),
    }


def _kept(text: int, looked: Tensor, moved: Tensor) -> list[dict[str, Any]]:
    both = [(STEPS * of).round().to(torch.uint8).cpu().numpy() for of in (looked, moved)]
    layers, heads = looked.shape[:2]
    return [
        {"text": text, "layer": layer, "head": head, "attention": both[0][layer, head].tobytes(),
         "moved": both[1][layer, head].tobytes()}
        for layer in range(layers)
        for head in range(heads)
    ]  # fmt: skip


def _findings(metrics: dict[str, float], random: dict[str, float], cut: int) -> list[str]:
    first, moved = metrics["first"], metrics["moved_first"]
    found = ["The first token's share of what is moved is about its share of the attention."]
    if abs(first - moved) > 0.05:
        found = [
            f"{first:.0%} of the attention goes to the first token, but {'only ' if moved < first else ''}{moved:.0%} "
            "of what is moved comes from it: read the moved shares, not the patterns alone."
        ]
    if metrics["entropy"] > random["entropy"] - 0.1:
        found.append("The patterns are as even as those of random weights: the model looks nowhere in particular.")
    if cut:
        found.append(f"{cut} of the texts were cut at the limit of tokens.")
    return found
