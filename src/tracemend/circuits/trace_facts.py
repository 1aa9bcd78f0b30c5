"""Causal tracing: at which token and in which layer a fact is looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracemend.circuits.circuit import Circuit, generator, layers_of, rows_of
from tracemend.circuits.tokens import following, ids_of, shown, span_of, token_of
from tracemend.data.prompts import Facts
from tracemend.errors import CircuitError, did_you_mean
from tracemend.methods import MethodResult, read_table
from tracemend.models import LanguageModel, Replay, capture, edit, tiny
from tracemend.models.tokens import tokens_behind
from tracemend.progress import Progress
from tracemend.runs import write_parquet

_FILE = "facts.parquet"
KINDS = ("state", "mlp", "attention")
PLACES = ("subject first", "subject middle", "subject last", "further", "last", "outside")
# Of probabilities that should be the same, computed one by one and in a batch.
_ROUNDING = 1e-5
_SITES = {"mlp": "hook_mlp_out", "attention": "hook_attn_out"}


@dataclass(frozen=True, kw_only=True)
class TraceFactsResult(MethodResult):
    """Indirect effects by what was restored, layer and class of positions.

    The table has a row each: ``kind`` (state, mlp, attention), ``layer``, ``place``, ``effect`` (mean over the facts
    that have such a token, in probability), ``spread`` (standard deviation over them), ``facts``.

    Attributes:
        each: one row a fact: ``prompt``, ``subject``, ``answer``, ``tokens`` (of the answer), ``token`` (its first,
            whose probability is taken), ``p`` (clean), ``rank`` (1: the most likely token), ``p_corrupted``,
            ``traced``, ``reason`` (why not).
    """

    each: pd.DataFrame

    def save(self, directory: Path | str) -> Path:
        """Write the result, and the facts beside it as ``facts.parquet``."""
        path = super().save(directory)
        write_parquet(path / _FILE, self.each)
        return path

    @classmethod
    def _read(cls, path: Path) -> dict[str, Any]:
        return {**super()._read(path), "each": read_table(path / _FILE)}

    def figure(self) -> Any:
        """Effect by layer, a line for each class of positions, a panel for each kind."""
        from matplotlib.figure import Figure

        kinds = [kind for kind in KINDS if (self.rows["kind"] == kind).any()]
        figure = Figure(figsize=(4.2 * len(kinds), 3.6), layout="constrained")
        for axes, kind in zip(np.atleast_1d(figure.subplots(1, len(kinds), sharey=True)), kinds, strict=True):
            rows = self.rows[self.rows["kind"] == kind]
            for place in PLACES:
                line = rows[rows["place"] == place].sort_values("layer")
                if len(line):
                    style = {"color": "#b9b9b9", "linestyle": "--"} if place == "outside" else {}
                    axes.plot(line["layer"], line["effect"], label=place, **style)
            axes.set(xlabel="layer", ylabel="restored probability", title=kind)
        axes.legend(fontsize="x-small")
        return figure


@dataclass(frozen=True, kw_only=True)
class TraceFacts(Circuit[TraceFactsResult]):
    """Causal tracing of facts: which restored state brings the answer back.

    The embeddings of the subject's tokens get normal noise of ``noise`` times the standard deviation of all subjects'
    embeddings, so that the answer's probability falls from p to p*. Then, with the noise still there, the stream after
    a block is restored to its clean value at one token; the indirect effect is p(restored) - p*, the mean over
    ``draws`` draws of noise. ``mlp`` and ``attention`` restore what these write, at one token in a window of layers
    around the one named. Meng et al. 2022, "Locating and Editing Factual Associations in GPT", arXiv 2202.05262.

    Metrics: ``p_clean`` and ``p_corrupted`` (means), ``facts`` (traced), ``subject_last_KIND`` and ``last_KIND`` (the
    largest effect over layers at the last subject token and at the last token), ``subject_last_layer`` (where, of the
    state). Controls: ``outside`` (the same restoring in the same layers at a token in the middle between subject and
    end, where the prompts have one), ``no noise`` (the largest effect of all, which must be 0).

    Attributes:
        kinds: which of state, mlp, attention are restored.
        window: layers of a window (mlp, attention); fewer near both ends of the model.
        stride: every how many layers are looked at.
        noise: in standard deviations.
        draws: of noise.
        floor: the least p of a fact that is traced. What the model does not know cannot be found in it.
        most: facts that are traced at most, the first ones that it knows.

    Raises:
        CircuitError: not a decoder; no fact that the model knows (p and rank are shown) and that noise takes away;
            a subject that is not in its prompt.

    Example:
        >>> facts = Facts.make([{"prompt": "The capital of France is", "subject": "France", "answer": "Paris"}])
        >>> TraceFacts(stride=3).run(load("smollm2"), facts).figure()
    """

    name: ClassVar[str] = "circuits.trace-facts"
    inputs: ClassVar[str] = "Facts"
    at_least: ClassVar = {"window": 1, "stride": 1, "draws": 1, "most": 1}

    kinds: tuple[str, ...] = KINDS
    window: int = 10
    stride: int = 1
    noise: float = 3.0
    draws: int = 10
    floor: float = 0.3
    most: int = 10

    @torch.no_grad()
    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> TraceFactsResult:
        """Trace the facts that the model knows.

        Args:
            model: a decoder.
            data: :class:`tracemend.data.prompts.Facts`.
            progress: shows the facts that are asked, then those that are traced.

        Raises:
            CircuitError: see the class.
        """
        network, facts = self.decoder(model), rows_of(self.table(Facts, data))
        self._check()
        spans = [span_of(network, fact["prompt"], fact["subject"]) for fact in facts]
        longest = max(ids_of(network, fact["prompt"]).shape[1] for fact in facts)
        width = network.hidden_size
        self.announce(
            longest * layers_of(network) * (4 + self.draws * 2) * width + self.draws * network.config.vocab_size,
            "give shorter prompts or take fewer draws",
        )
        asked, known = self._ask(network, facts, progress)
        scale = self.noise * _spread_of(network, facts, spans)
        effects: dict[tuple[str, int, str], list[float]] = {}
        random = generator(self.seed)
        for at in progress.track(known, task="trace"):
            one = _Fact.of(network, facts[at], spans[at], scale, self.draws, random)
            asked[at]["p_corrupted"] = one.p_corrupted
            if not one.p_corrupted < asked[at]["p"] - _ROUNDING:
                asked[at] |= {"traced": False, "reason": "noise on the subject does not lower p"}
                continue
            for key, effect in self._effects(network, one).items():
                effects.setdefault(key, []).append(effect)
        if not effects:
            raise CircuitError(
                f"noise of {self.noise:g} standard deviations on the subject does not lower p of any of the "
                f"{len(known)} facts; raise noise, or give facts that hang on their subject."
            )
        rows = pd.DataFrame(
            [(*key, float(np.mean(v)), float(np.std(v)), len(v)) for key, v in effects.items()],
            columns=["kind", "layer", "place", "effect", "spread", "facts"],
        )
        first = next(at for at in known if asked[at]["traced"])
        # With no noise there is nothing to restore: whatever the effect then is, it is an error of the method.
        silent = _Fact.of(network, facts[first], spans[first], 0.0, self.draws, generator(self.seed))
        still = max(abs(effect) for effect in self._effects(network, silent).values())
        return self._result(rows, pd.DataFrame(asked), still)

    def _check(self) -> None:
        wrong = [kind for kind in self.kinds if kind not in KINDS]
        if wrong or not self.kinds:
            raise CircuitError(f"kinds has {wrong[:1]}, which is {did_you_mean(str(wrong[0]) if wrong else '', KINDS)}")
        if not 0 <= self.noise < float("inf"):
            raise CircuitError(f"noise is {self.noise}; expected a number of standard deviations, 0 or more.")

    def _ask(
        self, model: LanguageModel, facts: Sequence[Mapping[str, str]], progress: Progress
    ) -> tuple[list[dict[str, Any]], list[int]]:
        """What the model says of each fact, and which are known, at most ``most``."""
        rows: list[dict[str, Any]] = []
        known: list[int] = []
        for at, row in enumerate(progress.track(facts, task="ask")):
            if len(known) == self.most:
                break
            tokens = tokens_behind(model, row["prompt"], following(row["answer"]))
            answer = tokens[0]
            logits = model.network(ids_of(model, row["prompt"]), logits_to_keep=1, use_cache=False).logits[0, -1]
            p, rank = float(logits.softmax(-1)[answer]), 1 + int((logits > logits[answer]).sum())
            is_known = p >= self.floor
            reason = "" if is_known else f"not known: p {p:.3f} below {self.floor:g}, rank {rank}"
            rows.append(
                {
                    **{name: row[name] for name in Facts.columns},
                    "tokens": len(tokens),
                    "token": shown(model, answer),
                    "p": p,
                    "rank": rank,
                    "p_corrupted": float("nan"),
                    "traced": is_known,
                    "reason": reason,
                }
            )
            if is_known:
                known.append(at)
        if not known:
            best = max(rows, key=lambda one: float(one["p"]))
            raise CircuitError(
                f"{model.name} knows none of the {len(rows)} facts: the best is {best['prompt']!r} -> "
                f"{best['answer']!r} with p {best['p']:.3f} and rank {best['rank']}; expected at least "
                f"{self.floor:g}. What it does not know cannot be traced; give other facts or lower the floor."
            )
        return rows, known

    def _effects(self, model: LanguageModel, one: _Fact) -> dict[tuple[str, int, str], float]:
        layers = layers_of(model)
        found: dict[tuple[str, int, str], list[float]] = {}
        for kind in self.kinds:
            for layer in range(0, layers, self.stride):
                for place, positions in one.places.items():
                    for position in positions:
                        p = one.restored(model, kind, layer, position, self.window)
                        found.setdefault((kind, layer, place), []).append(p - one.p_corrupted)
        return {key: float(np.mean(values)) for key, values in found.items()}

    def _result(self, rows: pd.DataFrame, asked: pd.DataFrame, still: float) -> TraceFactsResult:
        traced = asked[asked["traced"]]
        metrics = {
            "p_clean": float(traced["p"].mean()),
            "p_corrupted": float(traced["p_corrupted"].mean()),
            "facts": float(len(traced)),
        }
        outside: dict[str, float] = {}
        for kind in self.kinds:
            own = rows[rows["kind"] == kind].pivot(index="layer", columns="place", values="effect")
            for name, place in (("subject_last", "subject last"), ("last", "last")):
                at = int(own[place].to_numpy().argmax())
                metrics[f"{name}_{kind}"] = float(own[place].max())
                if "outside" in own:
                    # The largest as well: the layer was chosen by the figure that it is beside.
                    outside[f"{name}_{kind}"] = float(own["outside"].max())
                if (name, kind) == ("subject_last", "state"):
                    metrics["subject_last_layer"] = float(own.index.to_numpy()[at])
        still_named = {name: still for name in metrics if name.startswith(("subject_last_", "last_"))}
        still_named.pop("subject_last_layer", None)
        controls = {"no noise": still_named} | ({"outside": outside} if outside else {})
        return TraceFactsResult(
            metrics=metrics, controls=controls, config=self.config, rows=rows, each=asked, findings=_findings(traced)
        )

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Two facts on a tiny decoder, which knows nothing, so that any p will do."""
        rows = [
            {"prompt": "the nice people love", "subject": "nice people", "answer": "film"},
            {"prompt": "the terrible movie is so", "subject": "terrible movie", "answer": "bad"},
        ]
        return cls(floor=0.0, draws=3, window=2), tiny("llama"), Facts.make(rows)


@dataclass(frozen=True, eq=False)
class _Fact:
    """A fact with its clean run and its noised ones: streams before each block, [draws, pos, d_model]."""

    clean: Replay
    kept: Mapping[str, Tensor]
    noised: Sequence[Tensor]
    answer: int
    p_corrupted: float
    places: Mapping[str, Sequence[int]]

    @classmethod
    def of(
        cls,
        model: LanguageModel,
        row: Mapping[str, str],
        span: Sequence[int],
        scale: float,
        draws: int,
        random: torch.Generator,
    ) -> _Fact:
        ids = ids_of(model, row["prompt"])
        answer = token_of(model, row["prompt"], row["answer"], first=True)
        names = [f"blocks.{i}.{name}" for i in range(layers_of(model)) for name in _SITES.values()]
        with capture(model, names) as kept:
            clean = Replay(model, ids)
        stream = clean.streams[0].repeat(draws, 1, 1)
        noise = torch.randn((draws, len(span), stream.shape[2]), generator=random).to(stream.device)
        stream[:, list(span)] += scale * noise
        noised = [stream]
        for layer in range(layers_of(model)):
            noised.append(clean.run_blocks(layer, noised[-1], until=layer + 1))
        last = ids.shape[1] - 1
        inside = set(span)
        places = {
            "subject first": span[:1] if len(span) > 1 else [],
            "subject middle": span[1:-1],
            "subject last": span[-1:],
            "further": [i for i in range(span[-1] + 1, last) if i not in inside][:1],
            "last": [last],
            "outside": _outside(span, last),
        }
        p = float(clean.logits_of(noised[-1]).softmax(-1)[:, answer].mean())
        return cls(clean, dict(kept), noised, answer, p, {k: list(v) for k, v in places.items() if v})

    def restored(self, model: LanguageModel, kind: str, layer: int, position: int, window: int) -> float:
        """p of the answer with the state after block ``layer``, or a window of outputs, restored at one token."""
        if kind == "state":
            stream = self.noised[layer + 1].clone()
            stream[:, position] = self.clean.streams[layer + 1][0, position]
            logits = self.clean.run(layer + 1, stream)
        else:
            those = window_around(layer, window, layers_of(model))

            def put(value: Tensor) -> Any:
                def change(old: Tensor) -> Tensor:
                    old[:, position] = value[0, position]
                    return old

                return change

            with edit(
                model, {f"blocks.{i}.{_SITES[kind]}": put(self.kept[f"blocks.{i}.{_SITES[kind]}"]) for i in those}
            ):
                logits = self.clean.run(those[0], self.noised[those[0]])
        return float(logits.softmax(-1)[:, self.answer].mean())


def window_around(layer: int, window: int, layers: int) -> range:
    """The ``window`` layers around one, of an even number more of them below; beyond the ends it is cut off."""
    return range(max(0, layer - window // 2), min(layers, layer + (window + 1) // 2))


def _findings(traced: pd.DataFrame) -> list[str]:
    short = traced[traced["tokens"] > 1]
    if short.empty:
        return []
    first = short.iloc[0]
    return [
        f"Of {len(short)} of the {len(traced)} traced facts the answer is several tokens, and the first alone is "
        f"traced: {first['token']!r} of {first['answer']!r}."
    ]


def _outside(span: Sequence[int], last: int) -> list[int]:
    """A token in the middle between subject and end, if there is one; what stands before the subject never changed."""
    behind = list(range(span[-1] + 2, last))
    return behind[len(behind) // 2 :][:1]


def _spread_of(model: LanguageModel, facts: Sequence[Mapping[str, str]], spans: Sequence[Sequence[int]]) -> float:
    """Standard deviation of the embeddings of all subjects' tokens."""
    embed = model.network.get_input_embeddings()
    found = [embed(ids_of(model, fact["prompt"]))[0, list(span)] for fact, span in zip(facts, spans, strict=True)]
    return float(torch.cat(found).std())
