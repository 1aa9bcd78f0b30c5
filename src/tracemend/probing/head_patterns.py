"""What kind of map each attention head draws: columns, diagonals, blocks, or none of these."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from tracemend.arrays import Floats, Indices
from tracemend.data import Treebank
from tracemend.errors import ProbeError
from tracemend.methods import Method
from tracemend.models import LanguageModel, tiny
from tracemend.probing.drawn_maps import KINDS, drawn
from tracemend.probing.head_maps import head_name, takes_segments, token_attention
from tracemend.probing.made_up import tiny_treebank
from tracemend.probing.result import ProbeResult
from tracemend.probing.untrained import averaged, untrained
from tracemend.progress import Progress
from tracemend.threads import one_thread

_BATCH = 8
# Below this on drawn maps that it has not seen, the classifier is not one to name heads by.
_TRUSTED = 0.9
# Times that patterns are dealt out to the heads, and how far beyond that heads must agree to have their own.
_DEALS = 100
_GAP = 0.05


@dataclass(frozen=True)
class _Pair:
    """Two sentences as token ids, where the second begins, and which sentence each token is of, where models ask."""

    ids: list[int]
    border: int
    segments: list[int] | None


@dataclass(frozen=True, kw_only=True)
class HeadPatterns(Method[ProbeResult]):
    """Which of six patterns the attention maps of each head have (after Kovaleva et al. 2019, arXiv 1908.08593).

    ``vertical`` (few columns get most), ``diagonal`` (the word itself, or the one before or behind),
    ``vertical-diagonal``, ``block`` (a sentence of a pair attends to itself), ``uniform`` and ``heterogeneous`` (peaks
    in no such order). The paper's classifier learnt from 400 maps labelled by hand; ours is a logistic regression on
    ten numbers of a map, learnt from maps that are drawn at random for each pattern, and its accuracy on drawn maps it
    has not seen is given. A head's pattern is that of most of its maps, over pairs of consecutive sentences. How many
    heads have which pattern hangs on how maps are drawn: compare shares under one classifier only.

    Metrics: the share of heads with each pattern; ``consistency``, the mean share of a head's maps that have its
    pattern; ``drawn_accuracy``. Controls:

    - ``random_weights``: the same network untrained; the mean over ``random_models`` of them;
    - ``shuffled_rows``: the same maps, every row in random order, as heavy and as sharp, without any order;
    - ``independent``: the ``consistency`` of heads without patterns of their own: the patterns of each pair of
      sentences are dealt out to the heads anew, at random, and the same share is taken; the mean over 100 times.

    Attributes:
        pairs: of consecutive sentences, at random.
        maps_drawn: drawn for each pattern; half of them to learn from.
        random_models: how many untrained networks.

    Raises:
        ProbeError: data that are no treebank, or fewer than two sentences.
        ModelError: the model was loaded without attention patterns.

    Example:
        >>> HeadPatterns().run(load("minilm"), read_conllu("ud_ewt")).metrics["vertical"]
    """

    name = "probing.head-patterns"
    inputs: ClassVar[str] = "Treebank"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder", "encoder-decoder"})
    at_least: ClassVar = {"pairs": 1, "random_models": 1, "maps_drawn": 10}

    pairs: int = 40
    maps_drawn: int = 200
    random_models: int = 2

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> ProbeResult:
        """Classify every head.

        Args:
            model: a :class:`LanguageModel`; its weights are not touched.
            data: a :class:`Treebank`; only its words are read.
        """
        began = time.perf_counter()
        pairs, classifier, certain = self._prepared(model, data)
        rng = np.random.default_rng(self.seed)
        own, shuffled = self._read(model, pairs, classifier, rng, progress)
        fresh = [
            self._read(one, pairs, classifier, rng, progress)[0]
            for one in untrained(model, self.random_models, seed=self.seed)
        ]
        arms = {"found": _figures(own), "random_weights": averaged([_figures(of) for of in fresh]),
                "shuffled_rows": _figures(shuffled)}  # fmt: skip
        dealt = np.array([_figures(rng.permuted(own, axis=0))["consistency"] for _ in range(_DEALS)])
        arms["independent"] = {"consistency": float(dealt.mean())}
        metrics = {**arms.pop("found"), "drawn_accuracy": certain}
        heads = int(model.config.num_attention_heads)
        table = pd.DataFrame(
            {"head": [head_name(k, heads) for k in range(len(own))],
             "pattern": [KINDS[k] for k in _of_heads(own)],
             **{kind: (own == k).mean(1) for k, kind in enumerate(KINDS)},
             "random_weights": [KINDS[k] for k in _of_heads(np.concatenate(fresh, axis=1))]}
        )  # fmt: skip
        return ProbeResult(
            metrics=metrics,
            controls=arms,
            config=self.config,
            rows=table,
            findings=self._findings(metrics, arms, len(own), float(np.quantile(dealt, 0.975))),
            facts={"heads": len(own), "maps": own.size, "model": model.name, "model_fingerprint": model.fingerprint,
                   "seconds": round(time.perf_counter() - began, 1)},
        )  # fmt: skip

    def named(self, model: LanguageModel, data: Treebank, *, progress: Progress = Progress()) -> list[str]:
        """The pattern of every head, layer after layer, without the controls.

        Args:
            model: loaded with patterns (``attention="eager"``).
            data: whose words are read.

        Raises:
            ProbeError: see the class.
            ModelError: see the class.
        """
        pairs, classifier, _ = self._prepared(model, data)
        own, _ = self._read(model, pairs, classifier, np.random.default_rng(self.seed), progress)
        return [KINDS[k] for k in _of_heads(own)]

    def _prepared(self, model: Any, data: Any) -> tuple[list[_Pair], Any, float]:
        """The pairs, the classifier, and its accuracy on drawn maps."""
        if not isinstance(model, LanguageModel):
            raise ProbeError(f"{self.name} takes a LanguageModel, not {type(model).__name__}; load one first.")
        if not isinstance(data, Treebank) or len(data) < 2:
            found = f"{len(data)} sentence" if isinstance(data, Treebank) else type(data).__name__
            raise ProbeError(f"{self.name} takes a Treebank of two sentences or more, not {found}; read one first.")
        if min(self.pairs, self.random_models) < 1 or self.maps_drawn < 10:
            raise ProbeError(
                f"pairs is {self.pairs}, random_models {self.random_models}, maps_drawn {self.maps_drawn}; expected at "
                "least 1, 1 and 10."
            )
        pairs = self._rows(model, data)
        classifier, certain = self._classifier([len(pair.ids) for pair in pairs], causal=model.family == "decoder")
        return pairs, classifier, certain

    def _rows(self, model: LanguageModel, data: Treebank) -> list[_Pair]:
        texts = [" ".join(words) for words in data.words]
        found: list[_Pair] = []
        for i in np.random.default_rng(self.seed).permutation(len(texts) - 1):
            first = model.tokenizer(texts[i]).input_ids
            segments = None
            if model.family == "encoder":
                both = model.tokenizer(texts[i], texts[i + 1])
                row, border = both.input_ids, len(first)
                # A model of pairs has learnt what is the second sentence by these.
                segments = both.get("token_type_ids") if takes_segments(model) else None
            else:
                row = model.tokenizer(f"{texts[i]} {texts[i + 1]}").input_ids
                bare = model.tokenizer(texts[i], add_special_tokens=False).input_ids
                # Some tokenizers put a token before the text, some one behind it, some neither.
                before = next((k for k in range(len(first)) if first[k : k + len(bare)] == bare), 0)
                border = before + len(bare)
            if 8 <= len(row) <= min(model.window, 96) and 2 < border < len(row) - 2:
                found.append(_Pair(row, border, segments))
            if len(found) == self.pairs:
                break
        if not found:
            raise ProbeError(f"{data.name} has no two consecutive sentences of 8 to 96 tokens; give other data.")
        return found

    def _classifier(self, lengths: Sequence[int], *, causal: bool) -> tuple[Any, float]:
        """Learnt from drawn maps as long as the model's, and its accuracy on others."""
        rng = np.random.default_rng(self.seed)
        x, y = [], []
        for kind in range(len(KINDS)):
            for _ in range(self.maps_drawn):
                length = int(rng.choice(lengths))
                border = int(rng.integers(length // 4 + 1, length - length // 4))
                pattern = drawn(KINDS[kind], length, border, rng, causal=causal)
                x.append(features(torch.from_numpy(pattern)[None], border, causal=causal)[0])
                y.append(kind)
        known = np.arange(len(y)) % 2 == 0
        classifier: Any = make_pipeline(StandardScaler(), LogisticRegression(C=10, max_iter=2000))
        with one_thread():
            classifier.fit(np.array(x)[known], np.array(y)[known])
        return classifier, float(classifier.score(np.array(x)[~known], np.array(y)[~known]))

    def _read(
        self,
        model: LanguageModel,
        pairs: list[_Pair],
        classifier: Any,
        rng: np.random.Generator,
        progress: Progress,
    ) -> tuple[Indices, Indices]:
        """The pattern of every map, as it is and with its rows in random order [heads, maps]."""
        causal = model.family == "decoder"
        own, shuffled = [], []
        order = np.argsort([len(pair.ids) for pair in pairs], kind="stable")
        for begin in progress.track(range(0, len(order), _BATCH), task=f"attention of {model.name}"):
            batch = [pairs[i] for i in order[begin : begin + _BATCH].tolist()]
            segments = [pair.segments for pair in batch if pair.segments is not None]
            seen = token_attention(model, [pair.ids for pair in batch], segments or None)
            for pair, maps in zip(batch, seen, strict=True):
                own.append(classifier.predict(features(maps, pair.border, causal=causal)))
                mixed = _mixed(maps, rng, causal=causal)
                shuffled.append(classifier.predict(features(mixed, pair.border, causal=causal)))
        return np.stack(own, axis=1), np.stack(shuffled, axis=1)

    def _findings(
        self, metrics: dict[str, float], arms: dict[str, dict[str, float]], heads: int, by_luck: float
    ) -> list[str]:
        shares = ", ".join(f"{kind} {metrics[kind]:.2f}" for kind in KINDS if metrics[kind] > 0)
        fresh = ", ".join(f"{kind} {arms['random_weights'][kind]:.2f}" for kind in KINDS
                          if arms["random_weights"][kind] > 0)  # fmt: skip
        said = [f"Of {heads} heads: {shares}.", f"Of the same heads with random weights: {fresh}."]
        chance = arms["independent"]["consistency"]
        shown = metrics["consistency"] > max(by_luck, chance + _GAP)
        said.append(
            f"A head's maps agree on its pattern in {metrics['consistency']:.2f} of the texts; heads without a pattern "
            f"of their own would in {chance:.2f} (at most {by_luck:.2f} in 39 of 40 draws)."
            + ("" if shown else " The patterns are hardly the heads' own.")
        )
        if metrics["drawn_accuracy"] < _TRUSTED:
            said.append(
                f"The classifier is right on only {metrics['drawn_accuracy']:.2f} of drawn maps: distrust the names."
            )
        return said

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Ten pairs of sentences of a made-up grammar, and a tiny encoder."""
        return cls(pairs=10, maps_drawn=40), tiny("bert"), tiny_treebank()


def features(maps: Tensor, border: int, *, causal: bool) -> Floats:
    """Ten numbers of each map [heads, 10], those of attention that spreads evenly taken off.

    Means of the diagonals at -1, 0 and +1; the means of the two heaviest columns, and of the heaviest without the three
    diagonals; the mean entropy of a row over that of an even one; what a row gives to its own side of the border
    between two sentences; the standard deviation, from row to row, of where its peak lies; and the mean peak.

    Args:
        maps: [heads, t, t], rows of sum 1 or less.
        border: where the second sentence begins.
        causal: whether a row can only see what stands before it.
    """
    attention = maps.double().numpy()
    t = attention.shape[-1]
    reach = np.tril(np.ones((t, t))) if causal else np.ones((t, t))
    even = reach / reach.sum(1, keepdims=True)
    rest = attention - even
    diagonals = [np.diagonal(rest, k, 1, 2).mean(1) for k in (-1, 0, 1)]
    # A column of a causal map is as long as there are rows below it; short ones at the end are all noise.
    seen = np.maximum(reach.sum(0), t / 3)
    columns = np.sort(rest.sum(1) / seen, axis=1)
    far = np.abs(np.arange(t)[:, None] - np.arange(t)[None]) > 1
    apart = np.sort((rest * far).sum(1) / seen, axis=1)
    long = np.arange(t) > 1
    entropy = -(attention * np.log(np.maximum(attention, 1e-12))).sum(2)[:, long]
    flat = entropy / np.log(reach.sum(1)[long])
    side = np.arange(t) < border
    own = (rest * (side[:, None] == side[None])).sum(2)
    # In a causal map the first sentence sees nothing but itself.
    own = own[:, ~side].mean(1) if causal else own.mean(1)
    peak = attention.argmax(2)[:, long]
    return np.stack(
        [*diagonals, columns[:, -1], columns[:, -2], apart[:, -1], flat.mean(1), own,
         np.log1p(peak.std(1)), attention.max(2)[:, long].mean(1)], axis=1,
    )  # fmt: skip


def _mixed(maps: Tensor, rng: np.random.Generator, *, causal: bool) -> Tensor:
    """Every row of every map in an order of its own; of a causal map, what it can see."""
    found = maps.clone()
    for row in range(maps.shape[-1]):
        reach = row + 1 if causal else maps.shape[-1]
        order = rng.permuted(np.tile(np.arange(reach), (len(maps), 1)), axis=1)
        found[:, row, :reach] = maps[:, row, :reach].gather(1, torch.from_numpy(order))
    return found


def _of_heads(kinds: Indices) -> Indices:
    """The most frequent kind of each head's maps; of equally frequent ones the first."""
    return np.array([np.bincount(row, minlength=len(KINDS)).argmax() for row in kinds], dtype=np.int64)


def _figures(kinds: Indices) -> dict[str, float]:
    most = _of_heads(kinds)
    shares = {kind: float((most == k).mean()) for k, kind in enumerate(KINDS)}
    return {**shares, "consistency": float((kinds == most[:, None]).mean())}
