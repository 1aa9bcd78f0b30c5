"""A probe as a run: a directory with representations, table, figure and result.json."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from tracemend.method_runs import run_kept
from tracemend.methods import Method
from tracemend.models import LanguageModel
from tracemend.probing.result import ProbeResult
from tracemend.progress import Progress
from tracemend.tuning import TextClassifier


def probe_run(
    method: Method[Any],
    model: LanguageModel | TextClassifier,
    data: Any,
    *,
    out: Path,
    data_name: str,
    cache: Path | None = None,
    command_line: str = "",
    progress: Progress = Progress(),
) -> ProbeResult:
    """Run a probe once and keep it; where the same run is finished, read it back.

    Args:
        method: with its configuration.
        model: the model, or a tuned classifier where the method takes one.
        data: what the method takes, with a ``fingerprint``.
        out: the run directory.
        data_name: what the user called the data.
        cache: a folder of representations, which several runs may share; those of a run alone lie in
            ``representations`` in its directory, so that a stopped run goes on.
        command_line: as it was given.
        progress: shown to the user.

    Raises:
        RunError: the directory belongs to another run.
    """
    name = model.name if isinstance(model, LanguageModel) else f"{model.language_model.name}, tuned"
    takes = "cache" in inspect.signature(method.run).parameters
    keeps = {"cache": cache or out / "representations"} if takes else {}
    kept: ProbeResult = run_kept(
        method,
        lambda shown: method.run(model, data, progress=shown, **keeps),
        out=out,
        command=f"probe {method.name.partition('.')[2]}",
        fingerprints={"model": model.fingerprint, "data": data.fingerprint},
        config={"model": name, "data": data_name},
        facts=lambda found: {
            "findings": list(found.findings), "facts": dict(found.facts), "command_line": command_line,
        },
        progress=progress,
    )  # fmt: skip
    return kept
