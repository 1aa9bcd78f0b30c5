"""Attention traced from the output to the words, and whether those words are the ones the output hangs on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor

from tracemend.arrays import Floats, Indices
from tracemend.data import Treebank
from tracemend.errors import ProbeError
from tracemend.evaluate import mean_interval
from tracemend.methods import Method
from tracemend.models import LanguageModel, align, tiny
from tracemend.models.attention import back_trace, flow, read_attention, rollout
from tracemend.models.representations import padded, states
from tracemend.probing.head_maps import called
from tracemend.probing.made_up import tiny_treebank
from tracemend.probing.result import ProbeResult, compared
from tracemend.probing.untrained import averaged, untrained
from tracemend.progress import Progress

TRACES = ("last_layer", "rollout", "flow", "back_trace")
# Rules that need no model; tokens matters since a mean over tokens hangs on words of many of them by itself.
_RULES = ("tokens", "position")
_SHORTEST, _LONGEST = 4, 40
_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class TraceResult(ProbeResult):
    """A row a sentence and word: its weights, and how far the output moves without it (``effect``)."""

    def table(self) -> pd.DataFrame:
        """Figures by trace and control."""
        arms = {arm: figures for arm, figures in self.controls.items() if isinstance(figures, dict)}
        own = {trace: {"faithfulness": self.metrics[f"{trace}"], "deleted": self.metrics[f"{trace}_deleted"]}
               for trace in TRACES}  # fmt: skip
        rows = [{"arm": "found", "trace": trace, **figures} for trace, figures in own.items()]
        for arm, figures in arms.items():
            rows += [{"arm": arm, "trace": trace, "faithfulness": figures.get(trace),
                      "deleted": figures.get(f"{trace}_deleted")} for trace in TRACES]  # fmt: skip
        return pd.DataFrame(rows)

    def figure(self) -> Any:
        """Faithfulness of each trace beside its controls."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 3.5), layout="constrained")
        axes = figure.subplots()
        table = self.table().pivot(index="trace", columns="arm", values="faithfulness").loc[list(TRACES)]
        order = ["found", *[arm for arm in table.columns if arm != "found"]]
        colours: Any = ["#2f6f8f", "#b9b9b9", "#b07d2b", "#7d4f9e", "#8a8a8a", "#c9c9c9"]
        table[order].astype(float).plot.bar(ax=axes, color=colours[: len(order)], rot=0, legend=False)
        axes.axhline(0, color="black", lw=0.5)
        axes.set(ylabel="rank correlation with the effect of deletion", xlabel="")
        figure.legend(fontsize="small", loc="outside upper right", ncols=3)
        return figure


@dataclass(frozen=True, kw_only=True)
class AttentionTrace(Method[TraceResult]):
    """Whether attention, traced back to the words, names those that the model's output hangs on.

    Four weights of a word: ``last_layer``, the attention of the output's position in the last layer; ``rollout`` and
    ``flow`` (both Abnar and Zuidema 2020, arXiv 2005.00928) and ``back_trace`` (Wu, Nguyen and Ong 2020,
    arXiv 2010.04922), carried down through all layers, the first two with the residual stream, see
    :mod:`tracemend.models.attention`. The output is the mean vector of the sentence (encoders; start: all positions
    alike) or the distribution of the next token (decoders; start: the last position). Each word is deleted in turn
    (masked where there is a mask token, else taken out); how far the output moves is its effect: 1 - cosine, or the
    divergence KL(whole || without) in nats.

    Metrics, for each trace: its name, the faithfulness: Spearman's correlation of weights and effects within a
    sentence, mean over sentences; ``..._deleted``, how far the output moves without the ``share`` of the words that
    weigh most. Controls in the same units: ``random_order``, the words in random order; ``random_weights``, the same
    network untrained, traced and deleted from, the mean over ``random_models`` of them; ``tokens`` and ``position``,
    the same figures for a word's number of tokens and for its place in the sentence, which know nothing of the model.

    Attributes:
        sentences: at most, at random, of 4 to 40 words.
        share: of the words that are deleted together.
        random_models: how many untrained networks.

    Raises:
        ProbeError: data that are no treebank, no sentence of that length, or an encoder-decoder.
        ModelError: the model was loaded without attention patterns.

    Example:
        >>> found = AttentionTrace().run(load("minilm"), read_conllu("ud_ewt"))
        >>> found.metrics["rollout"]
        0.301
    """

    name = "probing.attention-trace"
    inputs: ClassVar[str] = "Treebank"
    capabilities: ClassVar[frozenset[str]] = frozenset({"encoder", "decoder"})
    at_least: ClassVar = {"sentences": 1, "random_models": 1}

    sentences: int = 100
    share: float = 0.2
    random_models: int = 2

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> TraceResult:
        """Trace and delete.

        Args:
            model: a :class:`LanguageModel`; its weights are not touched.
            data: a :class:`Treebank`; only its words are read.
        """
        began = time.perf_counter()
        if not isinstance(model, LanguageModel) or model.family == "encoder-decoder":
            found = model.name if isinstance(model, LanguageModel) else type(model).__name__
            raise ProbeError(f"{self.name} takes an encoder or a decoder, not {found}; load one first.")
        chosen = self._chosen(data)
        own = self._traced(model, chosen, progress)
        fresh = [self._traced(one, chosen, progress) for one in untrained(model, self.random_models, seed=self.seed)]
        rules = {rule: np.stack([own.faithful[rule], own.deleted[rule]]) for rule in (*_RULES, "random_order")}
        metrics = own.figures(TRACES)
        arms: dict[str, dict[str, float]] = {"random_weights": averaged([one.figures(TRACES) for one in fresh])}
        for rule, (faithful, deleted) in rules.items():
            arms[rule] = {trace: float(faithful.mean()) for trace in TRACES}
            arms[rule] |= {f"{trace}_deleted": float(deleted.mean()) for trace in TRACES}
        return TraceResult(
            metrics=metrics,
            controls=arms,
            config=self.config,
            rows=own.rows,
            findings=self._findings(own, fresh),
            facts={"sentences": len(chosen), "words": len(own.rows), "model": model.name,
                   "model_fingerprint": model.fingerprint, "seconds": round(time.perf_counter() - began, 1)},
        )  # fmt: skip

    def _chosen(self, data: Any) -> list[tuple[str, ...]]:
        if not isinstance(data, Treebank):
            raise ProbeError(f"{self.name} takes a Treebank, not {type(data).__name__}; read one with read_treebank.")
        if not 0 < self.share < 1:
            raise ProbeError(f"share is {self.share}; it is of a sentence's words, above 0 and below 1.")
        fit = [words for words in data.words if _SHORTEST <= len(words) <= _LONGEST]
        if not fit:
            raise ProbeError(f"{data.name} has no sentence of {_SHORTEST} to {_LONGEST} words; give other data.")
        return [fit[i] for i in sorted(np.random.default_rng(self.seed).permutation(len(fit))[: self.sentences])]

    def _traced(self, model: LanguageModel, chosen: Sequence[tuple[str, ...]], progress: Progress) -> _Traced:
        aligned = align(model, chosen)
        rng = np.random.default_rng(self.seed)
        faithful: dict[str, list[float]] = {}
        deleted: dict[str, list[float]] = {}
        rows = []
        for i in progress.track(range(len(chosen)), task=f"trace {model.name}"):
            ids, unit, words = aligned.ids[i], aligned.unit[i], len(chosen[i])
            weights = _weights(model, ids, unit, words)
            weights["random_order"] = rng.permutation(words).astype(np.float64)
            most = max(1, round(self.share * words))
            groups = [[k] for k in range(words)]
            groups += [np.argsort(-of, kind="stable")[:most].tolist() for of in weights.values()]
            moved = _moved(model, [ids, *(_without(model, ids, unit, group) for group in groups)])
            effects, together = moved[:words], moved[words:]
            for (name, of), effect in zip(weights.items(), together, strict=True):
                faithful.setdefault(name, []).append(_correlation(of, effects))
                deleted.setdefault(name, []).append(float(effect))
            traced = {trace: weights[trace] for trace in TRACES}
            rows.append(pd.DataFrame({"sentence": i, "word": list(chosen[i]), **traced, "effect": effects}))
        return _Traced(
            pd.concat(rows, ignore_index=True),
            {name: np.array(values) for name, values in faithful.items()},
            {name: np.array(values) for name, values in deleted.items()},
        )

    def _findings(self, own: _Traced, fresh: list[_Traced]) -> list[str]:
        said = []
        for trace in TRACES:
            name = trace.replace("_", " ")
            values = own.faithful[trace]
            low, high = mean_interval(values, seed=self.seed)
            said.append(
                f"{name}: weights and effects of deletion correlate by {values.mean():.3f} ({low:.3f} to {high:.3f})."
            )
            others = {"the number of tokens of a word": own.faithful["tokens"],
                      "random weights": np.mean([one.faithful[trace] for one in fresh], axis=0)}  # fmt: skip
            for control, of in others.items():
                gap = values - of
                low, high = mean_interval(gap, seed=self.seed)
                said.append(compared(name, control, float(gap.mean()), float(low), float(high)))
        return said

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Eight sentences of a made-up grammar, and a tiny encoder."""
        return cls(sentences=8), tiny("bert"), tiny_treebank()


@dataclass(frozen=True, eq=False)
class _Traced:
    """Weights and effects of words, and of each sentence and trace what is said of them."""

    rows: pd.DataFrame
    faithful: dict[str, Floats]
    deleted: dict[str, Floats]

    def figures(self, names: Sequence[str]) -> dict[str, float]:
        found = {name: float(self.faithful[name].mean()) for name in names}
        return found | {f"{name}_deleted": float(self.deleted[name].mean()) for name in names}


def _weights(model: LanguageModel, row: Sequence[int], unit: Indices, words: int) -> dict[str, Floats]:
    """Of every word of a sentence [words], by trace and rule."""
    ids, mask = padded(model, [row])
    with torch.no_grad():
        layers = read_attention(model, called(model, ids, mask)).layers
    start = torch.zeros(1, len(row), device=ids.device)
    if model.family == "decoder":
        start[0, -1] = 1
    else:
        start[:] = 1 / len(row)
    traced = {"last_layer": back_trace(layers[-1:], start), "rollout": rollout(layers, start),
              "flow": flow(layers, start), "back_trace": back_trace(layers, start)}  # fmt: skip
    inside = unit >= 0
    found: dict[str, Floats] = {}
    for name, of in traced.items():
        tokens = of[0].double().cpu().numpy()
        found[name] = np.bincount(unit[inside], weights=tokens[inside], minlength=words).astype(np.float64)
    found["tokens"] = np.bincount(unit[inside], minlength=words).astype(np.float64)
    found["position"] = np.arange(words, dtype=np.float64)
    return found


def _without(model: LanguageModel, ids: Sequence[int], unit: Indices, words: Sequence[int]) -> list[int]:
    """The tokens without those of these words."""
    mask = model.tokenizer.mask_token_id
    gone = np.isin(unit, words)
    if mask is not None:
        return [int(mask) if out else int(token) for token, out in zip(ids, gone, strict=True)]
    return [int(token) for token, out in zip(ids, gone, strict=True) if not out] or [int(model.tokenizer.pad_token_id)]


def _moved(model: LanguageModel, rows: Sequence[Sequence[int]]) -> Floats:
    """How far the output of each row of tokens but the first is from that of the first."""
    outputs = []
    for begin in range(0, len(rows), _BATCH):
        with torch.inference_mode():
            outputs.append(_outputs(model, *padded(model, rows[begin : begin + _BATCH])))
    whole, others = torch.cat(outputs).split([1, len(rows) - 1])
    if model.family == "decoder":
        effect = (whole.exp() * (whole - others)).sum(-1)
    else:
        effect = 1 - torch.nn.functional.cosine_similarity(whole, others)
    found: Floats = effect.double().numpy()
    return found


def _outputs(model: LanguageModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Mean vectors of the last layer [b, d], or log-probabilities of the next token [b, vocabulary]."""
    if model.family == "decoder":
        logits = model.network(input_ids=ids, attention_mask=mask).logits
        last = logits[torch.arange(len(ids), device=ids.device), mask.sum(1) - 1]
        said: Tensor = last.float().log_softmax(-1).cpu()
        return said
    layer = int(model.config.num_hidden_layers)
    hidden = states(model, ids, mask, [layer])[layer].float()
    found: Tensor = ((hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)).cpu()
    return found


def _correlation(weights: Floats, effects: Floats) -> float:
    """Spearman's; 0 where all are equal, which says nothing of any order."""
    if np.ptp(weights) == 0 or np.ptp(effects) == 0:
        return 0.0
    return float(spearmanr(weights, effects).statistic)
