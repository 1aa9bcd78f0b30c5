"""A method on units as a command runs it: one run directory with its result, table and figure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracemend.data import Treebank
from tracemend.errors import NeuronError, did_you_mean
from tracemend.method_runs import methods_of, run_kept
from tracemend.models import LanguageModel
from tracemend.neurons.neuron_method import NeuronMethod
from tracemend.neurons.result import NeuronsResult
from tracemend.progress import Progress


def methods() -> dict[str, type[NeuronMethod[Any]]]:
    """The methods on units of words by their names without the family."""
    return methods_of(NeuronMethod)


def named(name: str, options: Mapping[str, Any]) -> NeuronMethod[Any]:
    """The method of that name with these fields.

    Raises:
        NeuronError: no such method.
    """
    known = methods()
    if name not in known:
        raise NeuronError(f"method {name!r} is {did_you_mean(name, known)}")
    return known[name](**options)


def neurons_run(
    method: NeuronMethod[Any],
    model: LanguageModel,
    data: Treebank,
    *,
    out: Path,
    data_name: str,
    command_line: str = "",
    progress: Progress = Progress(),
) -> NeuronsResult:
    """Run a method once and keep it; where the same run is finished, read it back.

    Args:
        method: with its configuration.
        model: whose units.
        data: annotated sentences.
        out: the run directory.
        data_name: what the user called the data.
        command_line: as it was given.
        progress: shown to the user.

    Raises:
        RunError: the directory belongs to another run.
        TracemendError: what the method raises.
    """
    name = method.name.partition(".")[2]
    kept: NeuronsResult = run_kept(
        method,
        lambda shown: method.run(model, data, progress=shown),
        out=out,
        command=f"neurons {name}",
        fingerprints={"model": model.fingerprint, "data": data.fingerprint},
        config={"model": model.name, "data": data_name},
        facts=lambda found: {
            "findings": list(found.findings), "facts": dict(found.facts), "command_line": command_line,
        },
        progress=progress,
    )  # fmt: skip
    return kept
