"""AMPLIFY as the command does it: a run directory with its tables, figure and result.json, and no classifier."""

from __future__ import annotations

from pathlib import Path

from tracemend.data import Splits
from tracemend.mend.amplify import Amplify, AmplifyResult
from tracemend.mend.endpoint import Endpoint
from tracemend.method_runs import run_kept
from tracemend.models import LanguageModel
from tracemend.progress import Progress


def amplify_run(
    method: Amplify,
    model: LanguageModel | Endpoint,
    splits: Splits,
    proxy: LanguageModel,
    *,
    out: Path,
    name: str = "data",
    command_line: str = "",
    progress: Progress = Progress(),
) -> AmplifyResult:
    """Run once and keep it; where the same run is finished, read it back.

    Args:
        method: with its configuration.
        model: the decoder, or where one answers.
        splits: the data.
        proxy: is tuned on the training part.
        out: the run directory; ``samples.csv`` holds the examples with their words.
        name: what the user called the data.
        command_line: as it was given.
        progress: shown to the user.

    Raises:
        RunError: the directory belongs to another run.
        TracemendError: what the method raises.
    """
    return run_kept(
        method,
        lambda shown: method.run(model, splits, proxy=proxy, progress=shown),
        out=out,
        command="mend amplify",
        fingerprints={"model": model.fingerprint, "proxy": proxy.fingerprint, **splits.fingerprints},
        facts=lambda found: {
            "findings": list(found.findings), "notes": list(splits.notes), "facts": dict(found.facts),
            "command_line": command_line,
            "data": {"name": name, "labels": list(splits.labels),
                     "sizes": {part: len(data) for part, data in splits.parts.items()}},
        },
        tables=lambda found: {"samples": found.samples()},
        progress=progress,
    )  # fmt: skip
