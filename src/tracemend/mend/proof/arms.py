"""What each arm of the repair does to the training set, and what a tuning on the outcome is worth.

Every arm ends alike: the first tuning's configuration, from scratch, on the arm's training set. So arms differ by
their labels alone, and an arm that changes nothing has exactly the figures of the start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from tracemend.data import Labelled
from tracemend.errors import NoSignalError, TracemendError
from tracemend.evaluate import scores
from tracemend.mend.proof.sets import joined
from tracemend.mend.proof.unit import Figures, Shared
from tracemend.mend.result import RepairResult
from tracemend.mend.rounds import measure
from tracemend.threads import one_thread
from tracemend.trace.run import detector
from tracemend.tuning import tune

ACTS = ("label", "remove")


@dataclass(frozen=True, eq=False)
class Edited:
    """What an arm made of the training set.

    Attributes:
        train: the training set afterwards.
        acted: uids that it relabelled or removed.
        figures: on the test part, where the arm does not end with a tuning on ``train``.
        facts: further columns of its row.
    """

    train: Labelled
    acted: tuple[str, ...] = ()
    figures: Figures | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def nothing(shared: Shared) -> Edited:
    """The corrupted labels as they are."""
    return Edited(shared.splits.train)


def unchanged(shared: Shared) -> Edited:
    """The corrupted labels, tuned on for as many epochs as the default repair's rounds: what more tuning does."""
    method = shared.repair("default")
    epochs = max(1, method.rounds * method.warm_epochs)
    tuning = replace(shared.tuning, epochs=epochs, patience=0, seed=shared.tuning.seed + 1)
    tuned = tune(
        shared.model, shared.splits.train, shared.splits.validation, tuning, start=shared.start.best.load_state(),
        progress=shared.progress,
    )  # fmt: skip
    return Edited(shared.splits.train, figures=measure(tuned, shared.splits)["verdict"])


def validation_added(shared: Shared) -> Edited:
    """The corrupted labels and the trusted ones together."""
    validation = shared.splits.validation
    if not validation.has_truth:
        validation = replace(validation, frame=validation.frame.assign(truth=validation.frame["label"]))
    return Edited(joined(shared.splits.train, validation))


def validation_only(shared: Shared) -> Edited:
    """No training set: a logistic regression on frozen embeddings of the trusted examples."""
    trusted, asked = shared.splits.validation, shared.splits.verdict
    embedded = shared.embedded(trusted)
    with one_thread():
        fit = LogisticRegression(C=10, max_iter=2000).fit(embedded, trusted.y)
    p = np.zeros((len(asked), len(asked.labels)))
    p[:, fit.classes_] = fit.predict_proba(shared.embedded(asked))
    return Edited(trusted.take([]), figures=scores(asked.y, p, asked.positive_index))


def default(shared: Shared) -> Edited:
    """The default repair; where it refuses, the labels as they are: what a person is left with then."""
    if shared.default is None:
        return Edited(shared.splits.train, facts={"refused": 1.0})
    return _repaired(shared, *shared.default)


def gbair(shared: Shared) -> Edited:
    """G-BAIR as reconstructed, in as many rounds as the default has and with warm starts; its budget by its estimate.

    Fifteen tunings from scratch, as the paper has it, would be most of the grid's time; ``benchmarks/recovery.py`` has
    that schedule.
    """
    like = shared.repair("default")
    method = shared.repair("gbair", rounds=like.rounds, warm_start=True, warm_epochs=like.warm_epochs)
    try:
        return _repaired(shared, *shared.repaired("gbair", replace(method, candidates=None)))
    except NoSignalError:
        return Edited(shared.splits.train, facts={"refused": 1.0})


def random(shared: Shared) -> Edited:
    """The default's acts on examples drawn at random: as many removed, as many given another label."""
    kinds = _budget(shared)["kind"].tolist()
    train = shared.splits.train
    rng = np.random.default_rng([shared.unit.seed, 11])
    rows = rng.permutation(len(train))[: len(kinds)]
    other = (train.y[rows] + rng.integers(1, len(train.labels), len(rows))) % len(train.labels)
    uid = train.uid
    labels = {uid[r]: train.labels[o] for r, o, k in zip(rows, other, kinds, strict=True) if k == "label"}
    removed = [uid[r] for r, k in zip(rows, kinds, strict=True) if k == "remove"]
    return Edited(train.relabelled(labels).without(removed), tuple(uid[r] for r in rows))


def best_other(shared: Shared) -> Edited:
    """Another detector's most suspicious, as many as the default acted on, with the labels that it suggests."""
    name = shared.settings.get("detector")
    if not name:
        raise TracemendError(
            "the arm best-other needs a detector: name the one that finds most on the development sets (--other NAME)."
        )
    budget = len(_budget(shared))
    found = detector(name, seed=shared.unit.seed).run(shared.subject, shared.splits, progress=shared.progress)
    top = found.table().sort_values("rank").head(budget)
    labels = dict(zip(top["uid"], top["suggested"], strict=True))
    return Edited(shared.splits.train.relabelled(labels), tuple(labels), facts={"detector": name})


def oracle(shared: Shared) -> Edited:
    """The true label for as many wrong ones as the default acted on (all of them where it acted on more)."""
    train = shared.splits.train
    wrong = np.flatnonzero(train.wrong)
    budget = len(_budget(shared))
    rows = np.random.default_rng([shared.unit.seed, 12]).permutation(wrong)[:budget]
    uid, truth = train.uid, train.frame["truth"]
    labels = {uid[r]: truth.iloc[r] for r in rows}
    return Edited(train.relabelled(labels), tuple(labels))


_ARMS: Mapping[str, Callable[[Shared], Edited]] = {
    "nothing": nothing,
    "unchanged": unchanged,
    "validation-added": validation_added,
    "validation-only": validation_only,
    "random": random,
    "gbair": gbair,
    "best-other": best_other,
    "default": default,
    "oracle": oracle,
}


def repaired(shared: Shared, arm: str) -> pd.DataFrame:
    """One row: what came of the arm.

    Columns: ``ap``, ``accuracy``, ``macro_f1``, ``log_loss`` on the test part; ``ap_clean`` and ``ap_corrupted`` after
    tuning on the true and on the corrupted labels; ``acted`` examples, the share of them that was wrong
    (``acted_right``), the share of all labels touched (``touched``); ``wrong_before`` and ``wrong_after``, the share of
    wrong labels in the training set; ``seconds`` of the arm without its last tuning, ``tuning_seconds`` of the first
    one; ``loop_ap`` of the classifier that a repair's own loop ends with; ``estimated_noise`` of a repair; ``refused``
    is 1 where a repair refused, for labels that carry no signal.
    """
    train = shared.splits.train
    _ = shared.first, shared.clean  # shared work, not the arm's
    began = time.monotonic()
    edited = _ARMS[arm](shared)
    seconds = time.monotonic() - began
    found = shared.figures_on(edited.train) if edited.figures is None else edited.figures
    was_wrong = dict(zip(train.uid, train.wrong, strict=True))
    right = [was_wrong[uid] for uid in edited.acted]
    row = {
        **{name: float(found[name]) for name in ("ap", "accuracy", "macro_f1", "log_loss")},
        "ap_clean": float(shared.clean["ap"]),
        "ap_corrupted": float(shared.first["ap"]),
        "acted": len(edited.acted),
        "acted_right": float(np.mean(right)) if right else np.nan,
        "touched": len(edited.acted) / len(train),
        "wrong_before": float(train.wrong.mean()),
        "wrong_after": float(edited.train.wrong.mean()) if len(edited.train) else np.nan,
        "seconds": round(seconds, 3),
        "tuning_seconds": shared.tuning_seconds,
        **edited.facts,
    }
    return pd.DataFrame([row])


def _acts(result: RepairResult) -> pd.DataFrame:
    """The decisions of a repair that changed the training set."""
    rows = result.rows
    return rows[rows["kind"].isin(ACTS)] if len(rows) else pd.DataFrame(columns=["uid", "kind"])


def _budget(shared: Shared) -> pd.DataFrame:
    """The decisions of the default repair that changed the training set: none where it refused."""
    return pd.DataFrame(columns=["uid", "kind"]) if shared.default is None else _acts(shared.default[0])


def _repaired(shared: Shared, result: RepairResult, seconds: float) -> Edited:
    train = shared.splits.train
    # As the decisions left it, whether or not the verdict recommends it: a benchmark reads no verdict.
    facts = {
        "loop_ap": result.metrics["ap_repaired"],
        "estimated_noise": result.metrics.get("estimated_noise"),
        "loop_seconds": round(seconds, 3),
    }
    order = {uid: i for i, uid in enumerate(train.uid)}
    kept = sorted(result.repaired.uid, key=order.__getitem__)
    at = {uid: i for i, uid in enumerate(result.repaired.uid)}
    return Edited(result.repaired.take([at[uid] for uid in kept]), tuple(_acts(result)["uid"]), facts=facts)
