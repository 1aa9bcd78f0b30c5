"""A method on concepts as a command runs it: one run directory with its result, tables and figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracemend.concepts.result import ConceptsResult
from tracemend.concepts.tcav_result import TcavResult
from tracemend.errors import ConceptError
from tracemend.method_runs import run_kept
from tracemend.methods import Method
from tracemend.models import LanguageModel, load
from tracemend.progress import Progress
from tracemend.runs import fingerprint
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
    kept: ConceptsResult = run_kept(
        method,
        lambda shown: method.run(model, data, progress=shown),
        out=out,
        command=f"concepts {method.name.partition('.')[2]}",
        fingerprints=prints,
        config=about,
        facts=lambda found: {
            "findings": list(found.findings), "facts": dict(found.facts), "command_line": command_line,
        },
        tables=lambda found: {"examples": found.examples} if isinstance(found, TcavResult) else {},
        progress=progress,
    )  # fmt: skip
    return kept


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
        return predictor, str(run), predictor.classifier.fingerprint
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
