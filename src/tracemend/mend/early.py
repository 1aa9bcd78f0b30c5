"""Early learning: how soon a tuning comes to decide by the words of the head, and which examples it learns first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracemend.data import Labelled
from tracemend.data.words import words_of
from tracemend.progress import Progress
from tracemend.tuning import TextClassifier
from tracemend.tuning.checkpoints import Checkpoint

# The first two words of each text: columns first, second.
FirstWords = Callable[[TextClassifier, Labelled, Progress], pd.DataFrame]


def with_the_head(data: Labelled, head: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Which texts hold a word of the head that goes with their own label [n]: those a shortcut gets right.

    Args:
        data: the texts.
        head: with the columns word and label, see :func:`tracemend.mend.head_words.head_of`.
    """
    of = {name: set(own["word"]) for name, own in head.groupby("label")}
    found = []
    for pair, label in zip(data.pairs, data.frame["label"], strict=True):
        held = {text[s:e].casefold() for text in pair if text for s, e in words_of(text)}
        found.append(bool(held & of.get(label, set())))
    return np.array(found, dtype=bool)


def learning_curve(
    fresh: TextClassifier,
    checkpoints: Iterable[Checkpoint],
    train: Labelled,
    head: pd.DataFrame,
    chance: Collection[str],
    first_words: FirstWords,
    *,
    followed: npt.NDArray[np.int64],
    progress: Progress = Progress(),
) -> pd.DataFrame:
    """What a classifier decided by, and what it had learnt, before its tuning and at each of its checkpoints.

    A shortcut that is learnt early shows twice (Du et al. 2021): the share ``first_two`` is reached long before the
    last step, and the loss of texts that the head gets right falls before that of the others.

    Args:
        fresh: as it was before the tuning; its parameters are changed.
        checkpoints: of the tuning, in their order.
        train: what was tuned on.
        head: words that go with a label, with their labels.
        chance: the head of the same texts with shuffled labels.
        first_words: of a classifier's texts.
        followed: places of the training texts that they are taken of.
        progress: shown.

    Returns:
        One row a checkpoint: ``step`` (0 before the tuning); of the followed texts the shares whose first two words
        hold one of the head (``first_two``), and one of the chance head (``shuffled``); of all training texts ``loss``
        and ``accuracy`` of those with a word of the head that goes with their label (``_with``) and of the others
        (``_without``), NaN where there are none.
    """
    holding, texts = with_the_head(train, head), train.take(followed)
    heads = {"first_two": set(head["word"]), "shuffled": set(chance)}
    rows = []
    for step, checkpoint in [(0, None), *((checkpoint.step, checkpoint) for checkpoint in checkpoints)]:
        if checkpoint is not None:
            fresh.restore(checkpoint.load_state())
        p = fresh.probabilities(train.pairs, progress=progress).astype(np.float64)
        loss = -np.log(np.clip(p[np.arange(len(train)), train.y], 1e-12, None))
        right = p.argmax(axis=1) == train.y
        words = first_words(fresh, texts, progress)
        shares = {
            name: float((words["first"].isin(own) | words["second"].isin(own)).mean()) for name, own in heads.items()
        }
        figures = {
            f"{name}_{side}": float(values[part].mean()) if part.any() else float("nan")
            for name, values in (("loss", loss), ("accuracy", right))
            for side, part in (("with", holding), ("without", ~holding))
        }
        rows.append({"step": step, **shares, **figures})
    return pd.DataFrame(rows)
