"""Bigrams and skip-trigrams that attention and embeddings hold in their weights (Elhage et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracemend.circuits.attention_only import has_feed_forward
from tracemend.circuits.circuit import Circuit, generator, heads_of, layers_of
from tracemend.circuits.composition import has_query_norms
from tracemend.circuits.skips import END, OTHER, Ints, Skip, lift, said, scrambled, skips_of
from tracemend.circuits.token_circuits import TokenCircuits, compare, has_rotation
from tracemend.circuits.tokens import shown
from tracemend.circuits.weights import copying
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError
from tracemend.methods import MethodResult
from tracemend.models import LanguageModel, random_weights, tiny
from tracemend.progress import Progress

# Texts on which tables and model are compared, and how many tokens of each.
_COMPARED, _LENGTH = 4, 64
# A pattern of the first layer that tokens alone do not give to within this is of another kind of attention.
_GAP = 1e-3
Triple = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class NgramsResult(MethodResult):
    """Skip-trigrams, the strongest first, and the tables that they come from.

    The table has a row a skip-trigram: ``head``, ``source``, ``destination``, ``output`` (tokens), ``attention`` (of
    the destination to the source where it stands once in a text), ``logit`` (that full attention adds), ``effect``
    (their product), ``with`` and ``without`` (how often the output follows the destination in the texts with the
    source somewhere before it, and without it), ``seen`` (places with it).

    Attributes:
        bigrams: ``token``, ``seen``, ``next`` (by the table), ``next_text`` (most frequent in the texts), ``same``.
        heads: ``head``, ``copying`` (-1 to 1), ``position`` (share of the variance of the scores that is due to the
            distance), ``distance`` (the one with the highest mean score).
        distances: ``head``, ``distance``, ``score`` (mean over tokens, before the softmax).
    """

    tables: ClassVar[tuple[str, ...]] = ("bigrams", "heads", "distances")

    bigrams: pd.DataFrame
    heads: pd.DataFrame
    distances: pd.DataFrame

    def figure(self) -> Any:
        """Score by distance of each head, and its copying score."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 3.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for head, rows in self.distances.groupby("head"):
            left.plot(rows["distance"], rows["score"], label=f"head {head}")
        left.set(xlabel="distance", ylabel="mean score")
        left.legend(fontsize="small")
        right.bar(self.heads["head"], self.heads["copying"], color="#2f6f8f")
        right.axhline(0, color="#b9b9b9", linewidth=0.8)
        right.set(xlabel="head", ylabel="copying", ylim=(-1, 1))
        return figure


@dataclass(frozen=True, kw_only=True)
class Ngrams(Circuit[NgramsResult]):
    """Bigram table, QK and OV circuits, skip-trigrams, copying and distances of one layer, from the weights alone.

    With embedding W_E, unembedding W_U (gains of the norms folded in) and R the rotation of a distance:

        bigrams   W_E W_U              what a token makes likely by itself
        OV        W_E W_V W_O W_U      what attending to the row's token adds to the logit of the column's
        QK        W_E W_Q R W_Kᵀ W_Eᵀ  the score that the row's token gives to the column's, the mean over distances

    A skip-trigram "a ... b -> c" of a head is a destination b that attends to a where a raises c, both in the top
    quantile of their tables. Copying is Σ Re λ / Σ |λ| over the eigenvalues λ of OV. Tables are of the most frequent
    tokens of the texts; nothing of the size of the vocabulary squared is built. In a model of one layer of attention
    this is all there is; elsewhere it is the direct path, and ``attention_gap`` says how far the patterns are from
    it. Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".

    Metrics: ``bigram_agreement`` (share of tokens whose likeliest next one by the table is the most frequent in the
    texts) and ``bigram_correlation`` (of the table with log frequencies, both centred by row); ``copying`` (mean over
    heads) and ``copiers`` (share of heads above 0); ``position`` (mean share of the scores' variance that is due to
    the distance); ``skip_lift`` (mean difference of ``with`` and ``without`` over the strongest skip-trigrams that
    the texts hold often enough, ``skips`` of them); ``attention_gap`` (total variation distance, 0 to 1, between the
    patterns that tokens alone give and the model's own). Controls: ``untrained`` (all figures of a model with random
    weights), ``shuffled rows`` (of the bigram table), ``shuffled text`` (the same skip-trigrams where each text's
    tokens are in random order), ``other outputs`` (the same skip-trigrams, each with another's output).

    Attributes:
        layer: whose heads.
        tokens: rows and columns of the tables, at most.
        seen: occurrences that a token needs in the texts.
        reach: distances over which scores are taken: 1 to this.
        quantile: above which both parts of a skip-trigram must lie.
        strongest: skip-trigrams that are kept.

    Raises:
        CircuitError: not a decoder; no such layer; a quantile outside 0 to 1; fewer than ten tokens seen often enough;
            attention that is not a softmax of rotated queries and keys.

    Example:
        >>> texts = MarkovSource.draw().texts()
        >>> Ngrams().run(AttentionOnly(layers=1).fit(texts), texts).table().head(10)
    """

    name: ClassVar[str] = "circuits.ngrams"
    inputs: ClassVar[str] = "Texts"
    at_least: ClassVar = {"tokens": 1, "seen": 1, "reach": 1, "strongest": 1}

    layer: int = 0
    tokens: int = 512
    seen: int = 5
    reach: int = 16
    quantile: float = 0.95
    strongest: int = 20

    @torch.no_grad()
    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> NgramsResult:
        """Build the tables and compare them with the texts.

        Args:
            model: a decoder.
            data: :class:`tracemend.data.prompts.Texts`.
            progress: shows the models: the given one and the untrained.

        Raises:
            CircuitError: see the class.
        """
        network, texts = self.decoder(model), self.table(Texts, data)
        self._check(network)
        encoded = _encoded(network, [str(text) for text in texts.frame["text"]])
        tokens, counts = _frequent(network, encoded, self.tokens, self.seen)
        n, width = len(tokens), network.hidden_size
        self.announce(
            heads_of(network) * (3 * n * n + n * width) + self.reach * n * width + layers_of(network) * _LENGTH * width,
            "take fewer tokens",
        )
        rows = _as_rows(encoded, tokens)
        fresh = random_weights(network, seed=self.seed)
        own, other = (
            _Arm.of(self, each, encoded, tokens, counts, rows)
            for each in progress.track((network, fresh), task="tables")
        )
        if self.layer == 0 and has_rotation(network) and own.gap > _GAP:
            raise CircuitError(
                f"the attention of {network.name} is not a softmax of queries and keys rotated by position: patterns "
                f"from its weights are {own.gap:.3f} from its own. This method does not know its architecture."
            )
        random = generator(self.seed)
        turned = own.triples
        turned = [(a, b, turned[(i + 1 + len(turned) // 2) % len(turned)][2]) for i, (a, b, _) in enumerate(turned)]
        order = torch.randperm(n, generator=random)
        return NgramsResult(
            metrics=own.figures,
            controls={
                "untrained": other.figures,
                "shuffled rows": dict(zip(_BIGRAM, _bigram_figures(own.table[order], own.following), strict=True)),
                "shuffled text": dict(zip(_SKIP, lift(own.triples, scrambled(rows, random)), strict=True)),
                "other outputs": dict(zip(_SKIP, lift(turned, rows), strict=True)),
            },
            config=self.config,
            rows=_skip_rows(network, tokens, own.skips, said(own.triples, rows)),
            findings=self._findings(network, own),
            facts={"tokens": n, "tokens in the texts": int(sum(map(len, encoded)))},
            bigrams=_bigram_rows(network, tokens, counts, own),
            heads=own.heads,
            distances=own.distances,
        )

    def _check(self, model: LanguageModel) -> None:
        if not 0 <= self.layer < layers_of(model):
            raise CircuitError(f"layer is {self.layer}; {model.name} has layers 0 to {layers_of(model) - 1}.")
        if has_query_norms(model):
            raise CircuitError(
                f"{model.name} normalises queries and keys, so that no table of tokens says what its heads attend by; "
                "give a model without such norms."
            )
        if not 0 <= self.quantile < 1:
            raise CircuitError(f"quantile is {self.quantile}; expected 0 to below 1.")
        if self.reach >= model.window:
            raise CircuitError(f"reach is {self.reach}; expected 1 or more, and below {model.window}.")

    def _findings(self, model: LanguageModel, own: _Arm) -> list[str]:
        found = []
        if has_feed_forward(model):
            found.append(f"{model.name} has feed-forward layers: the tables are its direct path alone.")
        if self.layer:
            found.append(f"Layer {self.layer} reads more than embeddings: the tables are the direct path alone.")
        if not has_rotation(model):
            found.append(f"{model.name} does not rotate by position: scores are of tokens alone, at any distance.")
        if not own.figures["skips"]:
            found.append("The texts hold no skip-trigram of this layer often enough to say whether it is so.")
        return found

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Sentences of ten words in random order on a tiny decoder, which knows nothing of them."""
        words = ["you", "we", "love", "hate", "this", "that", "good", "bad", "film", "movie"]
        random = generator(0)
        rows = [" ".join(words[i] for i in torch.randint(len(words), (20,), generator=random)) for _ in range(40)]
        return cls(reach=4, quantile=0.5), tiny("llama", seed=1), Texts.make([{"text": row} for row in rows])


_BIGRAM = ("bigram_agreement", "bigram_correlation")
_SKIP = ("skip_lift", "skips")


@dataclass(frozen=True, eq=False)
class _Arm:
    """One model's tables, and what the texts say of them."""

    table: Tensor
    following: Tensor
    skips: Sequence[Skip]
    heads: pd.DataFrame
    distances: pd.DataFrame
    gap: float
    figures: dict[str, float]

    @property
    def triples(self) -> list[Triple]:
        return [(skip.source, skip.destination, skip.output) for skip in self.skips]

    @classmethod
    def of(
        cls, how: Ngrams, model: LanguageModel, encoded: Sequence[list[int]], tokens: Tensor, counts: Tensor, rows: Ints
    ) -> _Arm:
        device = model.network.device
        compared = sorted(encoded, key=len, reverse=True)[:_COMPARED]
        gaps = [compare(model, how.layer, torch.tensor([ids[:_LENGTH]], device=device)) for ids in compared]
        gap, scale = (float(np.mean([each[i] for each in gaps])) for i in (0, 1))
        circuits = TokenCircuits(model, how.layer, tokens.to(device), scale)
        weights = (counts / counts.sum()).to(device)
        distances = torch.arange(1, how.reach + 1, device=device)
        length = round(float(np.mean([len(ids) for ids in encoded])))
        skips = skips_of(circuits, distances, weights, max(2, length), how.quantile)[: how.strongest]
        copies = copying(model)[how.layer].tolist()
        heads, by_distance = [], []
        for head, copies_of in enumerate(copies):
            means, position = circuits.by_distance(head, distances, weights)
            best = int(means.argmax()) + 1
            heads.append({"head": head, "copying": copies_of, "position": position, "distance": best})
            by_distance += [{"head": head, "distance": i + 1, "score": s} for i, s in enumerate(means.tolist())]
        table, following = circuits.bigrams().cpu(), _following(rows, len(tokens))
        raised = lift([(s.source, s.destination, s.output) for s in skips], rows)
        figures = {
            **dict(zip(_BIGRAM, _bigram_figures(table, following), strict=True)),
            "copying": float(np.mean(copies)),
            "copiers": float(np.mean([each > 0 for each in copies])),
            "position": float(np.mean([row["position"] for row in heads])),
            **dict(zip(_SKIP, (raised[0], float(raised[1])), strict=True)),
            "attention_gap": gap,
        }
        return cls(table, following, skips, pd.DataFrame(heads), pd.DataFrame(by_distance), gap, figures)


def _encoded(model: LanguageModel, texts: Sequence[str]) -> list[list[int]]:
    return [list(ids)[: model.window] for ids in model.tokenizer(list(texts)).input_ids]


def _frequent(model: LanguageModel, encoded: Sequence[list[int]], most: int, fewest: int) -> tuple[Tensor, Tensor]:
    """The most frequent tokens that are not special, and how often they are there."""
    every = torch.tensor([token for ids in encoded for token in ids])
    counts = torch.bincount(every, minlength=max(model.tokenizer.all_special_ids, default=0) + 1)
    counts[model.tokenizer.all_special_ids] = 0
    order = counts.argsort(descending=True, stable=True)[:most]
    order = order[counts[order] >= fewest]
    if len(order) < 10:
        raise CircuitError(
            f"{len(order)} tokens stand {fewest} times or more in the texts; tables need 10. Give more texts, or "
            "lower seen."
        )
    return order, counts[order].float()


def _as_rows(encoded: Sequence[list[int]], tokens: Tensor) -> Ints:
    """The texts as rows of the tables, [texts, pos]."""
    place = {token: row for row, token in enumerate(tokens.tolist())}
    rows = np.full((len(encoded), max(3, *map(len, encoded))), END)
    for at, ids in enumerate(encoded):
        rows[at, : len(ids)] = [place.get(token, OTHER) for token in ids]
    return rows


def _following(rows: Ints, size: int) -> Tensor:
    """How often each token follows each other one, [size, size]."""
    first, second = rows[:, :-1].ravel(), rows[:, 1:].ravel()
    there = (first >= 0) & (second >= 0)
    return torch.from_numpy(np.bincount(first[there] * size + second[there], minlength=size * size)).view(size, size)


def _bigram_figures(table: Tensor, following: Tensor) -> tuple[float, float]:
    """Agreement of the likeliest next token, and correlation with log frequencies, centred by row."""
    there = following.sum(-1) > 0
    agreement = (table[there].argmax(-1) == following[there].argmax(-1)).float().mean()
    logs = (following[there].float() + 0.5).log()
    both = torch.stack([(each - each.mean(-1, keepdim=True)).flatten() for each in (table[there], logs)])
    return float(agreement), float(torch.corrcoef(both)[0, 1])


def _skip_rows(model: LanguageModel, tokens: Tensor, skips: Sequence[Skip], found: Any) -> pd.DataFrame:
    names = ("head", "source", "destination", "output", "attention", "logit", "effect", "with", "without", "seen")
    rows = [
        (skip.head, *(shown(model, int(tokens[i])) for i in (skip.source, skip.destination, skip.output)),
         skip.attention, skip.logit, skip.effect, with_it, without, int(seen))
        for skip, (with_it, without, seen) in zip(skips, found, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(names))


def _bigram_rows(model: LanguageModel, tokens: Tensor, counts: Tensor, own: _Arm) -> pd.DataFrame:
    words = [shown(model, int(token)) for token in tokens]
    by_table, by_text = own.table.argmax(-1).tolist(), own.following.argmax(-1).tolist()
    return pd.DataFrame(
        {
            "token": words,
            "seen": counts.long().tolist(),
            "next": [words[i] for i in by_table],
            "next_text": [words[i] for i in by_text],
            "same": [a == b for a, b in zip(by_table, by_text, strict=True)],
        }
    )
