"""How well a detector finds the wrong labels of a unit, and the ceiling of what could be found."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from tracemend.evaluate import detection
from tracemend.mend.proof.plan import CEILING
from tracemend.mend.proof.unit import Shared
from tracemend.trace.run import detector
from tracemend.tuning import tune

FOLDS = 5


def detected(shared: Shared, name: str) -> pd.DataFrame:
    """One row: how well the detector of this name ranks the wrong labels, and how long it took.

    Columns: ``ap``, ``auroc``, ``precision`` (among as many as are wrong), ``chance`` (the share of wrong labels: what
    AP and precision are for a random order), ``n``, ``seconds``; where the detector gives probabilities, ``expected``
    (their mean: the share of wrong labels it believes in) and ``brier``.
    """
    train = shared.splits.train
    _ = shared.start, shared.subject  # shared work, not the detector's
    began = time.monotonic()
    if name == CEILING:
        scores, probability = _ceiling(shared), None
    else:
        found = detector(name, seed=shared.unit.seed).run(shared.subject, shared.splits, progress=shared.progress)
        table = found.table().set_index("uid").loc[train.uid]
        scores = table["score"].to_numpy(dtype=np.float64)
        probability = table["probability"].to_numpy(dtype=np.float64) if "probability" in table else None
    seconds = time.monotonic() - began
    known = detection(scores, train.wrong)
    row: dict[str, Any] = {
        "ap": known.ap, "auroc": known.auroc, "precision": known.precision_at_k, "chance": known.chance, "n": known.n,
        "seconds": round(seconds, 3),
    }  # fmt: skip
    if probability is not None and np.isfinite(probability).all():
        row["expected"] = float(probability.mean())
        row["brier"] = float(np.mean((probability - train.wrong) ** 2))
    return pd.DataFrame([row])


def _ceiling(shared: Shared) -> np.ndarray[Any, Any]:
    """Out-of-fold loss of the given labels under models tuned on the true ones: no detector knows as much [n].

    The models know nothing of the noise, so that one draw's are those of every noise and rate.
    """
    train = shared.splits.train
    truth = train.with_truth_as_label()

    def work() -> list[list[float]]:
        p = np.zeros((len(train), len(train.labels)))
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=shared.unit.seed)
        for inside, outside in folds.split(np.zeros(len(train)), truth.y):
            lesson, held = truth.take(inside), shared.splits.validation
            tuned = tune(shared.model, lesson, held, shared.ceiling, progress=shared.progress)
            p[outside] = tuned.classifier.probabilities(train.take(outside).pairs)
        found: list[list[float]] = p.tolist()
        return found

    p = np.array(shared.once_a_draw("ceiling", shared.ceiling, work))
    return np.asarray(-np.log(np.maximum(p[np.arange(len(train)), train.y], 1e-12)))
