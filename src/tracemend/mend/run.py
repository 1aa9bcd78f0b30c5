"""A mending as the command does it: a run directory with its classifiers, table, figure and result.json."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tracemend.data import Splits
from tracemend.data.examples import write_examples
from tracemend.errors import RunError
from tracemend.mend.arms import MendResult
from tracemend.mend.marks import Spans
from tracemend.mend.regularise import Regularise
from tracemend.mend.robustness import Robustness
from tracemend.mend.shortcuts import Shortcuts, ShortcutsResult
from tracemend.models import LanguageModel
from tracemend.progress import EventLog, Progress
from tracemend.runs import RunDirectory, atomic, fingerprint, write_csv
from tracemend.tuning.checkpoints import save_checkpoint
from tracemend.tuning.run import predictor_of

ADAPTER = "adapter-mended"


def mend_run(
    method: Regularise | Robustness | Shortcuts,
    model: LanguageModel,
    splits: Splits,
    *,
    out: Path,
    rationales: Mapping[str, Spans] | None = None,
    columns: Mapping[str, str] | None = None,
    name: str = "data",
    command_line: str = "",
    progress: Progress = Progress(),
) -> MendResult:
    """Mend once and keep it; where the same run is finished, read it back, where it was stopped, go on.

    ``predict`` and ``saliency`` take the directory for that of the mended classifier, whose threshold serves best on
    validation. The control classifiers' checkpoints lie in ``arms``.

    Args:
        method: with its configuration.
        model: the model.
        splits: the data.
        out: the run directory.
        rationales: uid -> spans (of :class:`Regularise`).
        columns: names of the text columns by role, which ``predict`` takes where none are given.
        name: what the user called the data.
        command_line: as it was given.
        progress: shown to the user.

    Raises:
        RunError: the directory belongs to another run.
        TracemendError: what the method raises.
    """
    prints = {"model": model.fingerprint, **splits.fingerprints}
    more: dict[str, Any] = {}
    if isinstance(method, Regularise):
        more["rationales"] = dict(rationales or {})
        prints["rationales"] = fingerprint(sorted((uid, list(map(list, s))) for uid, s in more["rationales"].items()))
    short = method.name.partition(".")[2]
    run = RunDirectory(out, command=f"mend {short}", config=method.config, fingerprints=prints)
    if run.result is not None:
        return (ShortcutsResult if isinstance(method, Shortcuts) else MendResult).load(out)
    began = time.monotonic()
    write_examples(splits, out)
    progress = EventLog(out / "events.jsonl", progress)
    result: MendResult = method.run(model, splits, out=out, progress=progress, **more)
    if result.tuned is None:
        raise RunError(f"{method.name} gave no classifier to keep; this is a fault of the method.")
    tuned = result.tuned
    predictor = replace(predictor_of(tuned, splits.validation, columns=columns, progress=progress), adapter=ADAPTER)
    best = tuned.best
    save_checkpoint(out / ADAPTER, tuned.classifier, step=best.step, lr_sum=best.lr_sum, metrics=best.metrics)
    predictor.save(out)
    result.save(out)
    for table in ("rows", *result.tables):
        write_csv(out / f"{table}.csv", getattr(result, table))
    with atomic(out / "figure.svg", "wb") as file:
        result.figure().savefig(file, format="svg", metadata={"Date": None})
    run.finish(
        metrics={**result.metrics, "threshold": predictor.threshold},
        controls=result.controls,
        seconds=time.monotonic() - began,
        findings=list(result.findings),
        command_line=command_line,
        data={
            "name": name,
            "labels": list(splits.labels),
            "positive": splits.train.positive,
            "sizes": {part: len(data) for part, data in splits.parts.items()},
        },
        model={"name": model.name, "family": model.family, "adapter": method.tuning.adapter},
    )
    return result
