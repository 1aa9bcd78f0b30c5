"""From a score in units of its own to the probability that a label is wrong."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from sklearn.isotonic import IsotonicRegression

from tracemend.arrays import Floats, Indices
from tracemend.errors import TraceError
from tracemend.progress import Progress
from tracemend.trace.apart import judged_apart
from tracemend.trace.em import settled, true_labels
from tracemend.trace.groups import groups_of
from tracemend.trace.pool import Judged, pooled

if TYPE_CHECKING:
    from tracemend.trace.detectors.detector import Subject

# Of the network, whose states are the evidence; chosen on uci_sentiment_sentences and hatecheck.
LAYERS = 4


def calibrated(scores: npt.ArrayLike, wrong: npt.ArrayLike) -> npt.NDArray[np.float64]:
    r"""The probability that each label is wrong, monotone in its score [n].

    .. math:: P(wrong | score) = E[\, P(wrong | evidence) \,|\, score \,]

    by isotonic regression (Zadrozny and Elkan 2002) of what trusted evidence says of each label on the score. Where the
    score tells nothing of the evidence, all get nearly the mean of it. Only the order of the scores counts: equal
    scores get equal probabilities, and the mean probability is that of the evidence.

    Args:
        scores: [n], higher is more suspicious.
        wrong: probability by trusted evidence that the label is wrong [n], 0 to 1; NaN where there is none.

    Raises:
        TraceError: shapes differ, a score is not finite, or a probability is out of range.

    Example:
        >>> calibrated([1.0, 2.0, 3.0, 3.0], [0.2, 0.1, 0.9, 0.7])
        array([0.15, 0.15, 0.8 , 0.8 ])
    """
    score, target = np.asarray(scores, dtype=np.float64), np.asarray(wrong, dtype=np.float64)
    if score.ndim != 1 or score.shape != target.shape or not len(score):
        raise TraceError(
            f"scores have shape {score.shape} and probabilities {target.shape}; expected [n] twice, n >= 1."
        )
    if not np.isfinite(score).all():
        raise TraceError("the scores must be finite; one that is not cannot be ranked.")
    known = ~np.isnan(target)
    if (target[known] < 0).any() or (target[known] > 1).any():
        raise TraceError(f"probabilities run from {np.nanmin(target):g} to {np.nanmax(target):g}; expected 0 to 1.")
    if not known.any():
        return np.full(len(score), np.nan)
    # Ranks in place of scores: scikit-learn takes scores that lie within rounding of each other for equal.
    rank = np.unique(score, return_inverse=True)[1].astype(np.float64)
    fit = IsotonicRegression(y_min=0.0, y_max=1.0, increasing=True, out_of_bounds="clip")
    fit.fit(rank[known], target[known])
    return np.asarray(fit.predict(rank), dtype=np.float64)


def trusted_wrong(subject: Subject, progress: Progress = Progress()) -> npt.NDArray[np.float64]:
    """What the validation labels say of each training label: the probability that it is wrong [n].

    By the posterior of the true label on embeddings of the untuned model (see :func:`tracemend.trace.true_labels`), as
    sure as it proves on validation examples that it did not learn (:func:`tracemend.trace.apart.judged_apart`): where
    texts say little of their labels, little is denied.

    Returns:
        NaN for a label that the validation set lacks, and throughout where it has fewer than two labels.
    """
    train, validation = subject.splits.train, subject.splits.validation
    present = np.unique(validation.y)
    if len(present) < 2:
        progress.note("no calibrated probability", reason=f"the validation set has {len(present)} labels, not two")
        return np.full(len(train), np.nan)
    ours, theirs = (subject.embedded(part, progress, layers=LAYERS) for part in ("train", "validation"))
    wrong = proven_wrong(ours, train.y, theirs, validation.y, len(train.labels), groups=groups_of(validation))
    return np.where(np.isin(train.y, present), wrong, np.nan)


def proven_wrong(
    features: Floats,
    y: Indices,
    trusted_features: Floats,
    trusted_y: Indices,
    labels: int,
    *,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> npt.NDArray[np.float64]:
    """Probability that each label is wrong, as sure as it proves on trusted examples that it did not learn [n].

    Args:
        features: of the examples in question [n, D].
        y: their given label indices [n].
        trusted_features: of examples whose labels are right [m, D].
        trusted_y: their label indices [m].
        labels: how many labels there are.
        groups: of each trusted example; none is cut.
        seed: of the folds.

    Raises:
        TraceError: the trusted examples have one label only, or shapes differ.

    Example:
        >>> right = np.arange(200) % 2
        >>> states = np.random.default_rng(0).normal(size=(200, 8)) + 2 * right[:, None]
        >>> given = np.where(np.arange(200) < 20, 1 - right, right)  # the first twenty are wrong
        >>> found = proven_wrong(states[:100], given[:100], states[100:], right[100:], 2)
        >>> print(found[:20].mean().round(2), found[20:].mean().round(2))
        0.98 0.0
    """
    given = (features, y, trusted_features, trusted_y, labels)
    apart = judged_apart(*given, seed=seed, groups=groups)
    both, _ = pooled([Judged(true_labels(*given, seed=seed).predicted, apart.trusted)], trusted_y)
    posterior, _ = settled(both.train, y)
    return np.asarray(1.0 - posterior[np.arange(len(y)), y])
