"""Circuits as subgraphs: which few edges carry the answer, judged beside random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracemend.circuits.circuit import Circuit, generator, rows_of
from tracemend.circuits.judge import Judge, drawn, strongest
from tracemend.circuits.pruning import pruned
from tracemend.circuits.tokens import ids_of
from tracemend.circuits.wiring import Wiring
from tracemend.data.prompts import PromptPairs
from tracemend.errors import CircuitError
from tracemend.methods import MethodResult
from tracemend.models import tiny
from tracemend.progress import Progress

# Pairs from which on half of them judge what the other half chose.
_ENOUGH = 4


@dataclass(frozen=True, kw_only=True)
class GraphResult(MethodResult):
    """The edges of the largest circuit, the strongest first, and how well each size does.

    The table has a row an edge: ``writer``, ``reader``, ``score`` (expected change of the metric when the edge carries
    the corrupted run's news, in logits), ``share`` (of all edges: the smallest circuit with it), ``pruned`` (whether
    it is in the pruned circuit).

    Attributes:
        sizes: ``share``, ``edges``, ``faithfulness``, ``completeness``, both of random circuits (``_random``, means,
            and ``_spread``, standard deviations over the draws).
    """

    tables: ClassVar[tuple[str, ...]] = ("sizes",)

    sizes: pd.DataFrame

    def figure(self) -> Any:
        """Faithfulness by size, beside random circuits."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.sizes["share"], self.sizes["faithfulness"], "o-", color="#2f6f8f", label="these edges alone")
        axes.plot(self.sizes["share"], self.sizes["completeness"], "o--", color="#c07b2f", label="all but these")
        axes.errorbar(
            self.sizes["share"], self.sizes["faithfulness_random"], yerr=self.sizes["faithfulness_spread"], fmt="o-",
            color="#b9b9b9", label="random edges",
        )  # fmt: skip
        axes.axhline(0, color="#b9b9b9", linewidth=0.8)
        axes.set(xlabel="share of the edges", ylabel="share of the effect", xscale="log")
        axes.legend(fontsize="small")
        return figure


@dataclass(frozen=True, kw_only=True)
class Graph(Circuit[GraphResult]):
    """Circuits by edge attribution patching with integrated gradients, with faithfulness, completeness, minimality.

    Writers are the embedding, heads and MLPs; readers the queries, keys and values of heads, MLPs and the logits; an
    edge is what one writes into what the other reads. Two prompts differ in a word; m is the logit of the answer less
    that of the foil. An edge's score is the change of m to be expected when it alone carries the corrupted run's news
    (:func:`tracemend.circuits.wiring.edge_scores`). A circuit C is the edges with the largest scores in absolute value;
    it is run with every other edge carrying what it does on the corrupted prompt:

        faithfulness = Σ (m(C) - m(corrupted)) / Σ (m(clean) - m(corrupted))     completeness: of all edges but C
        minimality = mean fall of faithfulness when one edge of C is taken out

    Of four pairs and more, every other one chooses the edges (scores, pruning, and the edges that are checked one by
    one) and the others judge them (faithfulness, completeness, minimality), so that no circuit is judged by the pairs
    that it was made for. Of fewer the same pairs do both, and the result says so.

    With ``prune`` the strongest edges are then visited one by one, from the logits back, and an edge goes for good if
    without it the KL divergence of the next token from the whole network's rises by less than ``tau`` (Conmy et al.
    2023, arXiv 2304.14997, on the edges that attribution leaves): one run for each edge and pair.

    Sums are over the pairs. Syed et al. 2023, arXiv 2310.10348; Hanna et al. 2024, arXiv 2403.17806; Wang et al. 2022,
    arXiv 2211.00593, for the three criteria.

    Metrics: ``faithfulness`` and ``completeness`` at the largest of ``shares``, ``smallest`` (the least of them with
    faithfulness of at least 0.8; 1, all edges, where there is none), ``minimality`` at the largest, ``correlation`` (of
    scores with the change when the edge alone is patched, over ``checked`` edges: the strongest half and random ones),
    ``everything`` and ``nothing`` (faithfulness of all edges and of none: 1 and 0, or the method refuses); with
    ``prune`` ``pruned`` (edges that are left) and ``pruned_faithfulness``. Controls: ``random edges`` (as many:
    ``faithfulness``, ``completeness``, ``minimality``, ``pruned_faithfulness``, means of the draws), ``pairs that
    chose`` (where others judge: the circuit's ``faithfulness`` and ``completeness`` on its own pairs), ``one step``
    (``faithfulness`` and ``correlation`` of scores from the clean run's gradient alone), ``strongest edges`` and
    ``random part`` (``pruned_faithfulness`` of as many edges of those that were pruned: the strongest, and random
    ones).

    Attributes:
        shares: of all edges, that circuits have.
        steps: runs between corrupted and clean embeddings.
        draws: random circuits of each size.
        checked: edges that are patched by themselves, and taken out.
        floor: the least mean gap between clean and corrupted, in logits.
        prune: how many of the strongest edges are pruned one by one; 0 for none.
        tau: the rise of the divergence, in nats, for which an edge stays.

    Raises:
        CircuitError: not a decoder; prompts of different lengths; an answer of several tokens; a gap below the floor;
            more edges to prune than the largest circuit has.

    Example:
        >>> from tracemend.data.prompts import indirect_objects
        >>> Graph().run(load("smollm2"), indirect_objects(4)).table().head(10)
    """

    name: ClassVar[str] = "circuits.graph"
    inputs: ClassVar[str] = "PromptPairs"
    capabilities: ClassVar[frozenset[str]] = frozenset({"decoder", "gradients"})
    at_least: ClassVar = {"steps": 1, "draws": 1, "checked": 1}

    shares: tuple[float, ...] = (0.005, 0.01, 0.02, 0.05, 0.1)
    steps: int = 5
    draws: int = 5
    checked: int = 20
    floor: float = 0.5
    prune: int = 0
    tau: float = 0.01

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> GraphResult:
        """Score every edge, and judge circuits of every size.

        Args:
            model: a decoder.
            data: :class:`tracemend.data.prompts.PromptPairs`.
            progress: shows the pairs, then the circuits.

        Raises:
            CircuitError: see the class.
        """
        network, pairs = self.decoder(model), rows_of(self.table(PromptPairs, data))
        self._check()
        wiring = Wiring(network)
        if self.prune > round(max(self.shares) * wiring.edges):
            raise CircuitError(
                f"prune is {self.prune}, but the largest circuit has {round(max(self.shares) * wiring.edges)} edges; "
                "prune fewer, or raise the largest of shares."
            )
        longest = max(ids_of(network, pair["clean"]).shape[1] for pair in pairs)
        self.announce(
            longest * network.hidden_size * len(wiring.writers) * (3 + 2 * len(pairs))
            + longest * (network.hidden_size * 12 * wiring.layers + network.config.vocab_size),
            "give shorter prompts, or fewer pairs",
        )
        held_out = len(pairs) >= _ENOUGH
        chooser = Judge.of(network, wiring, pairs[::2] if held_out else pairs, self.floor)
        judge = Judge.of(network, wiring, pairs[1::2], self.floor) if held_out else chooser
        scores = chooser.scores(self.steps, progress)
        plain = chooser.scores(1, progress) if self.steps > 1 else scores
        return self._judged(chooser, judge, scores, plain, progress)

    def _check(self) -> None:
        if not self.shares or not all(0 < share <= 1 for share in self.shares):
            raise CircuitError(f"shares is {self.shares}; expected numbers above 0 and at most 1.")
        if self.prune < 0 or self.tau < 0:
            raise CircuitError(f"prune is {self.prune} and tau {self.tau}; expected 0 or more.")

    def _judged(self, chooser: Judge, judge: Judge, scores: Tensor, plain: Tensor, progress: Progress) -> GraphResult:
        wiring, random = judge.wiring, generator(self.seed)
        shares = sorted(self.shares)
        everything, nothing = judge.faithfulness(wiring.valid), judge.faithfulness(torch.zeros_like(wiring.valid))
        if abs(everything - 1) > 1e-2 or abs(nothing) > 1e-2:
            raise CircuitError(
                f"all edges give {everything:.3f} and none {nothing:.3f} where 1 and 0 are expected: the parts of "
                f"{judge.model.name} do not add up to its stream. Its architecture is not one that this method knows."
            )
        sizes: list[dict[str, float]] = []
        counts = [max(1, round(share * wiring.edges)) for share in shares]
        count = counts[-1]
        others: list[Tensor] = []
        for share, size in progress.track(list(zip(shares, counts, strict=True)), task="circuits"):
            own = strongest(scores, wiring.valid, size)
            others = [drawn(wiring.valid, size, random) for _ in range(self.draws)]
            random_ones = {
                "faithfulness": [judge.faithfulness(other) for other in others],
                "completeness": [judge.faithfulness(wiring.valid & ~other) for other in others],
            }
            sizes.append(
                {
                    "share": share,
                    "edges": size,
                    "faithfulness": judge.faithfulness(own),
                    "completeness": judge.faithfulness(wiring.valid & ~own),
                    **{f"{name}_random": float(np.mean(values)) for name, values in random_ones.items()},
                    **{f"{name}_spread": float(np.std(values)) for name, values in random_ones.items()},
                }
            )
        table = pd.DataFrame(sizes)
        own = strongest(scores, wiring.valid, count)
        good = table[table["faithfulness"] >= 0.8]
        checked = self._checked(chooser, scores, random)
        exact = [chooser.alone(edge) for edge in progress.track(checked, task="single edges")]
        end = table.iloc[-1]
        left, found = self._pruned(chooser, judge, scores, random, progress)
        held_out = judge is not chooser
        chose = {
            "faithfulness": chooser.faithfulness(own),
            "completeness": chooser.faithfulness(wiring.valid & ~own),
        }
        return GraphResult(
            metrics={
                "faithfulness": float(end["faithfulness"]),
                "completeness": float(end["completeness"]),
                "smallest": float(good["share"].min()) if len(good) else 1.0,
                "minimality": self._minimality(judge, own, random),
                "correlation": _correlation(scores, checked, exact),
                "everything": everything,
                "nothing": nothing,
                **found["found"],
            },
            controls={
                "random edges": {
                    "faithfulness": float(end["faithfulness_random"]),
                    "completeness": float(end["completeness_random"]),
                    "minimality": float(np.mean([self._minimality(judge, other, random) for other in others])),
                    **found["random edges"],
                },
                "one step": {
                    "faithfulness": judge.faithfulness(strongest(plain, wiring.valid, count)),
                    "correlation": _correlation(plain, checked, exact),
                },
                **({"pairs that chose": chose} if held_out else {}),
                **{arm: found[arm] for arm in ("strongest edges", "random part") if arm in found},
            },
            config=self.config,
            rows=_edges(wiring, scores, list(zip(shares, counts, strict=True)), left),
            findings=[]
            if held_out
            else [
                f"The {len(judge.runs)} pairs that chose the edges judge them as well: nothing is said of others. Give "
                f"{_ENOUGH} pairs or more."
            ],
            facts={
                "pairs that chose": len(chooser.runs),
                "pairs that judged": len(judge.runs),
                "judged by other pairs": held_out,
                "random circuits a size": self.draws,
                "spread of random faithfulness": float(end["faithfulness_spread"]),
            },
            sizes=table,
        )

    def _pruned(
        self, chooser: Judge, judge: Judge, scores: Tensor, random: torch.Generator, progress: Progress
    ) -> tuple[Tensor, dict[str, dict[str, float]]]:
        """The edges that pruning leaves, and the figures of each arm."""
        valid = judge.wiring.valid
        if not self.prune:
            return torch.zeros_like(valid), {"found": {}, "random edges": {}}
        start = strongest(scores, valid, self.prune)
        left = pruned(chooser, start, scores, self.tau, progress)
        count = int(left.sum())

        def of(*circuits: Tensor) -> dict[str, float]:
            return {"pruned_faithfulness": float(np.mean([judge.faithfulness(each) for each in circuits]))}

        return left, {
            "found": {"pruned": float(count), **of(left)},
            "strongest edges": of(strongest(scores, valid, count)),
            "random part": of(*(drawn(start, count, random) for _ in range(self.draws))),
            "random edges": of(*(drawn(valid, count, random) for _ in range(self.draws))),
        }

    def _checked(self, judge: Judge, scores: Tensor, random: torch.Generator) -> list[tuple[int, int]]:
        half = max(1, self.checked // 2)
        order = scores.abs().flatten().argsort(descending=True)[:half].tolist()
        rest = judge.wiring.valid.flatten().nonzero().flatten()
        order += rest[torch.randperm(len(rest), generator=random)[: self.checked - half]].tolist()
        width = scores.shape[1]
        return [(flat // width, flat % width) for flat in dict.fromkeys(order)]

    def _minimality(self, judge: Judge, kept: Tensor, random: torch.Generator) -> float:
        """Mean fall of faithfulness without one of its edges: random ones, as many as are checked."""
        whole, edges = judge.faithfulness(kept), kept.nonzero()
        falls = []
        for at in torch.randperm(len(edges), generator=random)[: max(1, self.checked // 2)].tolist():
            without = kept.clone()
            without[tuple(edges[at])] = False
            falls.append(whole - judge.faithfulness(without))
        return float(np.mean(falls))

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        """Two pairs on a tiny decoder, which does no task, so that any gap will do."""
        rows = [
            {"clean": "you love this good movie so", "corrupted": "you hate this good movie so", "answer": "happy",
             "foil": "sad"},
            {"clean": "we like that nice film so", "corrupted": "we hate that nice film so", "answer": "good",
             "foil": "bad"},
        ]  # fmt: skip
        how = cls(shares=(0.1, 0.5), steps=2, draws=2, checked=6, floor=-1e9, prune=6)
        return how, tiny("llama"), PromptPairs.make(rows)


def _correlation(scores: Tensor, edges: Sequence[tuple[int, int]], exact: Sequence[float]) -> float:
    said = np.array([float(scores[edge]) for edge in edges])
    if len(said) < 3 or not said.std() or not np.std(exact):
        return float("nan")
    return float(np.corrcoef(said, exact)[0, 1])


def _edges(wiring: Wiring, scores: Tensor, sizes: Sequence[tuple[float, int]], left: Tensor) -> pd.DataFrame:
    kept = strongest(scores, wiring.valid, sizes[-1][1]).nonzero().tolist()
    kept.sort(key=lambda edge: -abs(float(scores[tuple(edge)])))
    return pd.DataFrame(
        [
            {
                "writer": wiring.writers[writer],
                "reader": wiring.readers[reader].name,
                "score": float(scores[reader, writer]),
                "share": next(share for share, count in sizes if rank < count),
                "pruned": bool(left[reader, writer]),
            }
            for rank, (reader, writer) in enumerate(kept)
        ]
    )
