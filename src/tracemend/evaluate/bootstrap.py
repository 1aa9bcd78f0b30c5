"""Whether a difference is shown: paired bootstrap intervals over examples; what share of a loss came back, over seeds.

The bootstrap interval is the percentile interval of Efron (1979): resample the examples with replacement, take the
difference of both classifiers on the same resample, and read off the quantiles. Pairing removes what both share,
so far smaller differences can be shown than from two separate intervals. What is drawn are groups, where there are
any; of few of them the interval is another one (:mod:`tracemend.evaluate.resampling`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from tracemend.arrays import Indices
from tracemend.errors import TracemendError, did_you_mean
from tracemend.evaluate.metrics import METRICS, Floats, checked, predictions
from tracemend.evaluate.resampling import clusters as numbered
from tracemend.evaluate.resampling import interval


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One figure before and after, on the same examples.

    Attributes:
        metric: ``ap``, ``accuracy`` or ``macro_f1``.
        before: the figure of the first classifier.
        after: the figure of the second.
        difference: after minus before.
        low: lower end of the difference's interval.
        high: upper end.
        shown: whether the interval excludes zero.
        n: examples compared.
    """

    metric: str
    before: float
    after: float
    difference: float
    low: float
    high: float
    shown: bool
    n: int


@dataclass(frozen=True, kw_only=True)
class Share:
    """The share of what label noise cost that a repair brought back.

    Attributes:
        share: 1 is all of it, 0 none, below 0 is worse than no repair; NaN where ``reason`` says why.
        low: lower end of the interval; NaN where there is none.
        high: upper end.
        gap: mean of clean minus corrupted, what could be recovered.
        gap_low: lower end of the gap's interval over seeds.
        gap_high: upper end.
        seeds: paired seeds.
        sets: groups of seeds whose means the intervals go by; 1 where they go by the seeds themselves.
        reason: why the share or its interval is not defined, as a sentence; None where both are.
    """

    share: float
    low: float
    high: float
    gap: float
    gap_low: float
    gap_high: float
    seeds: int
    sets: int = 1
    reason: str | None = None


def paired_bootstrap(
    metric: str,
    y: npt.ArrayLike,
    before: npt.ArrayLike,
    after: npt.ArrayLike,
    *,
    positive_index: int = 1,
    thresholds: tuple[float | None, float | None] = (None, None),
    groups: Sequence[Hashable] | None = None,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare two classifiers on the same examples.

    Args:
        metric: ``ap``, ``accuracy`` or ``macro_f1``, as :func:`tracemend.evaluate.scores` defines them.
        y: true label indices [n_examples].
        before: probabilities of the first classifier [n_examples, C].
        after: probabilities of the second, same shape.
        positive_index: the positive label's column (two labels).
        thresholds: from which probability on each classifier predicts the positive label (two labels).
        groups: whose examples are resampled together (authors, conversations): [n_examples]; None or NaN marks
            an example that stands alone.
        n: resamples.
        level: of the interval.
        seed: of the resampling.

    Returns:
        The comparison; ``shown`` only where the interval excludes zero. Resamples in which the figure is not
        defined (no positive example among them) are left out; with more than two labels the average precision of a
        resample is the mean over the labels that it holds. Of a single group nothing is shown.

    Raises:
        TracemendError: no such metric, or shapes that do not fit.

    Example:
        >>> y, p = [0, 1] * 20, [[0.6, 0.4], [0.4, 0.6]] * 20
        >>> paired_bootstrap("ap", y, p, p).shown
        False
    """
    if metric not in METRICS:
        raise TracemendError(f"metric {metric!r} is {did_you_mean(metric, METRICS)}")
    labels, p_before = checked(y, before)
    _, p_after = checked(y, after)
    if p_before.shape != p_after.shape:
        raise TracemendError(f"probabilities before have shape {p_before.shape}, after {p_after.shape}; give the same.")
    figure_before = _weighted(metric, labels, p_before, positive_index, thresholds[0])
    figure_after = _weighted(metric, labels, p_after, positive_index, thresholds[1])
    whole = np.ones((1, len(labels)))
    first, second = float(figure_before(whole)[0]), float(figure_after(whole)[0])

    def difference(weights: Floats) -> Floats:
        return np.asarray(figure_after(weights) - figure_before(weights))

    of = numbered(groups, len(labels))
    low, high = interval(difference, of, bounds=(-1.0, 1.0), n=n, level=level, seed=seed)
    return Comparison(
        metric=metric,
        before=first,
        after=second,
        difference=second - first,
        low=low,
        high=high,
        shown=bool(low > 0 or high < 0),
        n=len(labels),
    )


def recovered_share(
    clean: npt.ArrayLike,
    corrupted: npt.ArrayLike,
    repaired: npt.ArrayLike,
    *,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Share:
    r"""Share of the lost figure that was recovered, over paired seeds.

    ``sum(repaired - corrupted) / sum(clean - corrupted)``: the ratio of sums, because a mean of ratios lets the
    seed with the smallest gap decide. Seeds of several ``clusters`` (sets) are first averaged within each, so that the
    sets count alike and the intervals are about further sets.

    The interval is Fieller's (1954, "Some problems in interval estimation"): every share :math:`\theta` for which a
    paired t test of gain :math:`- \theta` gap finds no difference from zero. It needs no large number of seeds, as a
    percentile bootstrap does. The share is not defined where the gap itself is within seed noise, that is where its t
    interval reaches down to zero: a ratio to nothing, of which Fieller's interval has no ends either.

    Args:
        clean: the figure after tuning on clean labels, one a seed [s].
        corrupted: the same after tuning on corrupted labels [s].
        repaired: the same after repair [s].
        clusters: the set of each seed [s]; None: all are of one.
        level: of both intervals.

    Raises:
        TracemendError: the three do not have one figure a seed, or one is not finite.

    Example:
        >>> recovered_share([0.9, 0.92], [0.7, 0.71], [0.85, 0.86]).share.__round__(2)
        0.73
    """
    arms = [np.asarray(values, dtype=np.float64) for values in (clean, corrupted, repaired)]
    if arms[0].ndim != 1 or len({a.shape for a in arms}) != 1 or not len(arms[0]):
        raise TracemendError(
            f"clean, corrupted and repaired have shapes {', '.join(str(a.shape) for a in arms)}; "
            "expected one figure a seed in each, the same seeds in the same order."
        )
    if not all(np.isfinite(a).all() for a in arms):
        raise TracemendError(
            "clean, corrupted or repaired holds NaN or an infinity; leave such seeds out of all three."
        )
    gaps, gains = arms[0] - arms[1], arms[2] - arms[1]
    seeds, sets, nan = len(gaps), 1, float("nan")
    if clusters is not None:
        of = numbered(clusters, seeds, "seed")
        sets = int(of.max()) + 1
        if sets > 1:
            gaps, gains = (np.bincount(of, weights=values) / np.bincount(of) for values in (gaps, gains))
    gap = float(gaps.mean())
    if seeds == 1:
        if not gap > 0:
            why = f"the corrupted labels cost nothing here (gap {gap:+.3f}): there is nothing to recover."
            return Share(share=nan, low=nan, high=nan, gap=gap, gap_low=nan, gap_high=nan, seeds=1, reason=why)
        why = "one seed: the share has no interval over seeds."
        share = float(gains[0] / gaps[0])
        return Share(share=share, low=nan, high=nan, gap=gap, gap_low=nan, gap_high=nan, seeds=1, reason=why)
    # Of the mean gap and the mean gain: t squared times their variances and covariance.
    n = len(gaps)
    spread = float(stats.t.ppf((1 + level) / 2, n - 1)) ** 2 * np.cov(gaps, gains) / n
    gap_low, gap_high = (gap + sign * float(np.sqrt(spread[0, 0])) for sign in (-1, 1))
    if not gap_low > 0:
        over = f"{sets} sets" if sets > 1 else f"{seeds} seeds"
        why = (
            f"the gap between clean and corrupted, {gap:.3f} ({gap_low:.3f} to {gap_high:.3f} over {over}), "
            "is within seed noise: there is nothing to recover that could be measured."
        )
        return Share(
            share=nan, low=nan, high=nan, gap=gap, gap_low=gap_low, gap_high=gap_high,
            seeds=seeds, sets=sets, reason=why,
        )  # fmt: skip
    gain = float(gains.mean())
    # The ends solve (gain - share gap)^2 = variance of that difference, a parabola that opens upwards here.
    a, b, c = gap**2 - spread[0, 0], gap * gain - spread[0, 1], gain**2 - spread[1, 1]
    half = float(np.sqrt(max(0.0, b * b - a * c)))
    return Share(
        share=gain / gap,
        low=float((b - half) / a),
        high=float((b + half) / a),
        gap=gap,
        gap_low=gap_low,
        gap_high=gap_high,
        seeds=seeds,
        sets=sets,
    )


def _weighted(
    metric: str, y: Indices, p: Floats, positive_index: int, threshold: float | None
) -> Callable[[Floats], Floats]:
    """The metric as a function of example weights [b, n] -> [b]; the same as scikit-learn's with ``sample_weight``."""
    if metric == "ap":
        columns = [positive_index] if p.shape[1] == 2 else list(range(p.shape[1]))
        each = [_weighted_ap(y == c, p[:, c]) for c in columns if (y == c).any()]
        return lambda w: _mean_of_defined(np.array([f(w) for f in each]).reshape(len(each), len(w)))
    predicted = predictions(p, positive_index, threshold)
    if metric == "accuracy":
        right = (predicted == y).astype(np.float64)
        return lambda w: np.asarray(w @ right / w.sum(axis=1))
    is_true = (y[:, None] == np.arange(p.shape[1])).astype(np.float64)
    is_predicted = (predicted[:, None] == np.arange(p.shape[1])).astype(np.float64)

    def macro_f1(w: Floats) -> Floats:
        hits, carried = w @ (is_true * is_predicted), w @ is_true + w @ is_predicted
        occurs = carried > 0
        return np.asarray((2 * hits / np.where(occurs, carried, 1)).sum(axis=1) / occurs.sum(axis=1))

    return macro_f1


def _weighted_ap(positive: npt.NDArray[np.bool_], score: Floats) -> Callable[[Floats], Floats]:
    order = np.argsort(-score, kind="stable")
    descending, hit = score[order], positive[order].astype(np.float64)
    # Equal scores are one threshold: precision and recall count only where a run of them ends.
    ends = np.append(np.flatnonzero(np.diff(descending)), len(score) - 1)

    def average_precision(w: Floats) -> Floats:
        ordered = w[:, order]
        flagged = np.cumsum(ordered, axis=1)[:, ends]
        hits = np.cumsum(ordered * hit, axis=1)[:, ends]
        gained = np.diff(hits, axis=1, prepend=0.0)
        total = hits[:, -1]
        area = (gained * hits / np.maximum(flagged, 1e-12)).sum(axis=1)
        return np.where(total > 0, area / np.where(total > 0, total, 1), np.nan)

    return average_precision


def _mean_of_defined(values: Floats) -> Floats:
    """Mean over the first axis of [k, b] without what is NaN; NaN where all are."""
    defined = np.isfinite(values)
    count = defined.sum(axis=0)
    return np.where(count > 0, np.where(defined, values, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)
