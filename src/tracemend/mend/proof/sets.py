"""One draw of a reference set: its parts, and the noise in the training labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from tracemend.data import Labelled, Splits, corrupt, make_splits, reference, sample
from tracemend.errors import DataError, did_you_mean
from tracemend.evaluate.grid import Unit
from tracemend.trace.groups import groups_of

# What is published. No setting of detectors or repair was chosen on these; learning rates were, on the first.
JUDGED = ("surge-toxicity", "hate_stormfront", "openai-moderation", "sst2")
# Real noise: each row carries the votes of several annotators; and its groups stand in for users.
VOTED = ("convabuse",)
# Settings may be chosen on these, and figures of them are never published as results.
DEVELOPMENT = ("uci_sentiment_sentences", "hatecheck")
WITH_VOTES = ("convabuse", "hatecheck")
NOISES = ("none", "symmetric", "confusable", "trolls", "annotator")

VALIDATION, TEST = 300, 500
# A set of 1,000 rows: its test part is what training and validation leave.
_SMALL_TEST = {"surge-toxicity": 200}
_FLIP = 0.8  # share of its labels that a troll flips (SafetyMix)
_OF_A_USER = 10  # examples, where a set does not say who labelled what
_VALIDATION_SEED = 101  # added to the unit's, so that validation labels are not flipped in the training's places


def check(name: str, noise: str) -> None:
    """Refuse noise that the set cannot carry.

    Raises:
        DataError: no such kind of noise, or the set has no votes.
    """
    if noise not in NOISES:
        raise DataError(f"noise {noise!r} is {did_you_mean(noise, NOISES)}")
    if noise == "annotator" and name not in WITH_VOTES:
        raise DataError(f"{name} carries no noise of kind {noise!r}; sets that do: {', '.join(WITH_VOTES)}.")


def draw(
    unit: Unit,
    *,
    train: int = 500,
    validation: int = VALIDATION,
    test: int | None = None,
    noisy_validation: bool = False,
) -> Splits:
    """The parts of one unit: validation clean, training labels corrupted, the test part in the verdict's place.

    The test examples rank, fit and stop nothing; the repair's own verdict is read on them and chooses nothing here.

    Args:
        unit: set, noise, rate and seed. With ``trolls`` the rate is the expected share of wrong labels: a share
            of rate / 0.8 of the groups flips 0.8 of its labels; a set without groups gets users of ten examples
            each, drawn at random. ``annotator`` has the rate it has.
        train: examples to tune on.
        validation: examples with trusted labels.
        test: examples to measure on; by default 500, of surge-toxicity 200.
        noisy_validation: corrupt the validation labels too, with the same noise: what a person has who has one file.

    Raises:
        DataError: the set is not there or cannot carry the noise.
    """
    check(unit.dataset, unit.noise)
    whole = reference(unit.dataset)
    votes = tuple(c for c in whole.frame.columns if c.startswith("annotator_"))
    if unit.noise == "annotator":
        whole = whole.take(whole.frame[list(votes)].notna().any(axis=1).to_numpy().nonzero()[0])
    measured = test if test is not None else _SMALL_TEST.get(unit.dataset, TEST)
    total = train + validation + measured
    if total > len(whole):
        raise DataError(f"{unit.dataset} has {len(whole)} rows; {train} + {validation} + {measured} were asked for.")
    drawn = sample(whole, total, seed=unit.seed)
    parts = make_splits(
        _with_users(drawn, unit.seed) if unit.noise == "trolls" else drawn,
        seed=unit.seed,
        validation_share=validation / total,
        test_share=measured / total,
    )  # its verdict goes back to the validation: no verdict is read here
    trusted = joined(parts.validation, parts.verdict)
    if noisy_validation:
        trusted = _noisy(trusted, unit, votes, unit.seed + _VALIDATION_SEED)
    splits = Splits(parts.train, trusted, parts.test or parts.verdict, None, parts.notes)
    return splits.with_train(_noisy(parts.train, unit, votes, unit.seed))


def _noisy(data: Labelled, unit: Unit, votes: tuple[str, ...], seed: int) -> Labelled:
    if unit.noise == "annotator":
        return corrupt(data, kind="annotator", votes=votes, seed=seed)
    if unit.noise == "trolls":
        return corrupt(data, kind="trolls", troll_share=min(1.0, unit.rate / _FLIP), flip_share=_FLIP, seed=seed)
    kind = "symmetric" if unit.noise == "none" else unit.noise
    return corrupt(data, kind=kind, rate=0.0 if unit.noise == "none" else unit.rate, seed=seed)


def _with_users(data: Labelled, seed: int) -> Labelled:
    """Groups of ten examples at random, where there are none."""
    if groups_of(data) is not None:
        return data
    user = np.random.default_rng([seed, _OF_A_USER]).permutation(len(data)) // _OF_A_USER
    return replace(data, frame=data.frame.assign(group=[f"user {number}" for number in user]))


def joined(first: Labelled, second: Labelled) -> Labelled:
    """Both sets one after the other; they are parts of one, so that no uid occurs twice."""
    return replace(first, frame=pd.concat([first.frame, second.frame], ignore_index=True))
