"""A new version from what people decided: the run's own tuning again, on labels and words as people left them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from tracemend.data import Labelled
from tracemend.data.decision import Decision
from tracemend.data.ledger import Ledger
from tracemend.data.words import texts_holding
from tracemend.errors import DataError, RunError
from tracemend.evaluate import threshold
from tracemend.mend.marks import other_words
from tracemend.mend.regularise import FEWEST, tune_on_decisions
from tracemend.mend.reliance import word_shares
from tracemend.mend.repaired import apply
from tracemend.progress import Progress
from tracemend.runs import write_json
from tracemend.studio.decisions import NOTHING, Rows
from tracemend.studio.prepare import Loaded, predict, prepare
from tracemend.studio.versions import WORDS, Version, next_name
from tracemend.studio.versions import version as version_of
from tracemend.tuning import TextClassifier, tune
from tracemend.tuning.checkpoints import save_checkpoint
from tracemend.tuning.predictor import Predictor


def retrain(loaded: Loaded, folder: Path, asked: Mapping[str, Any], *, progress: Progress = Progress()) -> Version:
    """Tune afresh with the settings of the run, keep the model as the next version, and prepare it.

    Afresh, so that the version differs from the original by what was decided and not by more tuning. Where words are
    marked they are tuned on as well (:func:`tracemend.mend.tune_on_decisions`), and what they weigh before and after
    is measured on the verdict part.

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
    state, words = rows.in_force(asked["basis"]), _of_training(rows.words(), splits.train)
    if not words and all(d.kind == "keep" for d in state.values()):
        raise RunError(NOTHING)
    train = apply(splits.train, state)
    progress.note("stage", stage="tune")
    where: dict[str, Any] = {"out": folder / "tuning", "progress": progress}
    if words:
        tuned = tune_on_decisions(loaded.model, train, splits.validation, words, loaded.tuning, **where)
    else:
        tuned = tune(loaded.model, train, splits.validation, loaded.tuning, **where)
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
        words=tuple(d.version for d in words),
        n_train=len(train),
        note=str(asked.get("note", "")),
    )
    version = replace(version, title=f"Version {int(version.name)}", adapter=version.folder / "adapter")
    shutil.rmtree(version.folder, ignore_errors=True)  # of a job that was cancelled before it had a version
    best = tuned.best
    save_checkpoint(version.adapter, tuned.classifier, step=best.step, lr_sum=best.lr_sum, metrics=best.metrics)
    p = predict(loaded, version, tuned.classifier, progress)["validation"]
    cut = threshold(splits.validation.y, p, splits.validation.positive_index)
    Predictor(tuned.classifier, tuned.tuning, splits.train.positive, cut, adapter="adapter").save(version.folder)
    if words:
        progress.note("stage", stage="words")
        write_json(version.folder / WORDS, _weighed(loaded, version, tuned.classifier, train, words, progress))
    version.save()  # last: from now on it is there
    shutil.rmtree(folder / "tuning", ignore_errors=True)
    prepare(loaded, version, progress=progress)
    return version


def _of_training(words: Sequence[Decision], train: Labelled) -> list[Decision]:
    """The marks that can be tuned on: not those on a validation text, and not on a word that no training text holds."""
    known = set(train.uid)
    texts = [f"{text}\n{reply or ''}" for text, reply in train.pairs]
    return [d for d in words if (texts_holding(texts, str(d.new)) if d.scope == "all" else d.uid in known)]


def _weighed(
    loaded: Loaded,
    version: Version,
    classifier: TextClassifier,
    train: Labelled,
    words: Sequence[Decision],
    progress: Progress,
) -> list[dict[str, Any]]:
    """What each marked word weighs before and after, beside an unmarked word of about as many training texts."""
    seed, verdict = loaded.tuning.seed, loaded.splits.verdict
    targets = {str(d.new).casefold(): (str(d.new), bool(d.evidence.get("matters"))) for d in words}
    marked = [word for word, _ in targets.values()]
    try:
        others: Mapping[str, str] = other_words(train.pairs, marked, fewest=FEWEST, seed=seed)
    except DataError:  # too few training texts for a control
        others = {}
    both = [*marked, *others.values()]
    earlier = loaded.classifier(version_of(loaded.run, str(version.parent)))
    before, after = (word_shares(c, verdict, both, seed=seed, progress=progress) for c in (earlier, classifier))
    measured = {row["word"]: row for row in _merged(before, after)}
    return [
        {
            **measured[word],
            "matters": matters,
            "train": texts_holding((f"{text}\n{reply or ''}" for text, reply in train.pairs), word),
            "control": measured.get(others.get(word, "")),
        }
        for word, matters in targets.values()
    ]


def _merged(before: pd.DataFrame, after: pd.DataFrame) -> list[dict[str, Any]]:
    """One JSON row a word; None where no text holds it."""
    found = before.merge(after, on=["word", "texts"], suffixes=("_before", "_after"))
    rows = found.astype(object).where(found.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]
