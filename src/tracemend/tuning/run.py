"""One tuning as a run directory: resumable, measured beside its controls, ready to predict and to trace."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tracemend.data import Labelled, Splits
from tracemend.data.examples import write_examples
from tracemend.evaluate import scores, threshold
from tracemend.models import LanguageModel
from tracemend.progress import EventLog, Progress
from tracemend.runs import RunDirectory
from tracemend.tuning.predictor import Predictor
from tracemend.tuning.tune import Tuned, Tuning, tune

Scores = dict[str, dict[str, float]]
# What result.json repeats of a split, for whoever reads one figure only.
HEADLINE = ("ap", "accuracy", "macro_f1")


def tune_run(
    model: LanguageModel,
    splits: Splits,
    tuning: Tuning,
    *,
    out: Path,
    columns: Mapping[str, str] | None = None,
    name: str = "data",
    command_line: str = "",
    checked: bool = True,
    progress: Progress = Progress(),
) -> dict[str, Any]:
    """Tune into a run directory and measure on validation, verdict and test.

    The headline figures are those of the test where there is one, else of the verdict part. The controls are what the
    label frequencies alone give (``majority``) and a logistic regression on word counts (``words``): an adapter that
    is not above these has learnt nothing that needs a language model.

    Args:
        out: run directory; the same job there goes on, or is read back where it is finished.
        columns: names of the text columns by role, which ``predict`` takes where none are given.
        checked: whether somebody vouches for the validation labels.

    Returns:
        What result.json holds.

    Raises:
        RunError: ``out`` is of another run.
        TuningError: see :func:`tracemend.tuning.tune`.
    """
    began = time.monotonic()
    prints = {"model": model.fingerprint, **splits.fingerprints}
    run = RunDirectory(out, command="tune", config=tuning.config, fingerprints=prints)
    if run.result is not None:
        return run.result
    write_examples(splits, out)
    progress = EventLog(out / "events.jsonl", progress)
    tuned = tune(model, splits.train, splits.validation, tuning, out=out, progress=progress)
    predictor = predictor_of(tuned, splits.validation, columns=columns, progress=progress)
    measured = _measured(predictor, splits, progress)
    predictor.save(out)
    judged = "test" if splits.test is not None else "verdict"
    parameters = sum(p.numel() for p in tuned.classifier.trainable().values())
    sizes = {part: len(data) for part, data in splits.parts.items()}
    return run.finish(
        metrics={
            **{figure: measured[judged][figure] for figure in HEADLINE},
            **{f"{part}_{figure}": value for part, found in measured.items() for figure, value in found.items()},
            "threshold": predictor.threshold,
            "epochs": len(tuned.checkpoints),
            "seconds": time.monotonic() - began,
        },
        controls={name: _headline(found[judged]) for name, found in _controls(splits, tuning.seed).items()},
        seconds=time.monotonic() - began,
        notes=[*splits.notes, *tuned.notes],
        command_line=command_line,
        judged_on=judged,
        seeds={"tuning": tuning.seed},
        data={
            "name": name,
            "labels": list(splits.labels),
            "positive": splits.train.positive,
            "sizes": sizes,
            "checked": checked,
        },
        model={
            "name": model.name,
            "family": model.family,
            "adapter": tuning.adapter,
            "learning_rate": tuning.rate,
            "trainable_parameters": parameters,
        },
    )


def predictor_of(
    tuned: Tuned,
    validation: Labelled,
    *,
    columns: Mapping[str, str] | None = None,
    progress: Progress = Progress(),
) -> Predictor:
    """The tuned classifier with the threshold that serves best on validation."""
    folder = tuned.best.folder
    predictor = Predictor(
        tuned.classifier,
        tuned.tuning,
        validation.positive,
        threshold=None,
        adapter="" if folder is None else folder.name,
        columns=dict(columns or {}),
    )
    p = predictor.probabilities(validation.pairs, progress=progress)
    return predictor.at_threshold(threshold(validation.y, p, validation.positive_index))


def _measured(predictor: Predictor, splits: Splits, progress: Progress) -> Scores:
    judged = {name: part for name, part in splits.parts.items() if name != "train"}
    found = {}
    for name, part in judged.items():
        p = predictor.probabilities(part.pairs, progress=progress)
        found[name] = scores(part.y, p, part.positive_index, threshold=predictor.threshold)
    return found


def _controls(splits: Splits, seed: int) -> dict[str, Scores]:
    judged = {name: part for name, part in splits.parts.items() if name != "train"}
    frequencies = np.bincount(splits.train.y, minlength=len(splits.labels)) / len(splits.train)
    found: dict[str, Scores] = {"majority": {}, "words": {}}
    for name, part in judged.items():
        found["majority"][name] = scores(part.y, np.tile(frequencies, (len(part), 1)), part.positive_index)
        found["words"][name] = scores(part.y, _by_words(splits.train, part, seed), part.positive_index)
    return found


def _by_words(train: Labelled, part: Labelled, seed: int) -> npt.NDArray[np.float64]:
    """Probabilities [n, C] of a logistic regression on TF-IDF; a label that train lacks gets none."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    # Single characters count as words too, so that no text is without features.
    model = make_pipeline(TfidfVectorizer(token_pattern=r"\S+"), LogisticRegression(max_iter=1000, random_state=seed))
    model.fit(_texts(train), train.y)
    found = np.zeros((len(part), len(train.labels)))
    found[:, model.classes_] = model.predict_proba(_texts(part))
    return found


def _texts(data: Labelled) -> list[str]:
    return [text if reply is None else f"{text}\n{reply}" for text, reply in data.pairs]


def _headline(found: Mapping[str, float]) -> dict[str, float]:
    return {figure: found[figure] for figure in HEADLINE}
