"""A method on concepts as a command runs it: one run directory with its result, tables and figure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.concepts.result import ConceptsResult
from tracemend.errors import ConceptError
from tracemend.methods import Method
from tracemend.models import LanguageModel, load
from tracemend.progress import EventLog, Progress
from tracemend.runs import RunDirectory, atomic, fingerprint
from tracemend.tuning import TextClassifier
from tracemend.tuning.predictor import Predictor


def concepts_run(
    method: Method[Any],
    model: Any,
    data: Any,
    *,
    out: Path,
    about: Mapping[str, Any],
    prints: Mapping[str, str],
    command_line: str = "",
    progress: Progress = Progress(),
) -> ConceptsResult:
    """Run a method once and keep it; where the same run is finished, read it back.

    Args:
        method: with its configuration.
        model: what it takes.
        data: what it takes.
        out: the run directory.
        about: model and data as the user called them, for the configuration.
        prints: fingerprints of both.
        command_line: as it was given.
        progress: shown to the user.

    Raises:
        RunError: the directory belongs to another run.
        TracemendError: what the method raises.
    """
    short = method.name.partition(".")[2]
    config = {**method.config, **about}
    run = RunDirectory(out, command=f"concepts {short}", config=config, fingerprints=prints)
    kind: type[ConceptsResult] = getattr(method, "result", ConceptsResult)
    if run.result is not None:
        return kind.load(out)
    began = time.perf_counter()
    result: ConceptsResult = method.run(model, data, progress=EventLog(out / "events.jsonl", progress))
    result.save(out)
    tables = {"rows": result.rows, "examples": getattr(result, "examples", None)}
    for name, table in tables.items():
        if isinstance(table, pd.DataFrame):
            with atomic(out / f"{name}.csv", "wb") as file:
                file.write(table.to_csv(index=False, lineterminator="\n").encode())
    with atomic(out / "figure.svg", "wb") as file:
        result.figure().savefig(file, format="svg", metadata={"Date": None})
    run.finish(
        metrics=result.metrics,
        controls=result.controls,
        seconds=time.perf_counter() - began,
        findings=list(result.findings),
        facts=dict(result.facts),
        command_line=command_line,
    )
    return result


def classifier_of(
    run: Path | None, model: str | LanguageModel | None, words: Sequence[str]
) -> tuple[Predictor | TextClassifier, str, str]:
    """The classifier of a finished run; or a language model as it is, asked for one of these words.

    Returns:
        The classifier, what it is called, and its fingerprint.

    Raises:
        ConceptError: neither or both are named, an encoder without a head, or fewer than two words.
        RunError: the run is not finished.
    """
    if (run is None) == (model is None):
        raise ConceptError(
            "name either --run, a finished tune, repair or demo, or --model with its --word for each label."
        )
    if run is not None:
        if words:
            raise ConceptError("--word is for --model; the labels of a run are its own.")
        predictor = Predictor.load(run)
        state = {name: value.double().sum().item() for name, value in predictor.classifier.state().items()}
        return predictor, str(run), fingerprint(predictor.classifier.language_model.fingerprint, state)
    found = load(str(model)) if not isinstance(model, LanguageModel) else model
    if found.family == "encoder":
        raise ConceptError(
            f"{found.name} is an encoder, which answers nothing before it is tuned; tune it (tracemend tune) and name "
            "its --run, or name a model that writes, such as smollm2."
        )
    if len(words) < 2:
        raise ConceptError("an untuned model is asked for one of several words; give --word at least twice.")
    classifier = TextClassifier(found, tuple(words), kind="lora")
    return classifier, found.name, fingerprint(found.fingerprint, list(words))
