"""The classifier of a finished run: loaded by its directory, with the threshold chosen on validation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.torch import load_file

from tracemend.errors import RunError
from tracemend.evaluate import predictions
from tracemend.models import LanguageModel, load
from tracemend.progress import Progress
from tracemend.runs import fingerprint, read_json, write_json
from tracemend.tuning.adapted import Pair
from tracemend.tuning.classifier import TextClassifier
from tracemend.tuning.tune import Tuning, resolve_precision

NAME = "classifier.json"
_KEYS = ("model", "fingerprint", "labels", "positive", "threshold", "adapter", "columns", "tuning")
# A finished run is not done again, and so would not write it anew.
_REMEDY = "delete it and result.json beside it, and give the command of the run again: it resumes and writes both."


@dataclass(frozen=True, eq=False)
class Predictor:
    """A tuned classifier with what is needed to use it on new texts.

    Attributes:
        classifier: with the parameters of the run's adapter.
        tuning: how it was tuned.
        positive: the label that ``threshold`` is about.
        threshold: probability of the positive label from which it is predicted, chosen on validation; None with more
            than two labels, where the most probable label is predicted.
        adapter: name of the adapter's folder in the run directory.
        columns: names of the text columns that it was tuned on, by role (``text``, ``reply``).
    """

    classifier: TextClassifier
    tuning: Tuning
    positive: str
    threshold: float | None
    adapter: str
    columns: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, run: Path | str, *, model: LanguageModel | None = None) -> Predictor:
        """The recommended classifier of a finished ``tune``, ``repair``, ``detect`` or ``demo``.

        Args:
            run: the run directory.
            model: the model that was tuned, where it is at hand; else it is loaded by its name.

        Raises:
            RunError: the run is not finished or damaged, or the model is not the one that was tuned.
            ModelError: the model cannot be loaded.

        Example:
            >>> Predictor.load("runs/mine").table([("you rock", None)])  # doctest: +SKIP
        """
        folder = Path(run)
        facts = _facts(folder)
        model = load(facts["model"]) if model is None else model
        if model.fingerprint != facts["fingerprint"]:
            raise RunError(
                f"{folder} was tuned on a model {facts['model']!r} with fingerprint {facts['fingerprint']}, but what "
                f"has this name now has {model.fingerprint}; bring back the model it was tuned on."
            )
        try:
            tuning = Tuning(**facts["tuning"])
        except TypeError as error:
            raise RunError(f"{folder / NAME} is damaged ({error}); {_REMEDY}") from error
        classifier = tuning.classifier(model, tuple(facts["labels"]))
        path = folder / facts["adapter"] / "parameters.safetensors"
        try:
            classifier.restore(load_file(str(path)))
        except (OSError, SafetensorError) as error:
            raise RunError(f"{path} cannot be read ({error}); give the command of the run again.") from error
        return cls(classifier, tuning, facts["positive"], facts["threshold"], facts["adapter"], facts["columns"])

    def save(self, run: Path | str) -> None:
        """Write ``classifier.json``, which :meth:`load` reads; the adapter itself lies in its folder already."""
        model = self.classifier.language_model
        local = Path(model.name)
        facts = {
            # A folder must be found from other places too.
            "model": str(local.resolve()) if local.is_dir() else model.name,
            "fingerprint": model.fingerprint,
            "labels": list(self.classifier.labels),
            "positive": self.positive,
            "threshold": self.threshold,
            "adapter": self.adapter,
            "columns": dict(self.columns),
            "tuning": self.tuning.config,
        }
        write_json(Path(run) / NAME, facts)

    def at_threshold(self, threshold: float | None) -> Predictor:
        """The same predictor with another threshold."""
        return replace(self, threshold=threshold)

    def probabilities(self, pairs: Sequence[Pair], *, progress: Progress = Progress()) -> np.ndarray[Any, Any]:
        """Probabilities [n, C] in the precision it was tuned in."""
        precision = resolve_precision(self.tuning.precision, self.classifier.device)
        return self.classifier.probabilities(pairs, precision=precision, progress=progress)

    def predicted(self, probabilities: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Label indices [n] of probabilities [n, C]: the most probable; of two, positive from the threshold on."""
        return predictions(probabilities, self.classifier.labels.index(self.positive), self.threshold)

    def table(
        self,
        pairs: Sequence[Pair],
        *,
        others: pd.DataFrame | None = None,
        rows: Sequence[int] | None = None,
        progress: Progress = Progress(),
    ) -> pd.DataFrame:
        """One row a text: ``text``, ``reply`` (where there are any), ``label``, one probability a label, ``threshold``.

        The probabilities' columns are called ``p_LABEL``.

        Args:
            others: columns to carry through, a row a text; they follow in their order, and one whose name is taken is
                called ``original_NAME``.
            rows: numbers of the rows in their source, which become the first column, ``row``.
        """
        labels = self.classifier.labels
        p = self.probabilities(pairs, progress=progress)
        chosen = self.predicted(p)
        columns: dict[str, Any] = {} if rows is None else {"row": list(rows)}
        columns["text"] = [text for text, _ in pairs]
        if any(reply is not None for _, reply in pairs):
            columns["reply"] = [reply for _, reply in pairs]
        columns["label"] = [labels[i] for i in chosen]
        columns |= {f"p_{label}": p[:, i].astype(np.float64).round(6) for i, label in enumerate(labels)}
        shown = None if self.threshold is None else round(self.threshold, 6)
        made = pd.DataFrame({**columns, "threshold": shown})
        return made if others is None else pd.concat([made, _renamed(others, made)], axis=1)


def _renamed(others: pd.DataFrame, made: pd.DataFrame) -> pd.DataFrame:
    """The columns to carry through, under names that are not taken."""
    names: dict[str, str] = {}
    for column in others.columns:
        name = column
        while name in made or name in names.values() or (name != column and name in others):
            name = f"original_{name}"
        names[column] = name
    return others.rename(columns=names).reset_index(drop=True)


def columns_of(run: Path | str) -> dict[str, str]:
    """The text columns that a run's classifier was tuned on, by role, without loading it.

    Raises:
        RunError: the run is not finished or damaged.
    """
    return dict(_facts(Path(run))["columns"])


def identity_of(run: Path | str) -> tuple[str, int]:
    """A fingerprint of a run's classifier with its parameters, and the seed it was tuned under, without loading it.

    Raises:
        RunError: the run is not finished or damaged.
    """
    folder = Path(run)
    facts = _facts(folder)
    path = folder / facts["adapter"] / "parameters.safetensors"
    try:
        with path.open("rb") as file:
            parameters = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error}); give the command of the run again.") from error
    # The model is known by its fingerprint: where it lies does not matter.
    known = {key: value for key, value in facts.items() if key not in ("model", "columns")}
    return fingerprint(known, parameters), int(facts["tuning"].get("seed", 0))


def _facts(folder: Path) -> dict[str, Any]:
    """What ``classifier.json`` of a run holds, with all its keys."""
    path = folder / NAME
    if not path.exists():
        raise RunError(
            f"{folder} holds no finished classifier ({NAME} is missing); name the --out directory of a finished "
            "tune, repair or demo, or give its command again to finish it."
        )
    facts = read_json(path)
    missing = [key for key in _KEYS if key not in facts] if isinstance(facts, dict) else list(_KEYS)
    if missing:
        raise RunError(f"{path} is damaged ({', '.join(missing)} missing); {_REMEDY}")
    return dict(facts)
