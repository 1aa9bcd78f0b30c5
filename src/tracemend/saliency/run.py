"""Saliency as the command does it: on the classifier of a run, kept in the run's directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from tracemend.errors import TraceError, did_you_mean
from tracemend.method_runs import methods_of
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.runs import fingerprint, write_csv
from tracemend.saliency.method import Saliency
from tracemend.saliency.result import SaliencyResult
from tracemend.tuning.adapted import Pair
from tracemend.tuning.predictor import Predictor

FAMILY = "saliency"


def methods() -> dict[str, type[Saliency]]:
    """The registered saliency methods by their names without the family."""
    return methods_of(Saliency)


def named(name: str, options: Mapping[str, Any]) -> Saliency:
    """The method of that name, with these of its options; those that are None keep their defaults.

    Args:
        name: with or without ``saliency.``.
        options: field -> value.

    Raises:
        TraceError: no such method, or an option that it has not.

    Example:
        >>> named("integrated-gradients", {"steps": 32, "label": None})
        IntegratedGradients(seed=0, label=None, ..., steps=32, ...)
    """
    known = methods()
    short = name.removeprefix(f"{FAMILY}.")
    if short not in known:
        raise TraceError(f"saliency method {name!r} is {did_you_mean(short, known)}")
    given = {option: value for option, value in options.items() if value is not None}
    own = {field.name for field in fields(known[short])}
    for option in given:
        if option not in own:
            of = [other for other, found in known.items() if option in {field.name for field in fields(found)}]
            flag = option.replace("_", "-")
            raise TraceError(f"{short} has no --{flag}, which is of: {', '.join(of) or 'no method'}; leave it out.")
    return known[short](**given)


def saliency_run(
    run: Path,
    method: Saliency,
    pairs: Sequence[Pair],
    *,
    model: LanguageModel | None = None,
    progress: Progress = Progress(),
) -> tuple[SaliencyResult, Path]:
    """Weigh the words of texts for the classifier of a finished run.

    Args:
        run: a finished tune, repair, detect or demo; of a repair its recommended classifier is asked.
        pairs: texts with their replies.
        model: the run's model, where it is at hand.

    Returns:
        The result; and where it was saved, ``RUN/saliency/METHOD-HASH``, with all words in ``words.csv``.

    Raises:
        RunError: the run is not finished.
        TracemendError: what the method raises.
    """
    predictor = Predictor.load(run, model=model)
    result = method.run(predictor, pairs, progress=progress)
    short = method.name.partition(".")[2]
    folder = result.save(run / FAMILY / f"{short}-{fingerprint(method.config, list(pairs))}")
    write_csv(folder / "words.csv", result.table())
    return result, folder


def saved(run: Path) -> list[SaliencyResult]:
    """What :func:`saliency_run` kept in a run, the oldest first."""
    folders = [path.parent for path in (run / FAMILY).glob("*/method.json")]
    folders.sort(key=lambda folder: (folder / "method.json").stat().st_mtime)
    return [SaliencyResult.load(folder) for folder in folders]
