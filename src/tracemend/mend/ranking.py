"""Which training labels to act on next: by influence, and by the two controls of the same job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
from scipy.special import softmax

from tracemend.arrays import Indices
from tracemend.data import Labelled
from tracemend.errors import TraceError, TuningError, did_you_mean
from tracemend.mend.decide import suggest
from tracemend.mend.gain import by_gain
from tracemend.progress import Progress
from tracemend.trace import (
    TracIn,
    candidates,
    driver_weights,
    fitted_probabilities,
    head_inputs,
    label_free,
    similarity_scores,
    trusted_probabilities,
)
from tracemend.trace.candidates import Drivers
from tracemend.tuning import Checkpoint, Tuned

Floats = npt.NDArray[np.floating[Any]]
Arm = Literal["repair", "similarity", "random", "unchanged"]
Rank = Literal["consensus", "trusted", "votes", "mean", "weighted"]
Validation = Literal["clean", "noisy"]
# These give the probability that a label is wrong.
PROBABLE: tuple[Rank, ...] = ("consensus", "trusted")
# A suspect pushes an error where it does so harder than nine in ten of so many others, drawn at random.
_UNUSUAL, _OTHERS = 0.1, 64


@dataclass(frozen=True, eq=False)
class Ranking:
    """Suspicion of every training example, with what it rests on.

    Attributes:
        suspicion: higher is more suspicious [n].
        suggestion: index of the label that would be given [n].
        certainty: probability that the suggested label is right, given that the label is wrong [n].
        signed: effect on each validation example [n, m]; positive lowers its loss, negative pushes it to an error.
        drivers: weight of each validation example [m].
        eligible: whom the rule lets be acted on [n].
        kernels: similarity to the validation examples [n, m] and of these among themselves [m, m], in which the
            validation labels were fitted; None where the ranking rests on no such fit.
        posterior: of the true label, given text, label and author [n, C]; None decides by influence.
        usual: the effect on each validation example that one in ten training examples falls below [m]; None says of
            none what is usual.
        weight: what ``signed`` is a multiple of: the learning rates of the checkpoints.
    """

    suspicion: Floats
    suggestion: Indices
    certainty: Floats
    signed: Floats
    drivers: Floats
    eligible: npt.NDArray[np.bool_]
    kernels: tuple[Floats, Floats] | None = None
    posterior: Floats | None = None
    usual: Floats | None = None
    weight: float = 1.0


class Rules(Protocol):
    """What a ranking reads of the configuration."""

    @property
    def rank(self) -> Rank: ...
    @property
    def drivers(self) -> Drivers: ...
    @property
    def top_k(self) -> int: ...
    @property
    def tracin(self) -> TracIn: ...
    @property
    def checkpoints(self) -> Literal["last", "all"]: ...
    @property
    def seed(self) -> int: ...


class Decides(Protocol):
    """What decisions by a posterior read of the configuration."""

    @property
    def rank(self) -> Rank: ...
    @property
    def fdr(self) -> float | None: ...
    @property
    def ask(self) -> int: ...
    @property
    def validation(self) -> Validation: ...
    @property
    def fold_epochs(self) -> int: ...
    @property
    def by_posterior(self) -> bool: ...


def check_kernel(rules: Rules, labels: int) -> None:
    """Refuse a way of taking influence that the trusted fit cannot use.

    Raises:
        TuningError: two labels, and scores that are no cosines: plain products hold how wrong the model is on the
            label in question, ranks and votes are no kernel, and a fit on either is no better than chance.
    """
    tracin = rules.tracin
    cosine = tracin.normalise_train and tracin.normalise_query and tracin.aggregate in ("whole", "mean")
    if rules.rank == "trusted" and labels == 2 and not cosine:
        raise TuningError(
            "rank 'trusted' fits in the kernel of gradient cosines and takes neither dot products nor ranks or votes "
            "of layers; choose kernel 'cosine' with aggregate 'whole' or 'mean', or rank by one of: votes, mean, "
            "weighted."
        )


def check_posterior(rules: Decides) -> None:
    """Refuse decisions by a posterior where the configuration gives none, or bounds that are none.

    Raises:
        TuningError: a value is out of range, or the rank gives no probabilities.
    """
    if rules.fdr is not None and not 0 <= rules.fdr <= 1:
        raise TuningError(f"fdr is {rules.fdr}; it is a share of the labels acted on, from 0 to 1, such as 0.1.")
    if rules.by_posterior and rules.rank not in PROBABLE:
        raise TuningError(
            f"fdr, ask and noisy validation decide by the probability that a label is wrong, and rank {rules.rank!r} "
            f"{'(as in the preset gbair) ' * (rules.rank == 'votes')}gives none; choose rank 'consensus' or 'trusted' "
            "(--rank), or leave fdr and ask out and the validation clean."
        )


def check_controls(controls: Sequence[str]) -> None:
    """Refuse a control that is none: it would run as another one under its own name.

    Raises:
        TuningError: names the valid ones.
    """
    valid = [arm for arm in get_args(Arm) if arm != "repair"]
    if isinstance(controls, str) or len(set(controls)) < len(controls):
        raise TuningError(f"controls are {controls!r}; give a tuple of some of: {', '.join(valid)}, each once.")
    for control in controls:
        if control not in valid:
            raise TuningError(f"control {control!r} is {did_you_mean(control, valid)}")


def with_posterior(ranking: Ranking, y: Indices, posterior: Floats) -> Ranking:
    """The same ranking with suspicion and suggestion by the posterior of the true label.

    Raises:
        TraceError: shapes differ or a value is out of range.
    """
    found = by_gain(posterior, y)
    denied = np.maximum(found.wrong, 1e-12)
    return replace(
        ranking,
        suspicion=-np.log(np.maximum(1.0 - found.wrong, 1e-12)),
        suggestion=found.suggested,
        certainty=np.minimum(1.0, posterior[np.arange(len(y)), found.suggested] / denied),
        eligible=found.wrong > 0.5,
        posterior=posterior,
    )


def by_influence(
    rules: Rules,
    tuned: Tuned,
    train: Labelled,
    validation: Labelled,
    fallback: tuple[Floats, Floats],
    *,
    progress: Progress = Progress(),
) -> tuple[Ranking, Floats]:
    """Rank by TracIn, or by a fit to the validation set in the kernel of the same gradients.

    Args:
        fallback: sentence embeddings of train and validation, for ``trusted`` where a model classifies among more
            than two labels by words: its gradients cannot be freed of the label.

    Returns:
        The ranking, and the classifier's probabilities of the training examples [n, C].
    """
    used = tuned.until_best() if rules.checkpoints == "all" else [tuned.best]
    trusted = rules.rank == "trusted"
    found = rules.tracin.influence(tuned.classifier, train, validation, checkpoints=used, progress=progress)
    p_train: Floats = softmax(found.logits, axis=1)
    kernels: tuple[Floats, Floats] | None = None
    weight = _weight(used)
    if trusted and len(train.labels) == 2:
        # The weights of the checkpoints go out again: the fit expects cosines.
        kernels = (
            label_free(found.scores / weight, train.y, validation.y),
            label_free(found.query_scores / weight, validation.y, validation.y),
        )
    elif trusted:
        features = fallback
        try:
            features = (
                head_inputs(tuned.classifier, train, progress=progress),
                head_inputs(tuned.classifier, validation, progress=progress),
            )
        except TraceError as error:
            progress.note("trusted fit on sentence embeddings", reason=str(error))
        kernels = _kernels(features)
    judged = None if kernels is None else trusted_probabilities(*kernels, validation.y, len(train.labels))
    ranking = _rank(rules, train, validation, found.scores, p_train, found.query_logits, judged)
    usual = np.quantile(found.scores, _UNUSUAL, axis=0)
    return replace(ranking, kernels=kernels, usual=usual, weight=weight), p_train


def by_consensus(
    rules: Rules,
    tuned: Tuned,
    train: Labelled,
    validation: Labelled,
    posterior: Floats,
    precision: str,
    *,
    progress: Progress = Progress(),
) -> tuple[Ranking, Floats]:
    """Rank by a posterior of the true label; influence explains those that it suspects, and is not taken of others.

    Args:
        posterior: of the training examples [n, C].
        precision: of the predictions.

    Returns:
        As :func:`by_influence`; ``signed`` is zero for whoever is not suspected.
    """
    used = tuned.until_best() if rules.checkpoints == "all" else [tuned.best]
    suspects = np.flatnonzero(posterior[np.arange(len(train)), train.y] < 0.5)
    # What influence others have, to tell that of a suspect from.
    drawn = np.random.default_rng([rules.seed, 11]).permutation(len(train))[:_OTHERS]
    p_train = tuned.classifier.probabilities(train.pairs, precision=precision, progress=progress)
    signed = np.zeros((len(train), len(validation)), dtype=np.float32)
    drivers, usual = np.zeros(len(validation)), None
    if len(suspects):
        asked = train.take(np.concatenate([suspects, drawn]))
        found = rules.tracin.influence(tuned.classifier, asked, validation, checkpoints=used, progress=progress)
        signed[suspects] = found.scores[: len(suspects)]
        usual = np.quantile(found.scores[len(suspects) :], _UNUSUAL, axis=0)
        drivers = driver_weights(found.query_logits, validation.y, rules.drivers)
    blank = Ranking(
        suspicion=np.zeros(len(train)),
        suggestion=suggest(p_train, train.y),
        certainty=np.ones(len(train)),
        signed=signed,
        drivers=drivers,
        eligible=np.zeros(len(train), dtype=bool),
        usual=usual,
        weight=_weight(used),
    )
    return with_posterior(blank, train.y, posterior), p_train


def _weight(used: Sequence[Checkpoint]) -> float:
    return max(sum(c.lr_sum for c in used), 1e-12)


def by_similarity(
    rules: Rules,
    embeddings: tuple[Floats, Floats],
    train: Labelled,
    validation: Labelled,
    p_train: Floats,
    validation_logits: Floats,
) -> Ranking:
    """The same rule with sentence embeddings of the untuned model in place of gradients."""
    signed = similarity_scores(embeddings[0], train.y, embeddings[1], validation.y)
    judged = None
    if rules.rank in PROBABLE:
        judged = fitted_probabilities(*embeddings, validation.y, len(train.labels))
    return _rank(rules, train, validation, signed, p_train, validation_logits, judged)


def by_chance(rules: Rules, round_: int, train: Labelled, validation: Labelled, p_train: Floats) -> Ranking:
    """Random candidates: what acting on as many examples does by itself."""
    rng = np.random.default_rng([rules.seed, round_, 7])
    n = len(train)
    return Ranking(
        suspicion=rng.random(n),
        suggestion=suggest(p_train, train.y),
        certainty=np.ones(n),
        signed=np.zeros((n, len(validation))),
        drivers=np.zeros(len(validation)),
        eligible=np.ones(n, dtype=bool),
    )


def _rank(
    rules: Rules,
    train: Labelled,
    validation: Labelled,
    signed: Floats,
    p_train: Floats,
    validation_logits: Floats,
    judged: Floats | None,
) -> Ranking:
    """The ranking by what a trusted fit judges [n, C], or by the rule where there is none."""
    rows = np.arange(len(train))
    weights = driver_weights(validation_logits, validation.y, rules.drivers)
    if judged is not None:
        suspicion = -np.log(np.maximum(judged[rows, train.y], 1e-12))
        # A label that the trusted fit holds likelier than all others together is not touched.
        eligible = judged[rows, train.y] < 0.5
    elif not weights.any():
        suspicion, eligible = np.zeros(len(train)), np.zeros(len(train), dtype=bool)
    else:
        rule = "votes" if rules.rank == "consensus" or rules.rank == "trusted" else rules.rank
        ranked = candidates(signed, weights=weights, top=rules.top_k, rule=rule)
        # The order breaks ties of the vote; suspicion keeps it.
        suspicion = np.empty(len(train))
        suspicion[ranked.order] = np.arange(len(train), 0, -1) / len(train)
        eligible = ranked.harm > 0
    probabilities = p_train if judged is None else judged
    suggestion = suggest(probabilities, train.y)
    certainty = np.ones(len(train))
    if len(train.labels) > 2:
        denied = np.maximum(1.0 - probabilities[rows, train.y], 1e-12)
        certainty = np.minimum(1.0, probabilities[rows, suggestion] / denied)
    return Ranking(suspicion, suggestion, certainty, signed, weights, eligible)


def _kernels(features: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    of_train, of_validation = features
    return of_train @ of_validation.T, of_validation @ of_validation.T
