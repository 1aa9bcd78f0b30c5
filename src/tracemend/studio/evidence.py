"""What one version's files say: predictions, influence, suspects; read once, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracemend.arrays import Doubles
from tracemend.data import Splits
from tracemend.errors import RunError
from tracemend.runs import read_json
from tracemend.studio.versions import Version

# Training examples named on either side of an error.
TOP = 10
_VOTES = 20


@dataclass(frozen=True, eq=False)
class Evidence:
    """A version with what was computed of it.

    Attributes:
        version: whose it is.
        splits: the run's examples, training labels as given.
    """

    version: Version
    splits: Splits

    @cached_property
    def p(self) -> dict[str, Doubles]:
        """Probabilities [n, C] of every part.

        Raises:
            RunError: they were not computed yet, or are of other data.
        """
        path = self.version.folder / "predictions.parquet"
        if not path.exists():
            raise RunError(f"nothing is known of {self.version.title} yet; prepare it first.")
        table = pd.read_parquet(path)
        columns = [f"p_{i}" for i in range(len(self.splits.labels))]
        found = {}
        for name, part in self.splits.parts.items():
            rows = table[table["split"] == name]
            if list(rows["uid"]) != part.uid:
                raise RunError(f"{path} is of other data than {self.version.run}; delete it, it is computed again.")
            found[name] = rows[columns].to_numpy(dtype=np.float64)
        return found

    @cached_property
    def predicted(self) -> npt.NDArray[np.int64]:
        """Predicted label index of each validation example [q]."""
        found: npt.NDArray[np.int64] = self.p["validation"].argmax(axis=1).astype(np.int64)
        return found

    @cached_property
    def figures(self) -> dict[str, dict[str, float]]:
        """Figures by part, as :func:`tracemend.evaluate.scores` gives them."""
        found: dict[str, dict[str, float]] = read_json(self.version.folder / "figures.json")
        return found

    @cached_property
    def influence(self) -> npt.NDArray[np.float32] | None:
        """Influence [q, n], read from disk as it is used; None before it was computed."""
        if not self.version.prepared:
            return None
        found: npt.NDArray[np.float32] = np.load(
            self.version.folder / "influence.npy", mmap_mode="r", allow_pickle=False
        )
        return found

    @cached_property
    def suspects(self) -> pd.DataFrame | None:
        """One row a training example; None before it was computed."""
        return pd.read_parquet(self.version.folder / "suspects.parquet") if self.version.prepared else None

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """Training examples, the most suspicious first; removed ones last."""
        if self.suspects is None:
            return np.empty(0, dtype=np.int64)
        return np.argsort(-self.suspects["suspicion"].fillna(-np.inf).to_numpy(), kind="stable").astype(np.int64)

    @cached_property
    def pushing(self) -> npt.NDArray[np.int64]:
        """The training examples that push each error hardest [errors, 20]; -1 where fewer push at all."""
        k = min(_VOTES, len(self.splits.train))
        found = np.full((len(self.wrong), k), -1, dtype=np.int64)
        if self.influence is None:
            return found
        for line, q in zip(found, self.wrong, strict=True):
            row = np.nan_to_num(np.asarray(self.influence[q]), nan=0.0)
            hardest = np.argpartition(row, k - 1)[:k]
            line[:] = np.where(row[hardest] < 0, hardest, -1)
        return found

    @cached_property
    def votes(self) -> npt.NDArray[np.int64]:
        """For each training example, how many errors it causes: those that it is among the 20 to push hardest [n]."""
        named = self.pushing[self.pushing >= 0]
        return np.bincount(named, minlength=len(self.splits.train)).astype(np.int64)

    @cached_property
    def wrong(self) -> npt.NDArray[np.int64]:
        """Positions of the validation errors."""
        return np.flatnonzero(self.predicted != self.splits.validation.y).astype(np.int64)

    def behind(self, q: int) -> dict[str, Any] | None:
        """The training examples that push a validation example towards its label and away from it.

        Returns:
            ``towards`` and ``away``, each a list of (position, influence), strongest first; and ``random``, the mean
            size of the influence of any training example: what the bars are to be compared with. None where it was
            not traced.
        """
        if self.influence is None:
            return None
        row = np.asarray(self.influence[q], dtype=np.float64)
        traced = np.flatnonzero(np.isfinite(row))
        if not len(traced):
            return None
        value = row[traced]
        ascending = np.argsort(value, kind="stable")
        away = [(int(traced[i]), float(value[i])) for i in ascending[:TOP] if value[i] < 0]
        towards = [(int(traced[i]), float(value[i])) for i in ascending[::-1][:TOP] if value[i] > 0]
        return {"towards": towards, "away": away, "random": float(np.abs(value).mean())}

    def caused(self, i: int) -> list[tuple[int, float]]:
        """The validation errors that a training example causes, see :attr:`votes`: (position, influence)."""
        if self.influence is None:
            return []
        found = self.wrong[(self.pushing == i).any(axis=1)]
        value = np.asarray(self.influence[found, i], dtype=np.float64)
        return [(int(found[j]), float(value[j])) for j in np.argsort(value, kind="stable")]


def reason(evidence: Evidence, i: int, label: str, suggestion: str) -> str:
    """Why a label is suspect, in a sentence that a person can check.

    Args:
        i: position of the training example.
        label: as the version had it.
        suggestion: the label that would be given.
    """
    table = evidence.suspects
    if table is None:
        return ""
    row, labels = table.iloc[i], evidence.splits.labels
    parts = [f"Labelled {label}; {suggestion} is likelier"]
    opinion = row[f"opinion_{labels.index(suggestion)}"]
    if np.isfinite(opinion) and opinion > 0.5:
        parts.append(f"a model that did not see it says {suggestion} with {opinion:.0%}")
    pushed = int(evidence.votes[i])
    if pushed:
        errors = f"{pushed} validation error{'s' if pushed > 1 else ''}"
        parts.append(f"it is among the {_VOTES} examples that push hardest in {errors}")
    near = [
        (j, c) for j, c in zip(row["near"], row["near_cosine"], strict=True) if j >= 0 and _then(table, j) == suggestion
    ]
    if near and near[0][1] > 0.5:
        parts.append(f"an example labelled {suggestion} is {near[0][1]:.2f} similar")
    return "; ".join(parts) + "."


def _then(table: pd.DataFrame, i: int) -> str:
    return str(table["label_then"].iloc[int(i)])
