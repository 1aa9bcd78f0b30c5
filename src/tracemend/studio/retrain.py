"""A new version from what people decided: the run's own tuning again, on the labels as they now are."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tracemend.errors import RunError
from tracemend.evaluate import threshold
from tracemend.mend.export import apply
from tracemend.mend.ledger import Ledger
from tracemend.progress import Progress
from tracemend.studio.decisions import Rows
from tracemend.studio.prepare import Loaded, predict, prepare
from tracemend.studio.versions import Version, next_name
from tracemend.tuning import tune
from tracemend.tuning.checkpoints import save_checkpoint
from tracemend.tuning.predictor import Predictor


def retrain(loaded: Loaded, folder: Path, asked: Mapping[str, Any], *, progress: Progress = Progress()) -> Version:
    """Tune afresh with the settings of the run, keep the model as the next version, and prepare it.

    Afresh, so that the version differs from the original by its labels alone and not by more tuning.

    Args:
        folder: of the job; holds the checkpoints while it tunes.
        asked: ``basis`` (``people`` or ``all``), ``actor``, ``note``, ``parent``.

    Raises:
        RunError: nothing was decided, so that there is nothing to tune anew on.
        TracemendError: what the tuning raises.
    """
    run, splits = loaded.run, loaded.splits
    with Ledger(run / "ledger.sqlite") as ledger:
        rows = Rows.of(ledger.decisions())
    state = rows.in_force(asked["basis"])
    carried_out = {uid: d for uid, d in state.items() if d.kind != "keep"}
    if not carried_out:
        raise RunError("no label was changed and nothing removed, so a new model would be the old one; decide first.")
    train = apply(splits.train, state)
    progress.note("stage", stage="tune")
    tuned = tune(loaded.model, train, splits.validation, loaded.tuning, out=folder / "tuning", progress=progress)
    version = Version(
        name=next_name(run),
        title="",
        run=run,
        adapter=run,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        actor=str(asked["actor"]),
        basis=str(asked["basis"]),
        parent=str(asked["parent"]),
        decisions=tuple(sorted(d.version for d in state.values())),
        n_train=len(train),
        note=str(asked.get("note", "")),
    )
    version = replace(version, title=f"Version {int(version.name)}", adapter=version.folder / "adapter")
    best = tuned.best
    save_checkpoint(version.adapter, tuned.classifier, step=best.step, lr_sum=best.lr_sum, metrics=best.metrics)
    p = predict(loaded, version, tuned.classifier, progress)["validation"]
    cut = threshold(splits.validation.y, p, splits.validation.positive_index)
    Predictor(tuned.classifier, loaded.tuning, splits.train.positive, cut, adapter="adapter").save(version.folder)
    version.save()  # last: from now on it is there
    shutil.rmtree(folder / "tuning", ignore_errors=True)
    prepare(loaded, version, progress=progress)
    return version
