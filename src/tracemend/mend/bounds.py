"""How many labels may be acted on: by the rate of false discoveries, and by how much noise there is at all."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from tracemend.arrays import Indices
from tracemend.data.schema import members
from tracemend.errors import NoSignalError, TraceError
from tracemend.trace.confident import confident_joint

# Over this share of wrong labels the right ones are the exception.
MOST_NOISE = 0.5


@dataclass(frozen=True, kw_only=True)
class NoiseRate:
    """Estimated share of wrong labels.

    Attributes:
        rate: the mean of P(wrong).
        low: lower end of its bootstrap interval.
        high: upper end.
        joint: the same by the confident joint, another estimate of the same thing, for comparison.
        n: examples.
    """

    rate: float
    low: float
    high: float
    joint: float
    n: int

    @property
    def most(self) -> int:
        """The most labels to act on: the upper end of the interval times N."""
        return min(self.n, int(np.floor(self.high * self.n + 1e-9)))

    @property
    def by_joint(self) -> float:
        """The confident joint's estimate, at most one half, as :func:`tracemend.trace.noise_estimate` gives it."""
        return min(self.joint, MOST_NOISE)

    @property
    def facts(self) -> dict[str, float]:
        """As JSON values."""
        return asdict(self)

    @property
    def metrics(self) -> dict[str, float]:
        """The estimate beside ``estimated_noise``, as metrics of a run."""
        return {
            "estimated_noise_low": self.low,
            "estimated_noise_high": self.high,
            "estimated_noise_joint": self.joint,
        }

    @classmethod
    def of(cls, facts: Mapping[str, float]) -> NoiseRate:
        """From the :attr:`facts`."""
        return cls(**{**facts, "n": int(facts["n"])})  # type: ignore[arg-type]

    @property
    def sentence(self) -> str:
        """The estimate and its bound in words."""
        return f"{self._estimate}, so at most {self.most} of {self.n} are acted on."

    def sentence_given(self, noise: float, most: int) -> str:
        """The estimate in words where a person gave another share of wrong labels, and with it the bound.

        Args:
            noise: the share that was given.
            most: labels that are acted on at most by it.
        """
        return (
            f"{self._estimate}; the share that was given, {noise:.1%}, holds in its place, so at most {most} of "
            f"{self.n} are acted on."
        )

    @property
    def _estimate(self) -> str:
        return (
            f"{self.rate:.1%} of the training labels are estimated to be wrong ({self.low:.1%} to {self.high:.1%}; by "
            f"the confident joint {self.joint:.1%})"
        )


def fdr_prefix(wrong: npt.ArrayLike, fdr: float | None, earlier: Sequence[float] = ()) -> Indices:
    """The longest prefix of the suspects, most suspicious first, that keeps to a false discovery rate.

    Of the k likeliest to be wrong an expected share ``mean(1 - P(wrong))`` is right. That share rises with k, so the
    longest prefix at or under ``fdr`` is well defined, and a higher ``fdr`` never takes fewer. The bound is as good as
    the probabilities are calibrated (Storey 2003, "The positive false discovery rate: a Bayesian interpretation and
    the q-value", calls this mean the Bayesian false discovery rate).

    Args:
        wrong: P(wrong) of each suspect [n].
        fdr: from 0 to 1; None takes all.
        earlier: P(wrong) of those who were acted on before; the bound is of all together.

    Returns:
        Positions into ``wrong``, the most suspicious first; of equals the earlier first.

    Raises:
        TraceError: a value is out of range.

    Example:
        >>> fdr_prefix([0.6, 0.99, 0.9], 0.1).tolist()
        [1, 2]
    """
    p = np.asarray(wrong, dtype=np.float64)
    if p.ndim != 1 or not np.isfinite(p).all() or (len(p) and (p.min() < -1e-9 or p.max() > 1 + 1e-9)):
        raise TraceError(f"P(wrong) has shape {p.shape} and must hold probabilities from 0 to 1, one a suspect.")
    order = np.argsort(-p, kind="stable").astype(np.int64)
    if fdr is None:
        return order
    if not 0 <= fdr <= 1:
        raise TraceError(f"the false discovery rate is {fdr}; choose one from 0 to 1, such as 0.1.")
    right = np.sum(1.0 - np.asarray(earlier, dtype=np.float64)) + np.cumsum(1.0 - p[order])
    within = np.flatnonzero(right <= (fdr + 1e-12) * (len(earlier) + np.arange(1, len(p) + 1)))
    return order[: int(within[-1]) + 1] if len(within) else order[:0]


def noise_rate(
    wrong: npt.ArrayLike,
    y: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> NoiseRate:
    """The share of wrong labels by the posterior, with its interval, and by the confident joint.

    The interval is the percentile bootstrap over examples; with groups (authors), whole groups are drawn, since the
    labels of one author are wrong together. It says how far the mean would move with other examples, not how far the
    posterior is from the truth; that is what the second estimate is for.

    Args:
        wrong: P(wrong) of each example [n].
        y: given label indices [n].
        probabilities: out of fold [n, C], for the confident joint.
        groups: whose examples are drawn together [n]; None or NaN stands alone.
        resamples: how many.
        level: of the interval.
        seed: of the draws.

    Raises:
        TraceError: shapes differ or a value is out of range.
    """
    p = np.asarray(wrong, dtype=np.float64)
    joint = float(np.clip(1.0 - np.trace(confident_joint(y, probabilities)), 0.0, 1.0))
    if p.shape != np.asarray(y).shape or not len(p):
        raise TraceError(f"P(wrong) has shape {p.shape}; expected one for each of {len(np.asarray(y))} labels.")
    units = np.arange(len(p)) if groups is None else members(groups)
    sums, sizes = np.bincount(units, weights=p), np.bincount(units)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for k in range(resamples):
        drawn = rng.integers(0, len(sums), len(sums))
        means[k] = sums[drawn].sum() / sizes[drawn].sum()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return NoiseRate(rate=float(p.mean()), low=float(low), high=float(high), joint=joint, n=len(p))


def refuse_noise(found: NoiseRate, *, trusted: bool) -> None:
    """Refuse to repair where most labels would have to be wrong.

    Args:
        found: the estimate.
        trusted: whether the validation labels were taken for right.

    Raises:
        NoSignalError: the estimate is above 50 %.
    """
    if found.rate <= MOST_NOISE:
        return
    why = (
        "the training labels contradict the validation labels. If it is the validation labels that may be wrong, use "
        "--validation noisy; else check that both files use the same label names for the same things"
        if trusted
        else "by the texts the labels carry no signal that could tell right from wrong. Check that the label column is "
        "the right one and that the labels belong to these texts, and have some of them labelled anew"
    )
    raise NoSignalError(
        f"{found.rate:.0%} of {found.n} training labels are estimated to be wrong ({found.low:.0%} to "
        f"{found.high:.0%}; by the confident joint {found.joint:.0%}), expected at most "
        f"{MOST_NOISE:.0%}: the labels carry no signal to repair by; {why}. Nothing was changed."
    )


def refuse_one_label(left: Sequence[int], labels: Sequence[str], why: str) -> None:
    """Refuse decisions after which one label only would be left to tune on.

    Args:
        left: examples of each label that would be left [C].
        labels: their names [C].
        why: what took the others, such as ``"the answers of questions.csv"``.

    Raises:
        TraceError: fewer than two labels are left.
    """
    kept = [name for name, count in zip(labels, left, strict=True) if count]
    if len(kept) < 2:
        raise TraceError(
            f"{why} would leave {' and '.join(map(repr, kept)) or 'no label'} alone of {len(labels)} labels, and a "
            "classifier needs two. Either the other labels are all wrong, and there is nothing to learn here; or the "
            "labels that judged them are: look at these, or choose a lower --fdr. Nothing was changed."
        )
