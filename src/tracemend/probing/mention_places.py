"""What the places of mentions give away of reference: a control without words or model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from tracemend.arrays import Floats
from tracemend.data import Pronoun
from tracemend.threads import one_thread


def by_place(train: Sequence[Pronoun], test: Sequence[Pronoun]) -> Floats:
    """Hits of a logistic regression on where candidates stand, learnt from other examples [n].

    Of each candidate it sees the distance to the pronoun in words (logarithm, with its direction), whether it stands
    behind, its place as a share of the text and its number of words; the same of the other candidates (their mean);
    which of them comes first; and products of two of these. No word and no vector goes in. A network that was never
    trained knows as much by its position embeddings, so a probe must beat this before it says anything of meaning.

    Args:
        train: examples with exactly one right candidate.
        test: likewise.

    Returns:
        1 where the candidate with the highest score is the right one, else 0.

    Example:
        >>> from tracemend.probing.coreference import usable
        >>> parts, _ = usable(read_gap("gap"), train=400, test=400, seed=0)
        >>> by_place(parts["train"], parts["test"]).mean() > 0.6
        True
    """
    seen = [_features(example) for example in train]
    right = np.concatenate([_right(example) for example in train])
    # Penalty and products were chosen on GAP's validation part.
    found = make_pipeline(StandardScaler(), PolynomialFeatures(2), LogisticRegression(C=0.01, max_iter=1000))
    with one_thread():
        found.fit(np.concatenate(seen), right)
    hits = [found.decision_function(_features(e)).argmax() in e.right for e in test]
    return np.array(hits, dtype=np.float64)


def _features(example: Pronoun) -> Floats:
    """Of each candidate its own, the others' mean, and its rank from 0 to 1 [candidates, 9]."""
    begin, end = example.pronoun
    rows = []
    for first, last in example.candidates:
        behind = first >= end
        distance = first - end if behind else begin - last
        rows.append(((-1) ** behind * np.log1p(max(distance, 0)), behind, first / len(example.words), last - first))
    own = np.array(rows, dtype=np.float64)
    others = (own.sum(0) - own) / max(len(own) - 1, 1)
    rank = np.array([first for first, _ in example.candidates]).argsort(kind="stable").argsort() / max(len(own) - 1, 1)
    return np.concatenate([own, others, rank[:, None]], axis=1)


def _right(example: Pronoun) -> npt.NDArray[np.bool_]:
    return np.isin(np.arange(len(example.candidates)), example.right)
