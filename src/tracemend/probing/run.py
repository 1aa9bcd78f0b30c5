"""A probe as a run: a directory with representations, table, figure and result.json."""

from __future__ import annotations

import inspect
import time
from pathlib import Path
from typing import Any, get_args

from tracemend.methods import Method
from tracemend.models import LanguageModel
from tracemend.probing.result import ProbeResult
from tracemend.progress import EventLog, Progress
from tracemend.runs import RunDirectory, atomic
from tracemend.tuning import TextClassifier


def probe_run(
    method: Method[Any],
    model: LanguageModel | TextClassifier,
    data: Any,
    *,
    out: Path,
    data_name: str,
    command_line: str = "",
    progress: Progress = Progress(),
) -> ProbeResult:
    """Run a probe once and keep it; where the same run is finished, read it back.

    Args:
        method: with its configuration.
        model: the model, or a tuned classifier where the method takes one.
        data: what the method takes, with a ``fingerprint``.
        out: the run directory. Representations lie in ``representations`` in it, so that a stopped run goes on.
        data_name: what the user called the data.
        command_line: as it was given.
        progress: shown to the user.

    Raises:
        RunError: the directory belongs to another run.
    """
    name, identity = _identity(model)
    fingerprints = {"model": identity, "data": data.fingerprint}
    config = {**method.config, "model": name, "data": data_name}
    run = RunDirectory(out, command=f"probe {method.name.partition('.')[2]}", config=config, fingerprints=fingerprints)
    if run.result is not None:
        return _result_type(method).load(out)
    began = time.perf_counter()
    kept = {"cache": out / "representations"} if "cache" in inspect.signature(method.run).parameters else {}
    result: ProbeResult = method.run(model, data, progress=EventLog(out / "events.jsonl", progress), **kept)
    result.save(out)
    with atomic(out / "rows.csv", "wb") as file:
        file.write(result.rows.to_csv(index=False, lineterminator="\n").encode())
    with atomic(out / "figure.svg", "wb") as file:
        result.figure().savefig(file, format="svg")
    run.finish(
        metrics=result.metrics,
        controls=result.controls,
        seconds=time.perf_counter() - began,
        findings=list(result.findings),
        facts=dict(result.facts),
        command_line=command_line,
    )
    return result


def _result_type(method: Method[Any]) -> type[ProbeResult]:
    """The kind of result that a method's class names in its brackets."""
    bases = [argument for base in getattr(type(method), "__orig_bases__", ()) for argument in get_args(base)]
    return next((kind for kind in bases if isinstance(kind, type) and issubclass(kind, ProbeResult)), ProbeResult)


def _identity(model: LanguageModel | TextClassifier) -> tuple[str, str]:
    """Name and fingerprint; a classifier has those of its model, and of what was tuned."""
    if isinstance(model, LanguageModel):
        return model.name, model.fingerprint
    return f"{model.language_model.name}, tuned", model.fingerprint
