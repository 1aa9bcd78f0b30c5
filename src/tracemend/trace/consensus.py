"""One belief about the true labels, from all evidence that no label gives for itself."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tracemend.arrays import Doubles
from tracemend.data import Labelled
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.trace.apart import judged_apart
from tracemend.trace.em import Floats, check_labels, settled, true_labels
from tracemend.trace.fold_tuned import fold_tuned
from tracemend.trace.folds import folds_of
from tracemend.trace.groups import by_group, groups_of, shifted
from tracemend.trace.pool import Judged, pooled
from tracemend.tuning import Tuning


@dataclass(frozen=True, eq=False, kw_only=True)
class Beliefs:
    """What is believed of the true labels, and on what it rests.

    Attributes:
        posterior: probability of each true label given text, given label and group [n, C].
        predicted: the same given the text alone, by models that did not see the example [n, C].
        transition: probability of a given label (column) where another is true (row) [C, C].
        weights: of the evidence on frozen states and, where there is any, on tuned models [1 or 2].
        strength: of what groups tell, see :func:`tracemend.trace.groups.by_group`; infinite where they tell nothing.
    """

    posterior: Doubles
    predicted: Doubles
    transition: Doubles
    weights: Doubles
    strength: float = float("inf")


def consensus(
    model: LanguageModel,
    train: Labelled,
    trusted: Labelled,
    features: tuple[Floats, Floats],
    tuning: Tuning | None,
    *,
    folds: int = 5,
    tuned_folds: int = 3,
    seed: int = 0,
    out: Path | None = None,
    progress: Progress = Progress(),
) -> Beliefs:
    r"""The posterior of the true labels by frozen states, tuned models, the noise among the labels, and groups.

    1. A prediction from frozen states by expectation and maximisation (:func:`tracemend.trace.true_labels`).
    2. A prediction by models tuned on the other folds, on the labels believed after 1
       (:func:`tracemend.trace.fold_tuned.fold_tuned`).
    3. Both in a logarithmic opinion pool, its weights learnt on what is said of trusted examples by models that learnt
       neither their labels nor beliefs come to with their help (:func:`tracemend.trace.apart.judged_apart`), so that it
       is as sure as it has a right to be.
    4. The noise matrix under which the given labels are likeliest (:func:`tracemend.trace.noise.noise_matrix`), and
       Bayes' rule: :math:`P(t \mid x, y) \propto P(t \mid x) \, P(y \mid t)`.
    5. Where examples have groups: a group whose labels are denied again and again is believed less, unless the models
       deny trusted labels group by group as well: then it is they that err by group, and the record tells nothing.

    Args:
        model: the untuned model.
        train: the examples in question; where two or more share a group, groups are looked at.
        trusted: examples whose labels are right.
        features: states of the untuned model for both [n, D] and [m, D].
        tuning: of the folds' models; None leaves step 2 out, and with it nearly all of the time.
        folds: of the frozen states, at most.
        tuned_folds: of the trusted examples and of the tuned models, at most; each costs a tuning.
        seed: of the folds.
        out: folder of the tuned models' checkpoints, with which a stopped tuning goes on; None keeps none.

    Raises:
        TraceError: the trusted set lacks a training label, or shapes differ.
        TuningError: a fold cannot be tuned on.

    Example:
        >>> both = tuple(embed(model, part.pairs, layers=4) for part in (train, validation))
        >>> consensus(model, train, validation, both, Tuning(adapter="lora", epochs=3)).posterior.shape
        (500, 2)
    """
    check_labels(train, trusted)
    known = groups_of(trusted)
    given = (features[0], train.y, features[1], trusted.y, len(train.labels))
    frozen = true_labels(*given, folds=folds, seed=seed)
    most = min(len(folds_of(of.y, tuned_folds, seed)) for of in (train, trusted))
    apart = judged_apart(*given, folds=most, seed=seed, groups=known)
    sources = [Judged(frozen.predicted, apart.trusted)]
    if tuning is not None:
        sources.append(fold_tuned(model, train, trusted, apart, tuning, seed=seed, out=out, progress=progress))
    both, weights = pooled(sources, trusted.y)
    posterior, transition = settled(both.train, train.y)
    strength = float("inf")
    groups = groups_of(train)
    if groups is not None and not (known is not None and errs_by_group(both.trusted, trusted, known)):
        wrong, strength = by_group(1.0 - posterior[np.arange(len(train)), train.y], groups)
        posterior = shifted(posterior, train.y, wrong)
    progress.note("consensus", **dict(zip(("frozen", "tuned"), (float(w) for w in weights), strict=False)))
    return Beliefs(posterior=posterior, predicted=both.train, transition=transition, weights=weights, strength=strength)


def errs_by_group(predicted: Doubles, trusted: Labelled, groups: Sequence[Hashable]) -> bool:
    """Whether trusted labels are denied by group: then groups tell of the models, not of whoever labelled."""
    denied = 1.0 - predicted[np.arange(len(trusted)), trusted.y]
    return bool(np.isfinite(by_group(denied, groups)[1]))
