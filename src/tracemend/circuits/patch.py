"""Activation patching: which activation, carried over from another run, carries the answer with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracemend.circuits.circuit import Circuit, generator, heads_of, layers_of, rows_of
from tracemend.circuits.paired import WRITES, PairedRuns, check_gap, ratio_intervals, sign_flip_p
from tracemend.circuits.tokens import ids_of
from tracemend.circuits.weights import module_at, unembedding, writes
from tracemend.data.prompts import PromptPairs
from tracemend.errors import CircuitError, did_you_mean
from tracemend.methods import MethodResult
from tracemend.models import LanguageModel, edit, tiny
from tracemend.progress import Progress

PARTS = ("stream", "attention", "mlp", "heads", "direct")
_PLACES = ("changed", "between", "last")
_IDENTITY = 1e-3

# One thing that is patched: part, layer, head (-1: none) and class of positions.
Key = tuple[str, int, int, str]
# What is put in place of an activation of the corrupted run: (key's site, corrupted, clean) -> new, all [1, pos, ...].
Source = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class PatchResult(MethodResult):
    """Effects by site, the strongest first.

    The table has a row a site: ``part`` (stream, attention, mlp, heads, direct), ``layer``, ``head`` (-1: none; in
    ``direct`` -1 is the MLP), ``position`` (changed, between, last, all), ``effect`` (0: as corrupted, 1: as clean),
    ``low`` and ``high`` (95 % bootstrap interval over pairs) and ``p`` (permutations, corrected for all sites).
    """

    def part(self, part: str) -> pd.DataFrame:
        """The rows of one part."""
        return self.rows[self.rows["part"] == part].reset_index(drop=True)

    def figure(self) -> Any:
        """The stream by layer and class of positions; heads by layer as a map."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 6), layout="constrained")
        above, below = figure.subplots(2, 1)
        for name in ("stream", "attention", "mlp"):
            for place, style in zip(_PLACES, ("-", ":", "--"), strict=True):
                rows = self.part(name)
                rows = rows[rows["position"] == place].sort_values("layer")
                if len(rows):
                    above.plot(rows["layer"], rows["effect"], style, label=f"{name}, {place}")
        above.axhline(0, color="#b9b9b9", linewidth=0.8)
        above.set(xlabel="layer", ylabel="effect")
        above.legend(fontsize="x-small", ncols=3)
        heads = self.part("heads")
        if len(heads):
            grid = heads.pivot(index="head", columns="layer", values="effect").to_numpy(dtype=float)
            most = max(float(np.abs(grid).max()), 1e-6)
            image = below.imshow(grid, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
            figure.colorbar(image, ax=below)
        below.set(xlabel="layer", ylabel="head", title="heads")
        return figure


@dataclass(frozen=True, kw_only=True)
class Patch(Circuit[PatchResult]):
    """Activation patching over stream, attention, MLPs and heads, and the direct paths from heads to the logits.

    Two prompts differ in a word, and so in what follows. The corrupted prompt is run with one activation as it was on
    the clean one; with m the logit of the answer less that of the foil,

        effect = Σ (m(patched) - m(corrupted)) / Σ (m(clean) - m(corrupted)),   sums over the pairs

    so that 0 is as corrupted and 1 as clean. ``stream``: before block l (l = layers: after the last), at the changed
    tokens, between them and the end, or at the end. ``attention``, ``mlp``: what they write, at the same places.
    ``heads``: a head's output, everywhere. ``direct`` is path patching to the logits: only what the head (or MLP)
    itself adds to the last position's stream is patched, all that reads it on the way is not. Vig et al. 2020; Wang
    et al. 2022, arXiv 2211.00593; Heimersheim and Nanda 2024, arXiv 2404.15255.

    Metrics: ``clean`` and ``corrupted`` (m), ``best_PART`` (the largest effect), ``everything`` and ``nothing``
    (effects of the whole stream and of no change: 1 and 0, or the method refuses), ``handover`` (first layer before
    which the last position carries more than the changed tokens), ``shown`` (sites with p < 0.05). Controls at the
    best sites:
    ``placebo`` (a random change of the same length), ``other pair`` (the clean run of another pair of as many tokens:
    what knows the task but not the answer; around 0.5 where the answer is merely wiped out).

    Attributes:
        parts: which of stream, attention, mlp, heads, direct.
        draws: resamples for intervals and flips for p.
        floor: the least mean gap between clean and corrupted, in logits.

    Raises:
        CircuitError: not a decoder; prompts of different lengths; an answer of several tokens; a gap below the floor
            (the model does not do the task).

    Example:
        >>> from tracemend.data.prompts import indirect_objects
        >>> Patch().run(load("smollm2"), indirect_objects(8)).part("heads").head(5)
    """

    name: ClassVar[str] = "circuits.patch"
    inputs: ClassVar[str] = "PromptPairs"
    at_least: ClassVar = {"draws": 1}

    parts: tuple[str, ...] = PARTS
    draws: int = 1000
    floor: float = 0.5

    @torch.no_grad()
    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> PatchResult:
        """Patch every site of every pair.

        Args:
            model: a decoder.
            data: :class:`tracemend.data.prompts.PromptPairs`.
            progress: shows the pairs, then the controls.

        Raises:
            CircuitError: see the class.
        """
        network, frame = self.decoder(model), self.table(PromptPairs, data).frame
        wrong = [part for part in self.parts if part not in PARTS]
        if wrong or not self.parts:
            named = wrong[0] if wrong else ""
            raise CircuitError(f"parts has {named!r}, which is {did_you_mean(named, PARTS)}")
        self._announce(network, frame)
        layers = layers_of(network)
        found, ends, identities = [], [], []
        for at, row in enumerate(progress.track(rows_of(data), task="patch")):
            pair = PairedRuns.of(network, row, at)
            ends.append(pair.ends)
            clean, corrupted = pair.ends
            found.append({key: m - corrupted for key, m in _patched(network, pair, self._keys(network)).items()})
            half = layers // 2
            both = torch.cat([pair.corrupted.streams[half], pair.clean.streams[half]])
            identities.append(
                (pair.difference(pair.corrupted.run(half, both)).double().cpu().numpy(), clean, corrupted)
            )
        clean, corrupted = np.array(ends, dtype=float).T
        check_gap(clean, corrupted, self.floor, network.name)
        gap = float((clean - corrupted).sum())
        nothing = float(sum(m[0] - low for m, _, low in identities)) / gap
        everything = float(sum(m[1] - low for m, _, low in identities)) / gap
        if abs(nothing) > _IDENTITY or abs(everything - 1) > _IDENTITY:
            raise CircuitError(
                f"patching nothing has the effect {nothing:.4f} and patching everything {everything:.4f}; expected 0 "
                f"and 1. {network.name} has state outside its stream, and cannot be patched this way."
            )
        keys = list(found[0])
        changes = np.array([[one[key] for key in keys] for one in found])
        effect, low, high = ratio_intervals(changes, clean - corrupted, draws=self.draws, seed=self.seed)
        p = sign_flip_p(changes, draws=self.draws, seed=self.seed)
        rows = pd.DataFrame(keys, columns=["part", "layer", "head", "position"])
        rows = rows.assign(effect=effect, low=low, high=high, p=p)
        order = np.argsort(-np.nan_to_num(rows["effect"].to_numpy(), nan=-np.inf), kind="stable")
        rows = rows.iloc[order].reset_index(drop=True)
        best = {part: _first(rows, part) for part in self.parts}
        metrics = {
            "clean": float(clean.mean()),
            "corrupted": float(corrupted.mean()),
            "nothing": nothing,
            "everything": everything,
            **{f"best_{part}": float(rows["effect"][at]) for part, at in best.items()},
            "shown": float((rows["p"] < 0.05).sum()),
        }
        if "stream" in self.parts:
            metrics["handover"] = _handover(rows)
        controls = self._controls(network, frame, rows.iloc[list(best.values())], progress)
        return PatchResult(metrics=metrics, controls=controls, config=self.config, rows=rows)

    def _announce(self, model: LanguageModel, frame: pd.DataFrame) -> None:
        longest = max(ids_of(model, text).shape[1] for text in frame["clean"])
        width, variants = model.hidden_size, 3 * len(_PLACES) + heads_of(model)
        per_token = 2 * layers_of(model) * 4 * width + variants * 8 * width + 2 * len(unembedding(model))
        self.announce(longest * (per_token + variants * heads_of(model) * longest), "give shorter prompts")

    def _keys(self, model: LanguageModel) -> list[Key]:
        layers, heads = layers_of(model), heads_of(model)
        keys: list[Key] = []
        for part in self.parts:
            if part == "heads":
                keys += [(part, layer, h, "all") for layer in range(layers) for h in range(heads)]
            elif part == "direct":
                keys += [(part, layer, h, "last") for layer in range(layers) for h in range(-1, heads)]
            else:
                last = layers + (part == "stream")
                keys += [(part, layer, -1, place) for layer in range(last) for place in _PLACES]
        return keys

    def _controls(
        self, model: LanguageModel, frame: pd.DataFrame, best: pd.DataFrame, progress: Progress
    ) -> dict[str, dict[str, float]]:
        columns = [best[name].tolist() for name in ("part", "layer", "head", "position")]
        keys: list[Key] = list(zip(*columns, strict=True))
        random = generator(self.seed)
        lengths = [ids_of(model, text).shape[1] for text in frame["clean"]]
        sums: dict[str, list[float]] = {"placebo": [0.0] * len(keys), "other pair": [0.0] * len(keys)}
        gaps = {"placebo": 0.0, "other pair": 0.0}

        def placebo(corrupted: Tensor, clean: Tensor) -> Tensor:
            noise = torch.randn(clean.shape, generator=random).to(clean.device)
            size = (clean - corrupted).norm(dim=-1, keepdim=True)
            return torch.as_tensor(corrupted + noise * size / noise.norm(dim=-1, keepdim=True).clamp_min(1e-12))

        every = rows_of(PromptPairs(frame))
        for at, row in enumerate(progress.track(every, task="controls")):
            pair = PairedRuns.of(model, row, at)
            clean, corrupted = pair.ends
            # The next pair of as many tokens that asks for other words.
            others = [*range(at + 1, len(frame)), *range(at)]
            words = {row["answer"], row["foil"]}
            other = next(
                (
                    j
                    for j in others
                    if lengths[j] == lengths[at] and words.isdisjoint((every[j]["answer"], every[j]["foil"]))
                ),
                None,
            )
            arms: list[tuple[str, PairedRuns, Source]] = [("placebo", pair, placebo)]
            if other is not None:
                donor = PairedRuns.of(model, every[other], other)
                lent = PairedRuns(
                    donor.clean, pair.corrupted, donor.kept, pair.lost, pair.answer, pair.foil, pair.places
                )
                arms.append(("other pair", lent, _as_clean))
            for arm, runs, source in arms:
                gaps[arm] += clean - corrupted
                for i, m in enumerate(_patched(model, runs, keys, source).values()):
                    sums[arm][i] += float(np.nan_to_num(m - corrupted))
        return {
            arm: {f"best_{key[0]}": sums[arm][i] / gaps[arm] for i, key in enumerate(keys)} for arm in sums if gaps[arm]
        }

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Two pairs on a tiny decoder; its random weights do no task, so any gap will do."""
        rows = [
            {"clean": "you love this good movie so", "corrupted": "you hate this good movie so"},
            {"clean": "you love that nice film so", "corrupted": "you hate that nice film so"},
        ]
        words = [("happy", "sad"), ("great", "awful")]
        pairs = [{**row, "answer": a, "foil": b} for row, (a, b) in zip(rows, words, strict=True)]
        return cls(draws=50, floor=-1e9), tiny("llama"), PromptPairs.make(pairs)


def _as_clean(corrupted: Tensor, clean: Tensor) -> Tensor:
    return clean


def _patched(
    model: LanguageModel, pair: PairedRuns, keys: Sequence[Key], source: Source = _as_clean
) -> dict[Key, float]:
    """The logit difference with each site patched by itself; NaN where the pair has no such place."""
    found: dict[Key, float] = dict.fromkeys(keys, float("nan"))
    by_layer: dict[int, list[Key]] = {}
    for key in keys:
        if key[0] == "direct":
            continue
        if key[3] == "all" or pair.places[key[3]]:
            by_layer.setdefault(key[1], []).append(key)
    for layer, here in by_layer.items():
        stream = pair.corrupted.streams[layer].repeat(len(here), 1, 1)
        patched = source(pair.corrupted.streams[layer], pair.clean.streams[layer])
        changes: dict[str, list[tuple[int, Any, Any]]] = {}
        for b, (part, _, head, place) in enumerate(here):
            positions = slice(None) if place == "all" else list(pair.places[place])
            if part == "stream":
                stream[b, positions] = patched[0, positions]
            else:
                changes.setdefault(f"blocks.{layer}.{WRITES[part]}", []).append((b, positions, head))
        edits = {name: _putting(rows, source(pair.lost[name], pair.kept[name])) for name, rows in changes.items()}
        with edit(model, edits):
            logits = pair.corrupted.run(layer, stream)
        found |= dict(zip(here, pair.difference(logits).double().tolist(), strict=True))
    direct = [key for key in keys if key[0] == "direct"]
    if direct:
        found |= dict(zip(direct, _direct(model, pair, direct, source), strict=True))
    return found


def _putting(rows: Sequence[tuple[int, Any, int]], value: Tensor) -> Callable[[Tensor], Tensor]:
    def put(old: Tensor) -> Tensor:
        for b, positions, head in rows:
            if head < 0:
                old[b, positions] = value[0, positions]
            else:
                old[b, positions, head] = value[0, positions, head]
        return old

    return put


def _direct(model: LanguageModel, pair: PairedRuns, keys: Sequence[Key], source: Source) -> list[float]:
    """Heads and MLPs patched in what they add to the last position's final stream, and nowhere else."""
    added = []
    outputs = {layer: writes(model, layer) for layer in {key[1] for key in keys}}
    for _, layer, head, _ in keys:
        name = f"blocks.{layer}.{WRITES['mlp' if head < 0 else 'heads']}"
        lost = pair.lost[name][0, -1] if head < 0 else pair.lost[name][0, -1, head]
        kept = pair.kept[name][0, -1] if head < 0 else pair.kept[name][0, -1, head]
        change = source(lost, kept) - lost
        added.append(change if head < 0 else change @ outputs[layer][head])
    final = pair.corrupted.streams[-1][0, -1] + torch.stack(added)
    unembed = unembedding(model)
    head_module = model.network.get_output_embeddings()
    bias = getattr(head_module, "bias", None)
    normalised = module_at(model, "ln_final.hook_normalized")(final)
    m = normalised @ (unembed[pair.answer] - unembed[pair.foil])
    constant = 0.0 if bias is None else float(bias[pair.answer] - bias[pair.foil])
    return [float(value) + constant for value in m.double()]


def _first(rows: pd.DataFrame, part: str) -> int:
    return int(rows.index[rows["part"] == part][0])


def _handover(rows: pd.DataFrame) -> float:
    stream = rows[rows["part"] == "stream"].pivot(index="layer", columns="position", values="effect")
    later = stream.index[stream["last"] > stream["changed"]]
    return float(later[0]) if len(later) else float("nan")
