"""Wrong labels made on purpose, with the truth kept, so that finding them can be measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tracemend.data.labels import label_name
from tracemend.data.schema import Labelled
from tracemend.errors import DataError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How labels are corrupted.

    Attributes:
        kind: one of ``KINDS``.
        rate: share of all labels that is flipped (``symmetric``, ``confusable``), from 0 up to but not including 1.
        seed: of every choice.
        matrix: from label -> to label -> share of the from label's examples (``class-conditional``).
        votes: columns with one annotator's label each (``annotator``).
        troll_share: share of the groups that are trolls (``trolls``), at least one.
        flip_share: share of its labels that a troll flips (``trolls``); 0.8 in SafetyMix (Ju et al. 2022,
            "Learning from data in the mixed adversarial non-adversarial case").
    """

    kind: str = "symmetric"
    rate: float = 0.3
    seed: int = 0
    matrix: Mapping[str, Mapping[str, float]] | None = None
    votes: tuple[str, ...] = ()
    troll_share: float = 0.3
    flip_share: float = 0.8


Rows = npt.NDArray[np.int64]
_Corrupt = Callable[[Labelled, Noise, np.random.Generator], list[str]]


def corrupt(
    data: Labelled,
    *,
    kind: str = "symmetric",
    rate: float = 0.3,
    seed: int = 0,
    matrix: Mapping[str, Mapping[str, float]] | None = None,
    votes: tuple[str, ...] | list[str] = (),
    troll_share: float = 0.3,
    flip_share: float = 0.8,
) -> Labelled:
    """The same examples with some labels wrong and the labels before as ``truth``.

    Arguments are those of :class:`Noise`. Shares are kept exactly (rounded to whole examples), not in expectation,
    so that seeds differ only in which labels are wrong. Where ``data`` carries truth already, that truth stays.

    Kinds:
        symmetric: a random share, each to another label, uniformly.
        class-conditional: from each label the shares of ``matrix`` to others (asymmetric noise).
        confusable: a share, preferably where a weak model is least sure (margin of an out-of-fold logistic
            regression on TF-IDF), to the label that it holds likeliest besides: instance-dependent noise.
        annotator: the label of one annotator drawn at random from those who voted on the example; real noise.
        trolls: some groups (authors) flip most of their labels.

    Raises:
        DataError: unknown kind or label, a share out of range, no groups, or no votes where they are needed.

    Example:
        >>> data = Labelled.make([f"text {i}" for i in range(10)], ["a", "b"] * 5)
        >>> noisy = corrupt(data, rate=0.3, seed=1)
        >>> int(noisy.wrong.sum()), noisy.uid == data.uid
        (3, True)
    """
    noise = Noise(
        kind=kind,
        rate=rate,
        seed=seed,
        matrix=matrix,
        votes=tuple(votes),
        troll_share=troll_share,
        flip_share=flip_share,
    )
    if kind not in KINDS:
        raise DataError(f"kind of noise {kind!r} is {did_you_mean(kind, KINDS)}")
    if len(data.labels) < 2:
        raise DataError(f"the only label is {data.labels[0]!r}; a wrong label needs at least two labels.")
    for name, share in (("rate", rate), ("troll_share", troll_share), ("flip_share", flip_share)):
        top_allowed = name != "rate"
        if not 0 <= share <= 1 or (share == 1 and not top_allowed):
            raise DataError(f"{name} is {share}; it must be a share from 0 to 1{'' if top_allowed else ' (excluded)'}.")
    labels = KINDS[kind](data, noise, np.random.default_rng(seed))
    truth = data.frame["truth"] if data.has_truth else data.frame["label"]
    return replace(data, frame=data.frame.assign(label=np.array(labels, dtype=object), truth=truth))


def _flipped(data: Labelled, rows: Rows, rng: np.random.Generator) -> list[str]:
    """The labels with those at ``rows`` changed to another one, uniformly."""
    y = data.y
    y[rows] = (y[rows] + rng.integers(1, len(data.labels), size=len(rows))) % len(data.labels)
    return [data.labels[i] for i in y]


def _symmetric(data: Labelled, noise: Noise, rng: np.random.Generator) -> list[str]:
    rows = rng.choice(len(data), size=round(noise.rate * len(data)), replace=False)
    return _flipped(data, rows, rng)


def _class_conditional(data: Labelled, noise: Noise, rng: np.random.Generator) -> list[str]:
    if not noise.matrix:
        raise DataError('class-conditional noise needs a matrix (--matrix), such as {"safe": {"unsafe": 0.3}}.')
    labels = list(data.frame["label"])
    for source, targets in noise.matrix.items():
        for name in (source, *targets):
            if name not in data.labels:
                raise DataError(f"label {name!r} in the noise matrix is {did_you_mean(name, data.labels)}")
        if source in targets or min(targets.values(), default=0.0) < 0 or sum(targets.values()) > 1:
            raise DataError(
                f"the shares from {source!r} in the noise matrix are {dict(targets)}; they must name other labels, be "
                "at least 0 and sum to at most 1."
            )
        rows = rng.permutation(np.flatnonzero((data.frame["label"] == source).to_numpy(dtype=bool)))
        bounds = np.round(np.cumsum([0.0, *targets.values()]) * len(rows)).astype(int)
        for target, start, stop in zip(targets, bounds[:-1], bounds[1:], strict=True):
            for row in rows[start:stop]:
                labels[row] = target
    return labels


def _confusable(data: Labelled, noise: Noise, rng: np.random.Generator) -> list[str]:
    probabilities = _out_of_fold(data, noise.seed)
    own = np.arange(len(data)), data.y
    others = probabilities.copy()
    others[own] = -np.inf
    margin = probabilities[own] - others.max(axis=1)
    # Weights fall with the cube of the rank: about 6 in 10 of the draws come from the least sure fifth. Adding Gumbel
    # noise to log weights and taking the largest draws without replacement (Vieira 2014).
    rank = margin.argsort(kind="stable").argsort(kind="stable")
    weight = 3 * np.log1p(-rank / len(data)) + rng.gumbel(size=len(data))
    labels = list(data.frame["label"])
    for row in np.argsort(-weight)[: round(noise.rate * len(data))]:
        labels[row] = data.labels[int(others[row].argmax())]
    return labels


def _out_of_fold(data: Labelled, seed: int) -> npt.NDArray[np.float64]:
    """Label probabilities [n, labels] by a weak model that has not seen the example."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline

    counts = np.bincount(data.y, minlength=len(data.labels))
    if counts.min() < 2:
        rare = data.labels[int(counts.argmin())]
        raise DataError(
            f"label {rare!r} has {counts.min()} examples; confusable noise needs at least 2 of each label, since a "
            "model is fitted without the example it judges."
        )
    texts = [text if reply is None else f"{text}\n{reply}" for text, reply in data.pairs]
    # Single characters count as words too, so that no text is without features.
    model = make_pipeline(TfidfVectorizer(token_pattern=r"\S+"), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(min(5, int(counts.min())), shuffle=True, random_state=seed)
    found: npt.NDArray[np.float64] = cross_val_predict(model, texts, data.y, cv=folds, method="predict_proba")
    return found


def _annotator(data: Labelled, noise: Noise, rng: np.random.Generator) -> list[str]:
    if not noise.votes:
        raise DataError("noise by annotator needs the columns that hold the votes, one an annotator (--votes).")
    for column in noise.votes:
        if column not in data.frame.columns:
            raise DataError(f"the vote column {column!r} is {did_you_mean(column, data.frame.columns)}")
    labels: list[str] = []
    for row, cells in enumerate(data.frame[list(noise.votes)].itertuples(index=False, name=None)):
        voted = [vote for vote in (_vote(cell, data, row) for cell in cells) if vote is not None]
        if not voted:
            raise DataError(f"no annotator voted on row {row} ({data.frame['text'].iloc[row][:40]!r}); leave it out.")
        labels.append(voted[int(rng.integers(len(voted)))])
    return labels


def _vote(cell: Any, data: Labelled, row: int) -> str | None:
    try:
        vote = label_name(cell)
    except TypeError:
        raise DataError(f"the vote {cell!r} in row {row} is {did_you_mean(str(cell), data.labels)}") from None
    if vote is not None and vote not in data.labels:
        raise DataError(f"the vote {vote!r} in row {row} is {did_you_mean(vote, data.labels)}")
    return vote


def _trolls(data: Labelled, noise: Noise, rng: np.random.Generator) -> list[str]:
    rows_of: dict[str, list[int]] = {}
    for row, group in enumerate(data.frame["group"]):
        if group is not None:
            rows_of.setdefault(group, []).append(row)
    if len(rows_of) < 2:
        raise DataError(
            f"noise by trolls needs at least two groups (authors), found {len(rows_of)}; "
            "name their column with --group."
        )
    names = sorted(rows_of)
    trolls = rng.choice(len(names), size=max(1, round(noise.troll_share * len(names))), replace=False)
    rows: list[int] = []
    for troll in trolls:
        own = rows_of[names[troll]]
        rows += rng.choice(own, size=round(noise.flip_share * len(own)), replace=False).tolist()
    return _flipped(data, np.array(rows, dtype=np.int64), rng)


KINDS: dict[str, _Corrupt] = {
    "symmetric": _symmetric,
    "class-conditional": _class_conditional,
    "confusable": _confusable,
    "annotator": _annotator,
    "trolls": _trolls,
}
