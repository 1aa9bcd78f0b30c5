"""Feed-forward layers as memories: what makes a key fire, and what its value says next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracemend.circuits.activations import activations, starting, windows
from tracemend.circuits.circuit import Circuit, generator, layers_of
from tracemend.circuits.vocabulary import Vocabulary, words
from tracemend.circuits.weights import values
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError
from tracemend.methods import MethodResult
from tracemend.models import LanguageModel, capture, tiny
from tracemend.models.sites import trunk
from tracemend.progress import Progress

_BATCH = 8
_SHOWN = 10
PARTS = ("last", "first", "random")


@dataclass(frozen=True, kw_only=True)
class MemoriesResult(MethodResult):
    """One row a layer, and the examples of the sampled keys.

    Columns: ``layer``; ``kept_last``, ``kept_first``, ``kept_random`` (share of a key's coefficient that is left when
    that token of its trigger is taken out); ``agreement`` and ``agreement_shuffled`` (share of keys whose value's best
    token is the one that follows its first trigger; with values and keys paired at random); ``composed`` and
    ``composed_shuffled`` (share of positions at which what the layer says most is what no memory of it says most; with
    coefficients dealt to memories at random).

    Attributes:
        examples: one row a trigger: ``layer``, ``key``, ``rank``, ``coefficient``, ``text`` (the last tokens up to
            where the key fires), ``next`` (what follows), ``value`` (what the value says).
    """

    tables: ClassVar[tuple[str, ...]] = ("examples",)

    examples: pd.DataFrame

    def figure(self) -> Any:
        """Which part of the prefix matters, and agreement, by layer."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for part, colour in zip(PARTS, ("#2f6f8f", "#c07b2f", "#b9b9b9"), strict=True):
            left.plot(self.rows["layer"], self.rows[f"kept_{part}"], color=colour, label=f"without the {part} token")
        left.set(xlabel="layer", ylabel="coefficient left")
        left.legend(fontsize="small")
        right.plot(self.rows["layer"], self.rows["agreement"], color="#2f6f8f", label="value and next token agree")
        right.plot(self.rows["layer"], self.rows["agreement_shuffled"], color="#b9b9b9", label="values shuffled")
        right.set(xlabel="layer", ylabel="share of keys")
        right.legend(fontsize="small")
        return figure


@dataclass(frozen=True, kw_only=True)
class Memories(Circuit[MemoriesResult]):
    """Feed-forward layers as key-value memories: triggers, patterns, agreement, composition.

    A layer writes Σ m_i v_i: v_i is a row of its second matrix (rows times matrix), m_i the coefficient, what its first
    half makes of the stream (of gated layers the product of both). Over a corpus:

    - triggers of a key are the prefixes with the largest m_i;
    - kept: Σ m_i without a token of the trigger / Σ m_i with it, for the last, the first and a random other token;
    - agreement: whether the token that v_i raises most is the one that follows the first trigger;
    - composition: whether the token that the whole layer raises most is raised most by none of its memories (lowered
      most, where the coefficient is negative).

    Tokens are read in the cleaned vocabulary (:class:`tracemend.circuits.vocabulary.Vocabulary`). Geva et al. 2021,
    "Transformer Feed-Forward Layers Are Key-Value Memories", arXiv 2012.14913.

    Metrics: ``kept_lower`` and ``kept_upper`` (without the last token, mean over the lower and the upper third of the
    layers), ``agreement_lower``, ``agreement_upper``, ``composed`` (mean over layers). Controls: ``first token`` and
    ``random token`` (``kept`` without these), ``shuffled values`` (``agreement``, exactly, over all pairings),
    ``shuffled coefficients`` (``composed``).

    Attributes:
        tokens: of the corpus.
        length: of the rows that it is read in.
        stride: every how many layers are looked at.
        keys: sampled in each layer, whose triggers are shown and cut.
        triggers: kept of each sampled key.
        removals: of these, how many are cut.
        context: tokens of a trigger.
        positions: at which the composition is looked at.
        remove: principal components taken out of the vocabulary.

    Raises:
        CircuitError: not a decoder, fewer than 1,000 tokens (or than ``tokens``), more keys than a layer has.

    Example:
        >>> found = Memories(stride=3).run(load("smollm2"), Texts.read("texts.csv"))
        >>> found.examples.query("layer == 27 and rank == 1")[["key", "text", "next", "value"]]
    """

    name: ClassVar[str] = "circuits.memories"
    inputs: ClassVar[str] = "Texts"
    at_least: ClassVar = {"stride": 1, "removals": 1, "triggers": 1, "positions": 1, "tokens": 1000}

    tokens: int = 8192
    length: int = 128
    stride: int = 1
    keys: int = 10
    triggers: int = 25
    removals: int = 3
    context: int = 12
    positions: int = 64
    remove: int = 3

    @torch.no_grad()
    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> MemoriesResult:
        """Read the corpus and look at every ``stride``-th layer.

        Args:
            model: a decoder.
            data: :class:`tracemend.data.prompts.Texts`.
            progress: shows the corpus, then the layers.

        Raises:
            CircuitError: see the class.
        """
        network, texts = self.decoder(model), self.table(Texts, data).frame["text"].tolist()
        inner = len(values(network, 0))
        self._check(inner)
        layers = list(range(0, layers_of(network), self.stride))
        wide = network.config.vocab_size
        self.announce(
            _BATCH * self.length * inner * len(layers)
            + len(layers) * (self.tokens * self.keys + self.positions * inner)
            + wide * (2 * network.hidden_size + 256),
            "look at fewer layers (stride), or read shorter rows (length)",
        )
        ids = windows(network, texts, tokens=self.tokens, length=self.length)
        seen = _Seen.of(network, ids, layers, self, progress)
        vocabulary = Vocabulary.of(network, remove=self.remove)
        rows, examples = [], []
        for at, layer in enumerate(progress.track(layers, task="layers")):
            highest, lowest = vocabulary.extremes(values(network, layer))
            row: dict[str, Any] = {"layer": layer}
            row |= self._kept(network, layer, seen, at)
            following = seen.following[seen.best[at]]
            row["agreement"] = float((highest == following).float().mean())
            row["agreement_shuffled"] = _by_chance(highest, following)
            row |= _composed(network, layer, vocabulary, (highest, lowest), seen.coefficients[at], self.seed)
            rows.append(row)
            examples += self._examples(network, layer, seen, at, vocabulary)
        return self._result(pd.DataFrame(rows), pd.DataFrame(examples))

    def _check(self, inner: int) -> None:
        if not 1 <= self.keys <= inner:
            raise CircuitError(f"keys is {self.keys}; the layers have {inner} keys each, so expected 1 to {inner}.")
        if self.context < 4 or self.length < 2 * self.context:
            raise CircuitError(
                f"context is {self.context} and length {self.length}; expected a context of at least 4 tokens, and "
                "rows of at least twice that."
            )

    def _kept(self, model: LanguageModel, layer: int, seen: _Seen, at: int) -> dict[str, float]:
        """Shares of the coefficients that are left without a token of the trigger."""
        front, random = starting(model), generator(self.seed + 1)
        whole: list[list[int]] = []
        cut: dict[str, list[list[int]]] = {part: [] for part in PARTS}
        keys: list[int] = []
        for k, places in enumerate(seen.top[at].T.tolist()):
            # A trigger near the beginning of a row has too little before it.
            texts = [seen.prefix(place, self.context) for place in places]
            for text in [text for text in texts if len(text) == self.context][: self.removals]:
                keys.append(int(seen.keys[at][k]))
                other = int(torch.randint(1, len(text) - 1, (1,), generator=random))
                whole.append([*front, *text])
                for part, gone in zip(PARTS, (len(text) - 1, 0, other), strict=True):
                    cut[part].append([*front, *text[:gone], *text[gone + 1 :]])
        name = f"blocks.{layer}.mlp.hook_post"

        def coefficients(texts: list[list[int]]) -> float:
            last = activations(model, name, torch.tensor(texts))[:, -1].cpu()
            return float(last[torch.arange(len(keys)), keys].double().sum())

        full = coefficients(whole) if keys else 0.0
        if not full:
            return {f"kept_{part}": float("nan") for part in PARTS}
        return {f"kept_{part}": coefficients(texts) / full for part, texts in cut.items()}

    def _examples(
        self, model: LanguageModel, layer: int, seen: _Seen, at: int, vocabulary: Vocabulary
    ) -> list[dict[str, Any]]:
        own = values(model, layer)[seen.keys[at]]
        said = [words(model, tokens) for tokens in vocabulary.concepts(own, _SHOWN)]
        found = []
        for k, key in enumerate(seen.keys[at].tolist()):
            for rank, place in enumerate(seen.top[at][:, k].tolist(), start=1):
                found.append(
                    {
                        "layer": layer,
                        "key": key,
                        "rank": rank,
                        "coefficient": float(seen.sampled[at][place, k]),
                        "text": model.tokenizer.decode(seen.prefix(place, self.context)),
                        "next": model.tokenizer.decode([int(seen.following[place])]),
                        "value": said[k],
                    }
                )
        return found

    def _result(self, rows: pd.DataFrame, examples: pd.DataFrame) -> MemoriesResult:
        third = max(1, len(rows) // 3)
        lower, upper = rows.head(third), rows.tail(third)

        def ends(name: str, column: str) -> dict[str, float]:
            return {f"{name}_lower": float(lower[column].mean()), f"{name}_upper": float(upper[column].mean())}

        return MemoriesResult(
            metrics={
                **ends("kept", "kept_last"),
                **ends("agreement", "agreement"),
                "composed": float(rows["composed"].mean()),
            },
            controls={
                "first token": ends("kept", "kept_first"),
                "random token": ends("kept", "kept_random"),
                "shuffled values": ends("agreement", "agreement_shuffled"),
                "shuffled coefficients": {"composed": float(rows["composed_shuffled"].mean())},
            },
            config=self.config,
            rows=rows,
            examples=examples,
        )

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """A tiny decoder on rotations of one sentence."""
        said = "the movie is good and this film was sad so we hate it but they love to stop the awful toxic text"
        texts = [{"text": " ".join(np.roll(said.split(), i))} for i in range(60)]
        method = cls(tokens=1000, length=24, keys=3, triggers=4, removals=2, context=5, positions=20)
        return method, tiny("llama"), Texts.make(texts)


@dataclass(frozen=True, eq=False)
class _Seen:
    """Coefficients over the corpus, by place (all rows one after the other, without first and last of each).

    Attributes:
        keys: sampled, by layer.
        sampled: their coefficients by layer, [places, keys].
        top: places of their triggers, best first, by layer [triggers, keys].
        best: the place where each key of a layer fires most, by layer [d_mlp].
        coefficients: of all keys at some places, by layer [positions, d_mlp].
        following: the next token of each place.
    """

    ids: Tensor
    keys: Sequence[Tensor]
    sampled: Sequence[Tensor]
    top: Sequence[Tensor]
    best: Sequence[Tensor]
    coefficients: Sequence[Tensor]
    following: Tensor

    @classmethod
    def of(cls, model: LanguageModel, ids: Tensor, layers: Sequence[int], how: Memories, progress: Progress) -> _Seen:
        random, inner = generator(how.seed), len(values(model, 0))
        keys = [torch.randperm(inner, generator=random)[: how.keys].sort().values for _ in layers]
        width = ids.shape[1] - 2
        places = ids.shape[0] * width
        wanted = torch.randperm(places, generator=random)[: how.positions].sort().values
        sampled: list[list[Tensor]] = [[] for _ in layers]
        some: list[list[Tensor]] = [[] for _ in layers]
        most = [torch.full((inner,), -torch.inf) for _ in layers]
        best = [torch.zeros(inner, dtype=torch.long) for _ in layers]
        names = [f"blocks.{layer}.mlp.hook_post" for layer in layers]
        for begin in progress.track(range(0, len(ids), _BATCH), task="corpus"):
            with capture(model, names) as held:
                trunk(model)(input_ids=ids[begin : begin + _BATCH].to(model.network.device), use_cache=False)
            first = begin * width
            for at, name in enumerate(names):
                found = held.pop(name)[:, 1:-1].flatten(0, 1).float().cpu()
                sampled[at].append(found[:, keys[at]])
                here = wanted[(wanted >= first) & (wanted < first + len(found))] - first
                some[at].append(found[here])
                highest, where = found.max(0)
                better = highest > most[at]
                best[at] = torch.where(better, where + first, best[at])
                most[at] = torch.where(better, highest, most[at])
        joined = [torch.cat(parts) for parts in sampled]
        top = [part.topk(min(how.triggers, places), dim=0).indices for part in joined]
        return cls(ids, keys, joined, top, best, [torch.cat(parts) for parts in some], ids[:, 2:].flatten())

    def prefix(self, place: int, most: int) -> list[int]:
        """The last ``most`` tokens of the row up to this place, without what begins the row."""
        width = self.ids.shape[1] - 2
        row, column = place // width, place % width + 1
        # What begins a row is the same in every row: leave position 0 out.
        return [int(token) for token in self.ids[row, max(1, column + 1 - most) : column + 1]]


def _by_chance(said: Tensor, following: Tensor) -> float:
    """Expected share of agreement when values and keys are paired at random."""
    length = int(max(said.max(), following.max())) + 1
    counts = torch.bincount(said, minlength=length).double() * torch.bincount(following, minlength=length).double()
    return float(counts.sum()) / len(said) ** 2


def _composed(
    model: LanguageModel,
    layer: int,
    vocabulary: Vocabulary,
    said: tuple[Tensor, Tensor],
    coefficients: Tensor,
    seed: int,
) -> dict[str, float]:
    own, random = values(model, layer).float().cpu(), generator(seed + 2)
    dealt = coefficients[:, torch.randperm(coefficients.shape[1], generator=random)]
    found = {}
    for name, m in (("composed", coefficients), ("composed_shuffled", dealt)):
        whole = vocabulary.extremes(m @ own)[0][:, None]
        by_one = ((m > 0) & (said[0] == whole)) | ((m < 0) & (said[1] == whole))
        found[name] = float((~by_one.any(-1)).float().mean())
    return found
