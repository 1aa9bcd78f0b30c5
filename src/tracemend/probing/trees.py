"""Trees from distances and depths, and how near they are to the gold ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse.csgraph import minimum_spanning_tree, shortest_path
from scipy.stats import rankdata

from tracemend.arrays import Floats
from tracemend.data import Sentence

Edge = tuple[int, int]
# Left out of the trees that are compared, as in Hewitt and Manning's evaluation.
_PUNCTUATION = ("''", ",", ".", ":", "``", "-LRB-", "-RRB-")
# Rank correlations are averaged over sentences of these lengths.
SHORTEST, LONGEST = 5, 50


def tree_distances(heads: Sequence[int]) -> Floats:
    """Steps between every two words of a tree [t, t].

    Args:
        heads: place of each word's head from 0, -1 for the root.

    Example:
        >>> tree_distances([1, -1, 1])[0].tolist()
        [0.0, 1.0, 2.0]
    """
    n = len(heads)
    links = np.zeros((n, n))
    for i, head in enumerate(heads):
        if head >= 0:
            links[i, head] = links[head, i] = 1
    found: Floats = shortest_path(links, directed=False, unweighted=True)
    return found


def counted(sentence: Sentence) -> npt.NDArray[np.bool_]:
    """Words that are no punctuation, by XPOS where there is one, else by UPOS [t]."""
    xpos = sentence.tags.get("xpos", ())
    if any(xpos):
        return np.array([tag not in _PUNCTUATION for tag in xpos])
    return np.array([tag != "PUNCT" for tag in sentence.tags.get("upos", ("",) * len(sentence))])


def spanning_tree(distances: Floats, kept: npt.NDArray[np.bool_]) -> set[Edge]:
    """Edges of the minimum spanning tree over the kept words, as places in the sentence."""
    places = np.flatnonzero(kept)
    if len(places) < 2:
        return set()
    # Zero is no link to scipy, so every distance is a little longer; distances are symmetric but for rounding.
    among = distances[np.ix_(places, places)].astype(np.float64) + 1e-6
    tree = minimum_spanning_tree(np.triu(among, 1)).tocoo()
    return {(int(places[i]), int(places[j])) for i, j in zip(tree.row, tree.col, strict=True)}


def shared_edges(gold: Sequence[set[Edge]], predicted: Sequence[set[Edge]]) -> npt.NDArray[np.int64]:
    """For each sentence the edges that both trees have, and those of the gold one [2, s]."""
    both = [len(one & other) for one, other in zip(gold, predicted, strict=True)]
    return np.array([both, [len(one) for one in gold]])


def spearman_by_length(gold: Iterable[Floats], predicted: Iterable[Floats]) -> float:
    """Rank correlation averaged over words, then over sentences of a length, then over lengths 5 to 50.

    Rows of distances [t, t], or depths [t], of every sentence.
    """
    by_length: dict[int, list[float]] = defaultdict(list)
    for one, other in zip(gold, predicted, strict=True):
        length = one.shape[-1]
        if not SHORTEST <= length <= LONGEST:
            continue
        rows, others = rankdata(np.atleast_2d(one), axis=1), rankdata(np.atleast_2d(other), axis=1)
        rows -= rows.mean(1, keepdims=True)
        others -= others.mean(1, keepdims=True)
        spread = np.sqrt((rows**2).sum(1) * (others**2).sum(1))
        # Where all are equal there is no order to agree on.
        by_length[length].append(
            float((np.where(spread > 0, (rows * others).sum(1) / np.where(spread > 0, spread, 1), 0)).mean())
        )
    return float(np.mean([np.mean(values) for values in by_length.values()])) if by_length else float("nan")


def root_hits(depths: Sequence[Floats], sentences: Sequence[Sentence]) -> Floats:
    """1 where the least deep word that is no punctuation is the root [s]."""
    found = []
    for depth, sentence in zip(depths, sentences, strict=True):
        kept = counted(sentence)
        places = np.flatnonzero(kept) if kept.any() else np.arange(len(sentence))
        guess = int(places[int(np.argmin(depth[places]))])
        found.append(float(sentence.heads is not None and sentence.heads[guess] == -1))
    return np.array(found)


def chain_distances(length: int) -> Floats:
    """How far apart words stand in the sentence [t, t]: the tree of which is a chain."""
    places = np.arange(length, dtype=np.float64)
    return np.abs(places[:, None] - places[None])


def first_verb(sentence: Sentence) -> Floats:
    """Depths that make the first verb (else the first word) the root [t]."""
    tags = sentence.tags.get("upos", ())
    root = next((i for i, tag in enumerate(tags) if tag == "VERB"), 0)
    found = np.ones(len(sentence))
    found[root] = 0
    return found
