"""Which examples belong together: the same group, the same text, or nearly the same text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import normalize

import numpy as np

from tracemend.arrays import Indices
from tracemend.data.schema import Labelled

NEAR = 0.8
_GRAM = 5
# Rows compared at a time: bounds the memory of the product of sparse matrices.
_BLOCK = 2_000


@dataclass(frozen=True, eq=False)
class Clusters:
    """Examples that must stay together.

    Attributes:
        ids: cluster number of each example [n]; an example alone is a cluster of one.
        exact: how many examples repeat an earlier one (letter case and spacing aside).
        near: how many pairs are nearly the same but not the same.
        conflicting: how many sets of equal texts carry different labels.
    """

    ids: Indices
    exact: int
    near: int
    conflicting: int

    @property
    def sizes(self) -> Indices:
        """Number of examples in each cluster [clusters]."""
        return np.bincount(self.ids).astype(np.int64)


def contents(data: Labelled) -> list[str]:
    """What is compared: text and reply in lower case with single spaces, each character in one form.

    Example:
        >>> contents(Labelled.make(["Hi  THERE", "no"], ["a", "b"]))
        ['hi there', 'no']
    """
    # The reply follows after a character that no text holds once its spacing is normal.
    pairs = ([normalize("NFC", part) for part in pair if part is not None] for pair in data.pairs)
    return ["\n".join(" ".join(part.lower().split()) for part in pair) for pair in pairs]


def near_duplicates(texts: Sequence[str], threshold: float = NEAR) -> Indices:
    """Pairs (i < j) of texts whose sets of character five-grams have a Jaccard index above ``threshold`` [pairs, 2].

    Exact, without hashing: two sets that overlap this much must share one of the few rarest members of each
    (prefix filtering: Chaudhuri et al. 2006, "A primitive operator for similarity joins in data cleaning"), so only
    texts with a rare five-gram in common are compared.

    Example:
        >>> near_duplicates(["a nice long text", "a nice long text!", "else"], 0.8).tolist()
        [[0, 1]]
    """
    grams = _grams(texts)
    sizes = np.diff(grams.indptr).astype(np.int64)
    prefixes = _prefixes(grams, sizes, threshold)
    other = prefixes.T.tocsr()
    found: list[Indices] = []
    for start in range(0, len(texts), _BLOCK):
        candidates = (prefixes[start : start + _BLOCK] @ other).tocoo()
        rows = candidates.row.astype(np.int64) + start
        columns = candidates.col.astype(np.int64)
        # Sets whose sizes differ too much cannot overlap enough.
        smaller, larger = np.minimum(sizes[rows], sizes[columns]), np.maximum(sizes[rows], sizes[columns])
        keep = (rows < columns) & (smaller >= threshold * larger)
        rows, columns = rows[keep], columns[keep]
        for part in range(0, len(rows), 50_000):
            i, j = rows[part : part + 50_000], columns[part : part + 50_000]
            shared = np.asarray(grams[i].multiply(grams[j]).sum(axis=1)).ravel()
            near = shared > threshold * (sizes[i] + sizes[j] - shared)
            found.append(np.stack([i[near], j[near]], axis=1))
    return np.concatenate(found) if found else np.empty((0, 2), dtype=np.int64)


def _grams(texts: Sequence[str]) -> Any:
    """Binary matrix [texts, five-grams], the columns of each row sorted from rare to common."""
    from scipy.sparse import csr_matrix

    names: dict[str, int] = {}
    rows = [
        {names.setdefault(text[i : i + _GRAM], len(names)) for i in range(max(1, len(text) - _GRAM + 1))}
        for text in texts
    ]
    indptr = np.cumsum([0, *map(len, rows)])
    indices = np.fromiter((column for row in rows for column in row), dtype=np.int64, count=int(indptr[-1]))
    counts = np.bincount(indices, minlength=len(names))
    rank = np.empty(len(names), dtype=np.int64)
    rank[np.argsort(counts, kind="stable")] = np.arange(len(names))
    # 0/1 in int32: sums of shared grams stay exact.
    matrix = csr_matrix((np.ones(len(indices), dtype=np.int32), rank[indices], indptr), shape=(len(texts), len(names)))
    matrix.sort_indices()
    return matrix


def _prefixes(grams: Any, sizes: Indices, threshold: float) -> Any:
    """The rarest members of each row: as many as must hold one shared with any row above the threshold."""
    from scipy.sparse import csr_matrix

    lengths = sizes - np.ceil(threshold * sizes - 1e-9).astype(np.int64) + 1
    position = np.arange(grams.nnz) - np.repeat(grams.indptr[:-1], sizes)
    kept = position < np.repeat(lengths, sizes)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return csr_matrix((grams.data[kept], grams.indices[kept], indptr), shape=grams.shape)


def cluster(data: Labelled, *, near: float = NEAR) -> Clusters:
    """Join examples of one group, of one text, and of nearly one text, and what hangs on those.

    Args:
        data: the examples.
        near: Jaccard index of character five-grams above which two texts are nearly the same.

    Example:
        >>> cluster(Labelled.make(["Hello you", "hello  you", "other"], ["a", "b", "a"])).ids.tolist()
        [0, 0, 1]
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    texts = contents(data)
    distinct: dict[str, int] = {}
    first = np.array([distinct.setdefault(text, row) for row, text in enumerate(texts)], dtype=np.int64)
    kept = np.unique(first)
    # Only distinct texts are compared, so that a thousand copies of "ok" do not make a million pairs.
    pairs = kept[near_duplicates([texts[row] for row in kept], near)] if len(kept) else np.empty((0, 2), np.int64)
    groups: dict[str, int] = {}
    owner = [row if name is None else groups.setdefault(name, row) for row, name in enumerate(data.frame["group"])]
    left = np.concatenate([np.arange(len(data)), np.arange(len(data)), pairs[:, 0]])
    right = np.concatenate([first, np.array(owner, dtype=np.int64), pairs[:, 1]])
    links = coo_matrix((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(data), len(data)))
    _, ids = connected_components(links, directed=False)
    labels = data.frame["label"].groupby(first).nunique()
    return Clusters(ids.astype(np.int64), len(data) - len(kept), len(pairs), int((labels > 1).sum()))
