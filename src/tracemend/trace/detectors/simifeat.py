"""Suspicion by the vote of the nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from tracemend.arrays import Doubles, Indices
from tracemend.errors import TraceError
from tracemend.progress import Progress
from tracemend.trace.detectors.detector import Detector, Subject, Suspicion


@dataclass(frozen=True, kw_only=True)
class SimiFeat(Detector):
    r"""Rank training labels by how few of their nearest neighbours have the same one.

    .. math:: p_i(c) \propto \sum_{j \in N_k(i) \cup \{i\}} s_{ij} [\, y_j = c \,], \qquad score = -\log p_i(y_i)

    SimiFeat (Zhu, Dong and Liu 2022, arXiv 2110.06283): the labels of the k nearest examples, weighed by cosine
    similarity of frozen sentence embeddings, are a local posterior of the true label. It trains nothing and needs no
    validation set. The example votes with the weight of its nearest neighbour. Of the paper's two rules ``rank`` is the
    score above, without the threshold from its estimate of the noise, which only cuts the ranking off.

    Attributes:
        k: neighbours, at most all others.
        rule: ``rank`` by the local posterior, or ``vote``: how far the likeliest other label is ahead of the given one.

    Example:
        >>> SimiFeat(k=15).run(classifier, splits).table().head()
    """

    name = "trace.simifeat"
    at_least: ClassVar = {"k": 1}

    k: int = 10
    rule: Literal["rank", "vote"] = "rank"

    def suspicion(self, subject: Subject, progress: Progress) -> Suspicion:
        """Minus the log of the local posterior, or the lead of the likeliest other label (-1 to 1).

        Raises:
            TraceError: there is one example alone.
        """
        train = subject.splits.train
        p, neighbours = local_posterior(subject.embedded("train", progress), train.y, len(train.labels), k=self.k)
        rows = np.arange(len(train))
        own, others = p[rows, train.y], p.copy()
        others[rows, train.y] = -np.inf
        agree = (train.y[neighbours] == train.y[:, None]).sum(axis=1)
        nearest = train.frame["text"].to_numpy()[neighbours[:, 0]]
        evidence = [
            f"{count} of its {neighbours.shape[1]} nearest examples have the label; the nearest, {text[:80]!r}, is "
            f"{train.labels[train.y[first]]}"
            for count, text, first in zip(agree, nearest, neighbours[:, 0], strict=True)
        ]
        return Suspicion(-np.log(own) if self.rule == "rank" else others.max(axis=1) - own, evidence, p)


def local_posterior(
    features: npt.NDArray[np.floating], y: Indices, labels: int, *, k: int = 10
) -> tuple[Doubles, Indices]:
    """Similarity-weighted share of each label among the nearest examples and the example itself.

    Args:
        features: unit embeddings [n, D].
        y: label indices [n].
        labels: how many there are, C.
        k: neighbours, at most n - 1.

    Returns:
        Posterior [n, C], rows summing to 1, never 0 for the example's own label; and the neighbours' positions [n, k],
        the nearest first.

    Raises:
        TraceError: there are fewer than two examples, or ``k`` is not positive.

    Example:
        >>> local_posterior(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([0, 1, 1]), 2, k=1)[0][0]
        array([0.5, 0.5])
    """
    if k < 1 or len(features) < 2:
        raise TraceError(f"k is {k} and there are {len(features)} examples; expected at least 1 and 2.")
    fit = NearestNeighbors(n_neighbors=min(k, len(features) - 1), metric="cosine", algorithm="brute").fit(features)
    distance, where = fit.kneighbors()
    # Where even the nearest one points away, the example's own vote is all there is: it must not be zero.
    weight = np.maximum(1.0 - distance.astype(np.float64), 0.0)
    votes = np.zeros((len(features), labels))
    np.add.at(votes, (np.arange(len(features))[:, None], y[where]), weight)
    votes[np.arange(len(features)), y] += np.maximum(weight[:, 0], 1e-6)
    return votes / votes.sum(axis=1, keepdims=True), where.astype(np.int64)
