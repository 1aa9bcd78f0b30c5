"""Tracing a run through its store: built where it lacks, kept, and asked again at the price of reading it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tracemend.data import Labelled
from tracemend.data.examples import read_examples
from tracemend.errors import TraceError, did_you_mean
from tracemend.methods import MethodResult
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.runs import write_csv, write_parquet
from tracemend.trace.run import queries_of, side_controls, trace_folder, tuned_on
from tracemend.trace.scoring.datainf import DataInf
from tracemend.trace.scoring.dot import TracInScore
from tracemend.trace.scoring.ekfac import EkFac
from tracemend.trace.scoring.queries import TracedQueries
from tracemend.trace.scoring.score import Score
from tracemend.trace.scoring.scored import Scored
from tracemend.trace.scoring.stream import score
from tracemend.trace.store import GradientStore
from tracemend.tuning import Checkpoint, TextClassifier
from tracemend.tuning.predictor import Predictor

SCORES: dict[str, type[Score]] = {kind.name: kind for kind in (TracInScore, DataInf, EkFac)}


def named(name: str) -> Score:
    """The score of that name, with its own defaults.

    Raises:
        TraceError: no such score; the message names the valid ones.
    """
    if name not in SCORES:
        raise TraceError(f"the score {name!r} is {did_you_mean(name, SCORES)}")
    return SCORES[name]()


def score_run(
    run: Path,
    query: str = "errors",
    *,
    reply: str | None = None,
    label: str | None = None,
    top: int = 20,
    how: Score | None = None,
    dense: bool = False,
    model: LanguageModel | None = None,
    progress: Progress = Progress(),
) -> MethodResult:
    """As :func:`tracemend.trace.run.trace_run`, with the training examples' gradients from ``RUN/store``.

    The first call builds the store, or what it lacks; further ones trace the queries alone.

    Args:
        run, query, reply, label, top, model: see there.
        how: the score (default: ``TracInScore()``).
        dense: keep the whole matrix of scores as ``scores.npy``; scoring that was interrupted goes on from it.

    Returns:
        The same rows, metrics and controls. They lie in :func:`score_folder`, beside ``per_train.csv``: mean, max, min
        and votes of every training example over the queries.

    Raises:
        RunError: the run is not finished, or the disk is full.
        TraceError: there is no error to trace, no such uid or label, or the run's store is of something else.

    Example:
        >>> score_run(Path("runs/mine"), "errors", how=DataInf()).table()
    """
    if top < 1:
        raise TraceError(f"top is {top}; it must be at least 1.")
    how = TracInScore() if how is None else how
    splits = read_examples(run)
    predictor = Predictor.load(run, model=model)
    train, steps = tuned_on(run, predictor, splits)
    queries = queries_of(predictor, splits, query, reply, label)
    store, used = _store(run / "store", predictor.classifier, train, steps, progress)
    folder = score_folder(run, query, how.name, reply, label)
    asked = TracedQueries(
        predictor.classifier, queries, used, method=store.manifest["way"], precision=store.manifest["precision"]
    )
    path = folder / "scores.npy" if dense else None
    found = score(store, asked, how, top=top, dense=path, progress=progress)
    rows = _rows(found, queries, train, predictor)
    means = rows.groupby("side")["score"].mean()
    result = MethodResult(
        metrics={f"mean_score_{side}s": float(means[side]) for side in ("proponent", "opponent")},
        controls=side_controls(found.mean, top, len(queries)),
        config={"query": query, "reply": reply, "label": label, "top": top, "adapter": predictor.adapter, **how.config},
        rows=rows,
    )
    result.save(folder)
    write_csv(folder / "rows.csv", rows)
    each = found.per_train().merge(train.frame[["uid", "text", "reply"]], on="uid")
    write_parquet(folder / "per_train.parquet", each)
    write_csv(folder / "per_train.csv", each)
    return result


def share_build(run: Path, *, model: LanguageModel | None = None, progress: Progress = Progress()) -> None:
    """Build ``RUN/store`` as :func:`score_run` does and stop there: what all but the first of several processes do."""
    predictor = Predictor.load(run, model=model)
    train, steps = tuned_on(run, predictor, read_examples(run))
    _store(run / "store", predictor.classifier, train, steps, progress)


def score_folder(run: Path, query: str, score: str, reply: str | None = None, label: str | None = None) -> Path:
    """Where :func:`score_run` keeps what it found: ``RUN/trace/QUERY-SCORE``."""
    folder = trace_folder(run, query, reply, label)
    return folder.with_name(f"{folder.name}-{score}")


def _store(
    path: Path, classifier: TextClassifier, train: Labelled, steps: Sequence[Checkpoint], progress: Progress
) -> tuple[GradientStore, list[Checkpoint]]:
    """The run's store, complete, and the checkpoints it is of; one that is there keeps its own options."""
    used = list(steps) or [Checkpoint(step=0, lr_sum=1.0, state=classifier.state(), moments={})]
    if not (path / "manifest.json").exists():
        return GradientStore.build(path, classifier, train, used, progress=progress), used
    there = GradientStore.open(path)
    kept = {checkpoint["step"] for checkpoint in there.manifest["checkpoints"]}
    used = [checkpoint for checkpoint in used if checkpoint.step in kept]
    return GradientStore.build(path, classifier, train, used, **there.options, progress=progress), used


def _rows(found: Scored, queries: Labelled, train: Labelled, predictor: Predictor) -> pd.DataFrame:
    predicted = [queries.labels[i] for i in predictor.predicted(predictor.probabilities(queries.pairs))]
    texts = train.frame[["text", "reply"]]
    parts = []
    for i, example in enumerate(queries.frame.to_dict("records")):
        for side, strongest in (("proponent", found.top(i)), ("opponent", found.bottom(i))):
            of = texts.iloc[strongest["row"]].reset_index(drop=True)
            table = pd.concat([strongest[["rank", "uid"]], of, strongest[["label", "score"]]], axis=1)
            facts = {f"query_{c}": example[c] for c in ("uid", "text", "reply", "label")}
            head = pd.DataFrame([{**facts, "query_predicted": predicted[i], "side": side}] * len(table))
            parts.append(pd.concat([head, table], axis=1))
    return pd.concat(parts, ignore_index=True)
