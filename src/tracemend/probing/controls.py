"""What a probe's figure must beat: labels without meaning, word types, frequencies, neighbours."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tracemend.arrays import Indices


def control_task(forms: Sequence[Sequence[str]], y: Indices, classes: int, *, seed: int = 0) -> list[Indices]:
    """A random label for every word type, the same wherever it stands (Hewitt and Liang 2019, arXiv 1909.03368).

    Nothing but the word's identity can predict it, so what a probe reaches here it learnt by heart; accuracy on the
    task minus accuracy on this one is the probe's selectivity.

    Args:
        forms: the word of each item, for several parts.
        y: label indices of the first part, whose frequencies the random labels have.
        classes: how many labels there are.

    Returns:
        Label indices of each part.

    Example:
        >>> a, b = control_task([["the", "cat", "the"], ["cat"]], np.array([0, 1, 0]), 2)
        >>> bool(a[0] == a[2]) and bool(a[1] == b[0])
        True
    """
    shares = np.bincount(y, minlength=classes) / len(y)
    types = sorted({form for part in forms for form in part})
    drawn = np.random.default_rng(seed).choice(classes, size=len(types), p=shares)
    label = dict(zip(types, drawn.tolist(), strict=True))
    return [np.array([label[form] for form in part], dtype=np.int64) for part in forms]


def type_majority(train: Sequence[str], y: Indices, test: Sequence[str]) -> Indices:
    """For each test word the label that it mostly has in training; for an unknown one the most frequent label."""
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for form, label in zip(train, y.tolist(), strict=True):
        counts[form][label] += 1
    # Of equally frequent labels the one that is commoner over all, so that no order of the data matters.
    overall = Counter(y.tolist())
    best = {form: max(of, key=lambda c: (of[c], overall[c], -c)) for form, of in counts.items()}
    fallback = max(overall, key=lambda c: (overall[c], -c))
    return np.array([best.get(form, fallback) for form in test], dtype=np.int64)


def local_context(hidden: Tensor, sentence: Indices) -> Tensor:
    """Vectors of layer 0 of a word and its two neighbours, side by side [1, n, 3 d], zeros past the ends.

    What a probe reads from these is local (Kunz and Kuhlmann 2020): only what a layer has beyond it comes from context
    at large.

    Args:
        hidden: vectors of layer 0 of all words [n, d], sentence after sentence.
        sentence: of each word [n].
    """
    same = torch.from_numpy(sentence[1:] == sentence[:-1])[:, None]
    before, after = torch.zeros_like(hidden), torch.zeros_like(hidden)
    before[1:] = hidden[:-1] * same
    after[:-1] = hidden[1:] * same
    return torch.cat([before, hidden, after], dim=1)[None]
