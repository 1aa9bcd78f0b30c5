"""A method on units as a command runs it: one run directory with its result, table and figure."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracemend.data import Splits
from tracemend.errors import NeuronError, did_you_mean
from tracemend.method_runs import run_kept
from tracemend.methods import Method, registry
from tracemend.models import LanguageModel
from tracemend.neurons.result import NeuronsResult
from tracemend.progress import Progress
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
    name = model.name if isinstance(model, LanguageModel) else f"{model.language_model.name}, tuned"
    # What is paid for is kept as it comes.
    keeps = {"cache": out} if "cache" in inspect.signature(method.run).parameters else {}
    kept: NeuronsResult = run_kept(
        method,
        lambda shown: method.run(model, data, progress=shown, **keeps),
        out=out,
        command=f"neurons {method.name.partition('.')[2]}",
        fingerprints={
            "model": model.fingerprint,
            **(data.fingerprints if isinstance(data, Splits) else {"data": data.fingerprint}),
        },
        config={"model": name, "data": data_name},
        facts=lambda found: {
            "findings": list(found.findings), "facts": dict(found.facts), "command_line": command_line,
        },
        progress=progress,
    )  # fmt: skip
    return kept
