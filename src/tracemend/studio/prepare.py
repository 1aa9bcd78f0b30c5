"""What the studio shows of a version, computed once and kept: predictions, influence, suspects, neighbours.

Runs in the worker's process. Predictions are written first, so that the errors can be looked at while the rest is
computed; ``prepared.json`` comes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from safetensors.torch import load_file
from scipy.special import softmax

from tracemend.data import Labelled, Splits
from tracemend.data.duplicates import contents, near_duplicates
from tracemend.data.examples import read_examples
from tracemend.data.ledger import Ledger
from tracemend.errors import RunError, TraceError
from tracemend.evaluate import scores
from tracemend.mend.ranking import Ranking, by_influence
from tracemend.models import LanguageModel, load
from tracemend.progress import Progress
from tracemend.runs import atomic, read_json, write_json, write_parquet
from tracemend.studio.traced import Traced
from tracemend.studio.versions import FOLDER, Version, training_set
from tracemend.trace import TracIn, embed, out_of_fold_probabilities
from tracemend.trace.groups import groups_of
from tracemend.tuning import Checkpoint, TextClassifier, Tuned, Tuning, checkpoints
from tracemend.tuning.tune import resolve_precision

NEIGHBOURS = 3
# Scores of the matrix of influence that are kept; where there are more, those of errors alone are.
MOST = 200_000_000
_BLOCK = 1_000


@dataclass(frozen=True)
class Rules:
    """How suspects are ranked here, whatever the run itself did: one way for every version, so that they compare."""

    tracin: Traced
    rank: Literal["trusted"] = "trusted"
    drivers: Literal["residual"] = "residual"
    top_k: int = 20
    checkpoints: Literal["last"] = "last"
    seed: int = 0


@dataclass(frozen=True)
class Loaded:
    """A run with its model: what all steps share."""

    run: Path
    splits: Splits
    model: LanguageModel
    tuning: Tuning

    @classmethod
    def of(cls, run: Path) -> Loaded:
        """Load it.

        Raises:
            RunError: the model is not the one that was tuned.
        """
        facts = read_json(run / "classifier.json")
        model = load(facts["model"])
        if model.fingerprint != facts["fingerprint"]:
            raise RunError(
                f"{run} was tuned on a model {facts['model']!r} with fingerprint {facts['fingerprint']}, but what has "
                f"this name now has {model.fingerprint}; bring back the model it was tuned on."
            )
        return cls(run, read_examples(run), model, Tuning(**facts["tuning"]))

    def classifier(self, version: Version) -> TextClassifier:
        """The classifier of a version."""
        made = self.tuning.classifier(self.model, self.splits.labels)
        made.restore(load_file(str(version.adapter / "parameters.safetensors")))
        return made


def prepare(loaded: Loaded, version: Version, *, progress: Progress = Progress()) -> None:
    """Compute what the studio shows of a version; what is there already is not done again."""
    if version.prepared:
        return
    splits, classifier = loaded.splits, loaded.classifier(version)
    with Ledger(loaded.run / "ledger.sqlite") as ledger:
        train = training_set(version, splits.train, ledger.decisions())
    progress.note("stage", stage="predict")
    p = predict(loaded, version, classifier, progress)
    progress.note("stage", stage="trace")
    embedded = embeddings(loaded, progress)
    ranking, store = _ranked(loaded, version, classifier, train, embedded, progress)
    write_influence(version.folder / "influence.npy", ranking.signed, splits, train, p["validation"])
    progress.note("stage", stage="neighbours")
    table = _suspects(splits.train, train, ranking, embedded[0], p["train"])
    write_parquet(version.folder / "suspects.parquet", table)
    write_json(version.folder / "prepared.json", {"rank": "trusted", "unit": "cosine", "store": store})


def predict(
    loaded: Loaded, version: Version, classifier: TextClassifier, progress: Progress = Progress()
) -> dict[str, npt.NDArray[np.float64]]:
    """Probabilities of every example of every part, kept as ``predictions.parquet``, with ``figures.json``."""
    precision = resolve_precision(loaded.tuning.precision, classifier.device)
    found: dict[str, npt.NDArray[np.float64]] = {}
    tables, figures = [], {}
    # The small parts first: they are what is waited for.
    for name, part in sorted(loaded.splits.parts.items(), key=lambda item: len(item[1])):
        logits = classifier.predict(part.pairs, precision=precision, progress=progress, task=f"predict {name}")
        found[name] = np.asarray(softmax(logits.astype(np.float64), axis=1))
        columns = {f"p_{i}": found[name][:, i] for i in range(len(part.labels))}
        tables.append(pd.DataFrame({"split": name, "uid": part.uid, **columns}))
        if name != "train":
            figures[name] = scores(part.y, found[name], part.positive_index)
    write_parquet(version.folder / "predictions.parquet", pd.concat(tables, ignore_index=True))
    write_json(version.folder / "figures.json", figures)
    return found


def embeddings(loaded: Loaded, progress: Progress) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Sentence embeddings of train and validation by the untuned model: the same for every version, so kept."""
    folder = loaded.run / FOLDER
    made = []
    for name in ("train", "validation"):
        path, part = folder / f"embeddings-{name}.npy", loaded.splits.parts[name]
        if not path.exists():
            found = embed(loaded.model, part.pairs, max_length=loaded.tuning.max_length, progress=progress)
            with atomic(path, "wb") as file:
                np.save(file, found, allow_pickle=False)
        made.append(np.load(path, allow_pickle=False))
    return made[0], made[1]


def _ranked(
    loaded: Loaded,
    version: Version,
    classifier: TextClassifier,
    train: Labelled,
    embedded: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    progress: Progress,
) -> tuple[Ranking, bool]:
    """The ranking of a version's training set, from the run's store of gradients where that is of this version."""
    row = {uid: i for i, uid in enumerate(loaded.splits.train.uid)}
    of_train = embedded[0][[row[uid] for uid in train.uid]]
    here = Checkpoint(step=0, lr_sum=1.0, metrics={}, state=classifier.state(), moments={})
    tuned = Tuned(classifier, loaded.tuning, [here], here, 0.0)
    steps = checkpoints(loaded.run)
    # A store may hold all that led to the version; the last of them is what is asked for.
    end = next((c.step for c in steps if c.folder == version.adapter), -1)
    traced = Traced(loaded.run / "store", TracIn(), [c for c in steps if c.step <= end])
    ranking, _ = by_influence(
        Rules(traced),  # type: ignore[arg-type]  # Traced stands in for TracIn
        tuned,
        train,
        loaded.splits.validation,
        (of_train, embedded[1]),
        progress=progress,
    )
    return ranking, traced.from_store


def write_influence(
    path: Path,
    signed: npt.NDArray[np.floating[Any]],
    splits: Splits,
    train: Labelled,
    p_validation: npt.NDArray[np.float64],
) -> None:
    """Write influence as [validation examples, training examples as given], float32; NaN where nothing was traced.

    A row is what one error asks for, so that it is read in one piece.
    """
    given, validation = splits.train, splits.validation
    column = {uid: i for i, uid in enumerate(given.uid)}
    columns = np.array([column[uid] for uid in train.uid], dtype=np.int64)
    rows = np.arange(len(validation))
    if len(given) * len(validation) > MOST:
        rows = rows[p_validation.argmax(axis=1) != validation.y]
    with atomic(path, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(validation), len(given))}
        np.lib.format.write_array_header_2_0(file, header)
        nothing = np.full(len(given), np.nan, dtype="<f4")
        wanted = set(rows.tolist())
        for q in range(len(validation)):
            line = nothing.copy()
            if q in wanted:
                line[columns] = signed[:, q]
            file.write(line.tobytes())


def _suspects(
    given: Labelled,
    train: Labelled,
    ranking: Ranking,
    embedded: npt.NDArray[np.float32],
    p_train: npt.NDArray[np.float64],
) -> pd.DataFrame:
    """One row a training example as given: suspicion, suggestion and what else speaks for or against its label."""
    row = {uid: i for i, uid in enumerate(given.uid)}
    at = np.array([row[uid] for uid in train.uid], dtype=np.int64)
    n = len(given)
    suspicion, certainty = np.full(n, -np.inf), np.zeros(n)
    # Removed examples are not ranked; the suggestion for them is what they would be.
    suggestion, eligible = p_train.argmax(axis=1), np.zeros(n, dtype=bool)
    suspicion[at], certainty[at] = ranking.suspicion, ranking.certainty
    suggestion[at], eligible[at] = ranking.suggestion, ranking.eligible
    y = given.y
    y[at] = train.y
    try:
        opinion = out_of_fold_probabilities(embedded, y, len(given.labels), groups=groups_of(given))
    except TraceError:  # a label with one example: nobody can judge it from the others
        opinion = np.full((n, len(given.labels)), np.nan)
    near, cosine = opposite(embedded, y)
    table = pd.DataFrame(
        {
            "uid": given.uid,
            "suspicion": np.where(np.isfinite(suspicion), suspicion, np.nan),
            "suggestion": [given.labels[int(i)] for i in suggestion],
            "certainty": certainty,
            "eligible": eligible,
            "label_then": [given.labels[int(i)] for i in y],
            "near": list(near),
            "near_cosine": list(cosine),
            "twins": twins(contents(given)),
        }
    )
    for i in range(len(given.labels)):
        table[f"opinion_{i}"] = opinion[:, i]
    return table


def opposite(
    embedded: npt.NDArray[np.float32], y: npt.NDArray[np.int64], k: int = NEIGHBOURS
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The k most similar examples with another label: positions [n, k], -1 where there are fewer, and cosines.

    Example:
        >>> opposite(np.eye(2, dtype=np.float32), np.array([0, 1]), 1)[0].tolist()
        [[1], [0]]
    """
    n = len(y)
    k = min(k, n)
    near, cosine = np.full((n, k), -1, dtype=np.int64), np.full((n, k), np.nan, dtype=np.float32)
    for begin in range(0, n, _BLOCK):
        part = slice(begin, min(begin + _BLOCK, n))
        found = np.where(y[part, None] == y[None, :], -np.inf, embedded[part] @ embedded.T)
        best = np.argpartition(-found, k - 1, axis=1)[:, :k]
        value = np.take_along_axis(found, best, axis=1)
        order = np.argsort(-value, axis=1, kind="stable")
        best, value = np.take_along_axis(best, order, axis=1), np.take_along_axis(value, order, axis=1)
        near[part] = np.where(np.isfinite(value), best, -1)
        cosine[part] = np.where(np.isfinite(value), value, np.nan)
    return near, cosine


def twins(texts: Sequence[str], most: int = 10) -> list[list[int]]:
    """For each text the positions of those that are the same or nearly so, at most ``most``.

    Example:
        >>> twins(["a nice long text", "a nice long text!", "else"])
        [[1], [0], []]
    """
    distinct: dict[str, int] = {}
    first = [distinct.setdefault(text, row) for row, text in enumerate(texts)]
    kept = list(distinct.values())
    copies: dict[int, list[int]] = {row: [] for row in kept}
    for row, of in enumerate(first):
        copies[of].append(row)
    near: dict[int, list[int]] = {row: [] for row in kept}
    for i, j in near_duplicates([texts[row] for row in kept]).tolist():
        near[kept[i]].append(kept[j])
        near[kept[j]].append(kept[i])
    found = []
    for row, of in enumerate(first):
        same = [other for other in copies[of] if other != row]
        found.append([*same, *(c for other in near[of] for c in copies[other])][:most])
    return found
