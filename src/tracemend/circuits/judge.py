"""What some edges of a decoder carry of an answer: the judge of circuits, strongest edges and random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tracemend.circuits.paired import PairedRuns, check_gap
from tracemend.circuits.tokens import ids_of
from tracemend.circuits.weights import unembedding
from tracemend.circuits.wiring import Wiring, edge_scores
from tracemend.errors import CircuitError
from tracemend.models import LanguageModel
from tracemend.progress import Progress


@dataclass(frozen=True, eq=False)
class Judge:
    """Pairs with what their parts write, and the share of the effect that some edges carry."""

    model: LanguageModel
    wiring: Wiring
    runs: Sequence[PairedRuns]
    ids: Sequence[tuple[Tensor, Tensor]]
    clean: Sequence[Tensor]
    corrupted: Sequence[Tensor]

    @classmethod
    def of(cls, model: LanguageModel, wiring: Wiring, pairs: Sequence[dict[str, str]], floor: float) -> Judge:
        """Run both prompts of every pair.

        Raises:
            CircuitError: as :class:`tracemend.circuits.paired.PairedRuns`; a mean gap below ``floor``, or none.
        """
        runs = [PairedRuns.of(model, pair, at) for at, pair in enumerate(pairs)]
        ends = np.array([run.ends for run in runs])
        check_gap(ends[:, 0], ends[:, 1], floor, model.name)
        if abs(float((ends[:, 0] - ends[:, 1]).sum())) < 1e-6:
            raise CircuitError("clean and corrupted prompts give the same metric; there is no effect to be carried.")
        ids = [(ids_of(model, pair["clean"]), ids_of(model, pair["corrupted"])) for pair in pairs]
        clean = [wiring.contributions(run.clean) for run in runs]
        return cls(model, wiring, runs, ids, clean, [wiring.contributions(run.corrupted) for run in runs])

    def scores(self, steps: int, progress: Progress) -> Tensor:
        """Mean over the pairs, [readers, writers]."""
        total = torch.zeros(self.wiring.valid.shape)
        for at, run in enumerate(progress.track(self.runs, task="score")):
            rows = unembedding(self.model)
            news = self.corrupted[at] - self.clean[at]
            total += edge_scores(self.wiring, self.ids[at], rows[run.answer] - rows[run.foil], news, steps)
        return total / len(self.runs)

    def faithfulness(self, kept: Tensor) -> float:
        """Σ (m(kept) - m(corrupted)) / Σ (m(clean) - m(corrupted))."""
        change = gap = 0.0
        for run, corrupted in zip(self.runs, self.corrupted, strict=True):
            clean, end = run.ends
            change += float(run.difference(self.wiring.run(run.clean, corrupted, kept))) - end
            gap += clean - end
        return change / gap

    def distances(self, kept: Tensor) -> float:
        """KL divergence of the next token's distribution from the whole network's, in nats, the mean over the pairs."""
        found = 0.0
        for run, corrupted in zip(self.runs, self.corrupted, strict=True):
            whole = run.clean.logits[0, -1].log_softmax(-1)
            part = self.wiring.run(run.clean, corrupted, kept).log_softmax(-1)
            found += float((whole.exp() * (whole - part)).sum())
        return found / len(self.runs)

    def alone(self, edge: tuple[int, int]) -> float:
        """Mean change of m when this edge alone carries the corrupted run's news."""
        kept = self.wiring.valid.clone()
        kept[edge] = False
        changes = [
            float(run.difference(self.wiring.run(run.clean, corrupted, kept))) - run.ends[0]
            for run, corrupted in zip(self.runs, self.corrupted, strict=True)
        ]
        return float(np.mean(changes))


def strongest(scores: Tensor, valid: Tensor, count: int) -> Tensor:
    """The edges with the largest scores in absolute value, [readers, writers]."""
    ranked = torch.where(valid, scores.abs(), -1.0).flatten()
    kept = torch.zeros(valid.numel(), dtype=torch.bool)
    kept[ranked.topk(count).indices] = True
    return kept.view_as(valid) & valid


def drawn(valid: Tensor, count: int, random: torch.Generator) -> Tensor:
    """As many edges drawn at random."""
    return strongest(torch.rand(valid.shape, generator=random), valid, count)
