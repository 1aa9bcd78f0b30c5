"""Greedy pruning of a circuit, edge by edge (ACDC; Conmy et al. 2023, arXiv 2304.14997)."""

from __future__ import annotations

from torch import Tensor

from tracemend.circuits.judge import Judge
from tracemend.progress import Progress


def pruned(judge: Judge, kept: Tensor, scores: Tensor, tau: float, progress: Progress = Progress()) -> Tensor:
    """The edges of a circuit without those that can go.

    Edges are visited from the logits back, of each reader the one with the smallest score first. An edge goes for
    good if the KL divergence of the next token from the whole network's rises by less than ``tau`` nats without it.
    This takes one run an edge and pair, which is why it begins with a circuit and not with the whole network.

    Args:
        judge: of the pairs.
        kept: the circuit, [readers, writers].
        scores: of the edges, [readers, writers].
        tau: the least rise for which an edge stays, in nats.
        progress: shows the edges.
    """
    left = kept.clone()
    last = judge.distances(left)
    order = sorted(kept.nonzero().tolist(), key=lambda edge: (-edge[0], abs(float(scores[tuple(edge)]))))
    for reader, writer in progress.track(order, task="prune"):
        left[reader, writer] = False
        now = judge.distances(left)
        if now - last < tau:
            last = now
        else:
            left[reader, writer] = True
    return left
