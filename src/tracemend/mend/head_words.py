"""Words that go with a label in the training data: the head of the distribution that shortcuts are learnt from."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pandas as pd

from tracemend.data import Labelled
from tracemend.data.words import words_of
from tracemend.errors import DataError

# Of rarer words the share of a label is a matter of luck.
FEWEST = 5


def local_mutual_information(data: Labelled, *, fewest: int = FEWEST) -> pd.DataFrame:
    r"""How much each word goes with a label (Du et al. 2021), the strongest first.

    .. math:: LMI(w, y) = p(w, y) \log \frac{p(y \mid w)}{p(y)}

    with p(w, y) the share of all occurrences of words that are of w in texts of label y. Case is ignored; signs that
    are no letter or digit are no words.

    Args:
        data: labelled texts; words of replies count as those of texts.
        fewest: occurrences that a word has at least.

    Returns:
        One row a word: word, label (that it goes with most), lmi, count, share (of its occurrences that are in texts
        of this label).

    Raises:
        DataError: all texts have one label, or no word is frequent enough.

    Example:
        >>> local_mutual_information(splits.train).head(3)
    """
    counts: dict[str, Counter[str]] = {label: Counter() for label in data.labels}
    for pair, label in zip(data.pairs, data.frame["label"], strict=True):
        counts[label].update(
            text[s:e].casefold()
            for text in pair
            if text
            for s, e in words_of(text)
            if any(sign.isalnum() for sign in text[s:e])
        )
    of_label = {label: sum(held.values()) for label, held in counts.items()}
    present = [label for label in data.labels if of_label[label]]
    if len(present) < 2:
        raise DataError(f"all texts have the label {''.join(present)!r}, so no word goes with one; give two labels.")
    total = sum(of_label.values())
    every: Counter[str] = sum(counts.values(), Counter())
    rows = []
    for word, count in every.items():
        if count < fewest:
            continue
        scored = [
            (held / total * math.log(held / count * total / of_label[label]), label, held / count)
            for label in present
            if (held := counts[label][word])
        ]
        lmi, label, share = max(scored)
        rows.append({"word": word, "label": label, "lmi": lmi, "count": count, "share": share})
    if not rows:
        raise DataError(f"no word occurs {fewest} times in the training texts; give more texts.")
    return pd.DataFrame(rows).sort_values(["lmi", "word"], ascending=[False, True]).reset_index(drop=True)


def head_of(table: pd.DataFrame, share: float) -> pd.DataFrame:
    """The first rows of :func:`local_mutual_information`, this share of them, at least one."""
    return table.head(max(1, math.ceil(share * len(table))))


def with_shuffled_labels(data: Labelled, seed: int) -> Labelled:
    """The same texts with their labels in another order: their head is what chance makes of as many words."""
    order = np.random.default_rng(seed).permutation(len(data))
    frame = data.frame
    return Labelled.make(
        list(frame["text"]),
        list(frame["label"].to_numpy()[order]),
        replies=list(frame["reply"]),
        label_names=data.labels,
        positive=data.positive,
    )
