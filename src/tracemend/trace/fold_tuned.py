"""What models tuned on the other folds say of each example: evidence that a frozen embedding does not have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import log_softmax, logsumexp, softmax

from tracemend.data import Labelled
from tracemend.errors import TraceError
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.trace.em import folds_of
from tracemend.trace.groups import groups_of
from tracemend.tuning import Tuning, tune

Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

# A label that is believed less than this is not taught.
_SURE = 0.6
# How often a trusted example is seen for each time another one is.
_REPEATS = 2
# No model is surer than this of what it has not seen.
_LEAST = 1e-4
# Strength of the pull of weights towards an equal share.
_PULL = 2.0


@dataclass(frozen=True, eq=False)
class Judged:
    """Probabilities of the labels by models that did not see the example.

    Attributes:
        train: of the examples in question [n, C].
        trusted: of the trusted ones [m, C].
    """

    train: Doubles
    trusted: Doubles


def fold_tuned(
    model: LanguageModel,
    train: Labelled,
    trusted: Labelled,
    believed: Doubles,
    tuning: Tuning,
    *,
    folds: int = 5,
    seed: int = 0,
    out: Path | None = None,
    progress: Progress = Progress(),
) -> Judged:
    """Tune a model for each fold on the others, with the labels that are believed, and let it judge its fold.

    Trusted examples are cut into the same number of folds and judged likewise, so that what the models say of them is
    as far from what they were taught as what they say of the others. Their groups are not cut: the others' groups have
    labels that may be wrong, theirs would vouch for them.

    Args:
        train: the examples in question; of their labels only ``believed`` is looked at.
        trusted: examples whose labels are right.
        believed: probability of each true label of ``train`` [n, C], see :func:`tracemend.trace.true_labels`. The
            likeliest is taught where it is likelier than 0.6.
        tuning: of each fold's model; a few epochs are enough.
        folds: at most; fewer where a label has fewer examples.
        out: folder of their checkpoints, with which a stopped tuning goes on; None keeps none.

    Raises:
        TraceError: shapes differ.
        TuningError: a fold cannot be tuned on.

    Example:
        >>> found = fold_tuned(model, splits.train, splits.validation, beliefs.posterior, Tuning(epochs=3))
        >>> found.train.shape
        (500, 2)
    """
    if believed.shape != (len(train), len(train.labels)):
        raise TraceError(f"beliefs have shape {believed.shape}; expected {(len(train), len(train.labels))}.")
    likeliest = believed.argmax(axis=1)
    taught = train.relabelled({uid: train.labels[c] for uid, c in zip(train.uid, likeliest, strict=True)})
    sides = ((likeliest, None), (trusted.y, groups_of(trusted)))
    most = min(len(folds_of(y, folds, seed)) for y, _ in sides)
    parts = list(zip(*(folds_of(y, most, seed, groups) for y, groups in sides), strict=True))
    found = Judged(np.zeros_like(believed), np.zeros((len(trusted), len(trusted.labels))))
    for number, ((learn, judge), (known, asked)) in enumerate(progress.track(parts, task="tune on the other folds")):
        sure = learn[believed[learn].max(axis=1) > _SURE]
        held = trusted.take(known)
        lesson = _together(taught.take(sure), held)
        once = replace(tuning, patience=0, seed=tuning.seed + seed)
        kept = None if out is None else out / f"fold-{number}"
        tuned = tune(model, lesson, held, once, out=kept, progress=progress)
        for target, rows, data in ((found.train, judge, train), (found.trusted, asked, trusted)):
            logits = tuned.classifier.predict(data.take(rows).pairs, progress=progress)
            target[rows] = softmax(logits.astype(np.float64), axis=1)
    return found


def pooled(sources: list[Judged], trusted_y: Indices) -> tuple[Judged, Doubles]:
    r"""One probability from several: a logarithmic opinion pool with weights learnt on the trusted examples.

    .. math:: p(c) \propto \prod_s p_s(c)^{w_s}, \qquad w_s \ge 0

    (Genest and Zidek 1986). The weights are those of the lowest loss on the trusted examples, pulled towards an equal
    share, so that what says nothing weighs nothing and what is too sure is toned down.

    Args:
        sources: of the same examples, none of them judged by what it was taught.
        trusted_y: label indices of the trusted examples [m].

    Returns:
        The pooled probabilities, and the weights [sources].

    Raises:
        TraceError: there is no source.

    Example:
        >>> both, weights = pooled([frozen, tuned], validation.y)
    """
    if not sources:
        raise TraceError("there is nothing to pool; give the probabilities of one model at least.")
    logs = [
        np.log(np.clip([s.train for s in sources], _LEAST, None)),
        np.log(np.clip([s.trusted for s in sources], _LEAST, None)),
    ]
    share = 1.0 / len(sources)
    rows = np.arange(len(trusted_y))

    def loss(weights: npt.NDArray[Any]) -> float:
        mixed = np.tensordot(weights, logs[1], axes=1)
        own = mixed[rows, trusted_y] - logsumexp(mixed, axis=1)
        return float(-own.sum() + _PULL * ((weights - share) ** 2).sum())

    weights = minimize(loss, np.full(len(sources), share), bounds=[(0.0, None)] * len(sources)).x
    train, trusted = (np.exp(log_softmax(np.tensordot(weights, log, axes=1), axis=1)) for log in logs)
    return Judged(train, trusted), weights


def _together(taught: Labelled, held: Labelled) -> Labelled:
    """Both, the second so often that it counts double; ids are made anew, for a text may stand in it twice."""
    frames = [taught.frame, *[held.frame] * _REPEATS]
    texts, replies, labels = (
        [value for frame in frames for value in frame[column]] for column in ("text", "reply", "label")
    )
    return Labelled.make(texts, labels, replies=replies, label_names=taught.labels, positive=taught.positive)
