"""A method on units as a command runs it: one run directory with its result, table and figure."""

from __future__ import annotations

import inspect
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracemend.data import Splits
from tracemend.errors import NeuronError, did_you_mean
from tracemend.methods import Method, registry
from tracemend.models import LanguageModel
from tracemend.neurons.result import NeuronsResult
from tracemend.progress import EventLog, Progress
from tracemend.runs import RunDirectory, atomic
from tracemend.tuning import TextClassifier


def methods() -> dict[str, type[Method[Any]]]:
    """The methods on units by their names without the family."""
    return {name.partition(".")[2]: method for name, method in registry().items() if name.startswith("neurons.")}


def named(name: str, options: Mapping[str, Any]) -> Method[Any]:
    """The method of that name with these fields.

    Raises:
        NeuronError: no such method.
    """
    known = methods()
    if name not in known:
        raise NeuronError(f"method {name!r} is {did_you_mean(name, known)}")
    return known[name](**options)


def neurons_run(
    method: Method[Any],
    model: LanguageModel | TextClassifier,
    data: Any,
    *,
    out: Path,
    data_name: str,
    command_line: str = "",
    progress: Progress = Progress(),
) -> NeuronsResult:
    """Run a method once and keep it; where the same run is finished, read it back.

    Args:
        method: with its configuration.
        model: whose units; a tuned classifier where the method takes one.
        data: what the method takes, with a ``fingerprint``, or :class:`Splits`.
        out: the run directory.
        data_name: what the user called the data.
        command_line: as it was given.
        progress: shown to the user.

    Raises:
        RunError: the directory belongs to another run.
        TracemendError: what the method raises.
    """
    prints = {"model": model.fingerprint}
    prints |= data.fingerprints if isinstance(data, Splits) else {"data": data.fingerprint}
    name = model.name if isinstance(model, LanguageModel) else f"{model.language_model.name}, tuned"
    config = {**method.config, "model": name, "data": data_name}
    run = RunDirectory(out, command=f"neurons {method.name.partition('.')[2]}", config=config, fingerprints=prints)
    kind: type[NeuronsResult] = getattr(method, "result", NeuronsResult)
    if run.result is not None:
        return kind.load(out)
    began = time.perf_counter()
    # What is paid for is kept as it comes.
    kept = {"cache": out} if "cache" in inspect.signature(method.run).parameters else {}
    result: NeuronsResult = method.run(model, data, progress=EventLog(out / "events.jsonl", progress), **kept)
    result.save(out)
    with atomic(out / "rows.csv", "wb") as file:
        file.write(result.rows.to_csv(index=False, lineterminator="\n").encode())
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
