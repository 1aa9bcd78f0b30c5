"""Tracing as commands do it: a ranking of suspects in a run directory, and who is behind an error of a run."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracemend.data import Labelled, Splits
from tracemend.data.examples import read_examples, write_examples
from tracemend.data.export import with_own
from tracemend.errors import TraceError, did_you_mean
from tracemend.methods import MethodResult, registry
from tracemend.models import LanguageModel
from tracemend.progress import EventLog, Progress
from tracemend.runs import RunDirectory, fingerprint, write_csv, write_parquet
from tracemend.trace.detectors import Detector, Subject
from tracemend.trace.influence import Influence
from tracemend.trace.tracin import TracIn
from tracemend.tuning import Checkpoint, Tuning, checkpoints, tune
from tracemend.tuning.predictor import Predictor
from tracemend.tuning.run import predictor_of

_UID = re.compile(r"[0-9a-f]{12}-\d+")


def detectors() -> dict[str, type[Detector]]:
    """The registered detectors of wrong labels by name."""
    return {name: found for name, found in registry().items() if issubclass(found, Detector)}


def detector(name: str, *, seed: int = 0) -> Detector:
    """The detector of that name, with its own defaults.

    Raises:
        TraceError: no such detector; the message names the valid ones.
    """
    known = detectors()
    if name not in known:
        raise TraceError(f"method {name!r} is {did_you_mean(name, known)}")
    return known[name](seed=seed)


def detect_run(
    model: LanguageModel,
    splits: Splits,
    detector: Detector,
    tuning: Tuning,
    *,
    out: Path,
    columns: Mapping[str, str] | None = None,
    name: str = "data",
    trusted: bool = True,
    command_line: str = "",
    progress: Progress = Progress(),
) -> dict[str, Any]:
    """Tune, rank the training labels by suspicion, and write ``suspects.csv`` and ``suspects.parquet``.

    Args:
        out: run directory; the same job there goes on, or is read back where it is finished.
        trusted: whether the validation labels were checked. Where they come out of the column in question, the
            probabilities stay empty, and a note says so.

    Returns:
        What result.json holds; the controls are the figures of a random order.

    Raises:
        RunError: ``out`` is of another run.
        TracemendError: what tuning and detector raise.
    """
    began = time.monotonic()
    prints = {"model": model.fingerprint, **splits.fingerprints}
    config = {**detector.config, "tuning": tuning.config}
    run = RunDirectory(out, command="detect", config=config, fingerprints=prints)
    if run.result is not None:
        return run.result
    write_examples(splits, out)
    progress = EventLog(out / "events.jsonl", progress)
    tuned = tune(model, splits.train, splits.validation, tuning, out=out, progress=progress)
    subject = Subject(tuned.classifier, tuned.until_best(), splits, trusted=trusted)
    found = detector.run(subject, splits, progress=progress)
    table = found.table()
    rows = splits.train.frame.set_index("uid").loc[list(table["uid"])]
    table.insert(3, "reply", list(rows["reply"]))
    table["truth"] = list(rows["truth"])
    table = table.drop(columns=[c for c in ("reply", "truth") if table[c].isna().all()])
    write_parquet(out / "suspects.parquet", table)
    write_csv(out / "suspects.csv", with_own(table, splits.train.frame))
    predictor_of(tuned, splits.validation, columns=columns, progress=progress).save(out)
    return run.finish(
        metrics=found.metrics,
        controls=found.controls,
        seconds=time.monotonic() - began,
        notes=[*splits.notes, *tuned.notes, *found.findings],
        command_line=command_line,
        data={"name": name, "labels": list(splits.labels), "positive": splits.train.positive, "checked": trusted},
        model={"name": model.name, "family": model.family, "adapter": tuning.adapter},
    )


def trace_run(
    run: Path,
    query: str = "errors",
    *,
    reply: str | None = None,
    label: str | None = None,
    top: int = 20,
    tracin: TracIn | None = None,
    model: LanguageModel | None = None,
    progress: Progress = Progress(),
) -> MethodResult:
    """The training examples that lowered (proponents) and raised (opponents) the loss of queries, by TracIn.

    Args:
        run: a finished tune, repair, detect or demo. Of a repair, its recommended classifier is traced, and the
            training set that it was tuned on.
        query: ``errors`` (validation examples that ``predict`` gets wrong, the worst first), the uid of an example,
            or a text.
        reply: second text, where the query is a text.
        label: that the query's loss is about; by default the label as given, and for a text the predicted one.
        top: proponents and opponents a query.
        tracin: how influence is taken (default: ``TracIn()``).
        model: the run's model, where it is at hand.

    Returns:
        One row a query and example: query_uid, query_text, query_reply, query_label, query_predicted, side, rank,
        uid, text, reply, label, score. The metrics are the mean scores of both sides; for the control see
        :func:`side_controls`. The same lies in ``RUN/trace/QUERY``, with ``rows.csv``.

    Raises:
        RunError: the run is not finished.
        TraceError: there is no error to trace, no such uid or label, or ``top`` is not positive.
    """
    if top < 1:
        raise TraceError(f"top is {top}; it must be at least 1.")
    splits = read_examples(run)
    predictor = Predictor.load(run, model=model)
    train, used = tuned_on(run, predictor, splits)
    queries = queries_of(predictor, splits, query, reply, label)
    predicted = predictor.predicted(predictor.probabilities(queries.pairs))
    how = tracin or TracIn()
    found = how.influence(predictor.classifier, train, queries, checkpoints=used, progress=progress)
    rows = _rows(found, top, [splits.labels[i] for i in predicted])
    means = rows.groupby("side")["score"].mean()
    result = MethodResult(
        metrics={f"mean_score_{side}s": float(means[side]) for side in ("proponent", "opponent")},
        controls=side_controls(found.scores.mean(axis=1), top, found.scores.shape[1]),
        config={
            "query": query,
            "reply": reply,
            "label": label,
            "top": top,
            "adapter": predictor.adapter,
            "tracin": asdict(how),
        },
        rows=rows,
    )
    write_csv(result.save(trace_folder(run, query, reply, label)) / "rows.csv", rows)
    return result


def side_controls(mean: npt.NDArray[np.floating[Any]], top: int, queries: int) -> dict[str, float]:
    """What the mean scores of proponents and opponents are compared with.

    Where there are several queries: the ``top`` examples that are strongest over all of them together. A trace whose
    rows do no better says of every query the same, and nothing of any. A single query has what a random example
    scores, which the strongest can only outdo.

    Args:
        mean: score of each training example, over all queries [n].
        top: proponents and opponents a query.
        queries: how many there are.

    Example:
        >>> side_controls(np.array([-2.0, 0.0, 1.0, 5.0]), 2, queries=3)
        {'mean_score_proponents': 3.0, 'mean_score_opponents': -1.0}
    """
    ordered = np.sort(mean.astype(np.float64))
    most = min(top, len(ordered)) if queries > 1 else len(ordered)
    return {
        "mean_score_proponents": float(ordered[-most:].mean()),
        "mean_score_opponents": float(ordered[:most].mean()),
    }


def trace_folder(run: Path, query: str, reply: str | None = None, label: str | None = None) -> Path:
    """Where :func:`trace_run` keeps what it found."""
    if query == "errors" or _UID.fullmatch(query):
        return run / "trace" / (query if label is None else f"{query}-{fingerprint(label)}")
    return run / "trace" / f"text-{fingerprint(query, reply, label)}"


def tuned_on(run: Path, predictor: Predictor, splits: Splits) -> tuple[Labelled, list[Checkpoint]]:
    """The training set of the run's classifier, and the checkpoints that led to it."""
    steps = checkpoints(run)
    names = [c.folder.name for c in steps if c.folder is not None]
    if predictor.adapter in names:
        return splits.train, steps[: names.index(predictor.adapter) + 1]
    if predictor.adapter != "adapter-repaired":
        return splits.train, []
    # The decisions of the run, not those of the ledger: what a person undid later was tuned on all the same.
    made = pd.read_parquet(run / "decisions.parquet")
    changed = made[made["kind"] == "label"]
    relabelled = splits.train.relabelled(dict(zip(changed["uid"], changed["new"], strict=True)))
    return relabelled.without(made.loc[made["kind"] == "remove", "uid"]), []


def queries_of(predictor: Predictor, splits: Splits, query: str, reply: str | None, label: str | None) -> Labelled:
    """The examples that a query names, with the labels that their loss is about; see :func:`trace_run`."""
    if label is not None and label not in splits.labels:
        raise TraceError(f"label {label!r} is {did_you_mean(label, splits.labels)}")
    if query == "errors":
        data = splits.validation
        p = predictor.probabilities(data.pairs)
        own = p[np.arange(len(data)), data.y]
        wrong = np.flatnonzero(predictor.predicted(p) != data.y)
        if not len(wrong):
            raise TraceError(
                f"the classifier makes no error on the {len(data)} validation examples; name a query: --query UID or "
                "--query TEXT."
            )
        return data.take(wrong[np.argsort(own[wrong], kind="stable")])
    query = query.lower() if _UID.fullmatch(query.lower()) else query
    for part in splits.parts.values():
        if query in part.uid:
            example = part.take([part.uid.index(query)])
            return example if label is None else example.relabelled({query: label})
    if _UID.fullmatch(query):
        raise TraceError(
            f"no example of the run has the uid {query!r}; suspects.csv, changes.csv and the report name them."
        )
    if not query.strip():
        raise TraceError("the query is empty; give errors, a uid or a text.")
    predicted = splits.labels[int(predictor.predicted(predictor.probabilities([(query, reply)]))[0])]
    one = Labelled.make([query], [label or predicted], replies=[reply], label_names=splits.labels)
    return replace(one, positive=splits.train.positive)


def _rows(found: Influence, top: int, predicted: Sequence[str]) -> pd.DataFrame:
    queries, parts = found.queries, []
    for i, example in enumerate(queries.frame.to_dict("records")):
        for side, table in (("proponent", found.proponents(i, top)), ("opponent", found.opponents(i, top))):
            facts = {f"query_{c}": example[c] for c in ("uid", "text", "reply", "label")}
            head = pd.DataFrame([{**facts, "query_predicted": predicted[i], "side": side}] * len(table))
            parts.append(pd.concat([head, table], axis=1))
    return pd.concat(parts, ignore_index=True)
