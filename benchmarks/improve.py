"""Feedback on words, tuned on: what it changes, right and wrong; the table of docs/results.md.

    python -m benchmarks.improve --table                              # from the stored rows alone
    python -m benchmarks.improve --task planted --seeds 5 --minutes 7 # what is missing, for 7 minutes; resumes

Tasks: ``planted`` (a word that stands in 95 % of the positive and 5 % of the negative training sentences of SST-2 is
marked as one that should not matter), ``hate`` (names of groups in hate_stormfront, tested on HateCheck), ``groups``
(the same, from the whole training part), ``movies`` (people's rationales of reviews, tested on other sets),
``nli`` (words of an SNLI hypothesis that stand in its premise, tested on HANS), ``toxic`` (spans of toxic posts: do
attributions agree with people?), ``cost`` (seconds of a step).

Each draw of each arm is one row in ``benchmarks/results/improve``: arms are tuned on the same examples from the same
start, to the last epoch. ``--development`` judges on other examples than the published figures do: settings are chosen
there, on seeds from 100 on.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.feedback import TASKS
from tracemend.data import reference, sample
from tracemend.evaluate import paired_difference
from tracemend.evaluate.grid import Cell, Results, run_cells
from tracemend.mend.marks import of_tokens
from tracemend.mend.penalty import Penalty
from tracemend.mend.regularise import tune_marked
from tracemend.models import LanguageModel, load
from tracemend.saliency import encoded
from tracemend.tuning import TextClassifier, Tuning

os.environ.setdefault("HF_HUB_OFFLINE", "1")

HERE = Path(__file__).parent
ROWS, OUT = HERE / "results" / "improve", HERE / "out" / "improve"
ARMS = ("none", "right", "wrong")
# Differences of fewer seeds get no interval.
_FEWEST = 3
# Training examples, epochs, batch, tokens, and the strength of the penalty (docs/results.md says how it was chosen).
SETTINGS: dict[str, dict[str, Any]] = {
    "planted": {"size": 800, "epochs": 2, "batch_size": 16, "max_length": 64, "strength": 10.0, "texts": 10},
    "hate": {"size": 300, "epochs": 3, "batch_size": 16, "max_length": 64, "strength": 10.0, "texts": 25},
    "groups": {"size": 2000, "epochs": 2, "batch_size": 16, "max_length": 64, "strength": 10.0, "texts": 25},
    "movies": {"size": 64, "epochs": 3, "batch_size": 8, "max_length": 256, "strength": 1.0, "texts": 10},
    "nli": {"size": 240, "epochs": 3, "batch_size": 8, "max_length": 64, "strength": 10.0, "texts": 16},
    "toxic": {"size": 120, "epochs": 3, "batch_size": 8, "max_length": 64, "strength": 1.0, "texts": 20},
    "cost": {"size": 64, "batch_size": 16, "max_length": 64, "rounds": 4},
}


@lru_cache(maxsize=1)
def _model(name: str) -> LanguageModel:
    return load(name)


def work(cell: Cell) -> pd.DataFrame:
    """The row of one arm of one draw."""
    given = dict(cell.settings)
    model = _model(given["model"])
    tuning = Tuning(
        adapter=given["adapter"], epochs=given.get("epochs", 1), batch_size=given["batch_size"],
        max_length=given["max_length"], learning_rate=given.get("rate"), seed=cell.seed,
    )  # fmt: skip
    if cell.dataset == "cost":
        return pd.DataFrame([cost(model, tuning, given)])
    draw = TASKS[cell.dataset](cell.seed, given["size"], given["texts"], given["development"])
    classifier = tuning.classifier(model, draw.train.labels)
    examples = encoded(classifier, draw.train.pairs)
    mark = draw.marks.get(cell.arm)
    marks = [np.full(len(e.words), np.nan) if mark is None else mark(i, e) for i, e in enumerate(examples)]
    penalty = Penalty(criterion=given.get("criterion", "norm"), strength=given["strength"])
    began = time.process_time()
    tune_marked(classifier, draw.train, draw.validation, examples, marks, penalty, tuning)
    seconds = time.process_time() - began
    told = int(sum((~np.isnan(own)).any() for own in marks))
    return pd.DataFrame([{**draw.judge(classifier), "tuning": seconds, "marked texts": told}])


def cost(model: LanguageModel, tuning: Tuning, given: dict[str, Any]) -> dict[str, float]:
    """Processor seconds of a step with no mark, and with one in each text by gradient norm and by attention."""
    data = sample(reference("sst2"), given["size"], seed=tuning.seed)
    classifier = tuning.classifier(model, data.labels)
    examples = encoded(classifier, data.pairs)
    plain = [np.full(len(e.words), np.nan) for e in examples]
    marked = [np.where(np.arange(len(e.words)) == 0, 0.0, np.nan) for e in examples]
    owned = [of_tokens(i, e, own) for i, (e, own) in enumerate(zip(examples, marked, strict=True))]
    if not all((~np.isnan(own)).any() for own in owned):
        raise SystemExit("a text without a mark: its step would be a plain one")
    arms = {
        "plain": (plain, Penalty()),
        "norm": (marked, Penalty()),
        "attention": (marked, Penalty(criterion="mse", extractor="attention", strength=1.0)),
    }
    spent: dict[str, list[float]] = {name: [] for name in arms}
    # The arms take turns: what else the machine does falls on all of them.
    for _ in range(given["rounds"]):
        for name, (marks, penalty) in arms.items():
            spent[name].append(_seconds(classifier, data, examples, marks, penalty, replace(tuning, epochs=1)))
    steps = -(-given["size"] // tuning.batch_size)
    return {f"{name}, seconds a step": float(np.median(of[1:])) / steps for name, of in spent.items()}


def _seconds(
    classifier: TextClassifier, data: Any, examples: Any, marks: Any, penalty: Penalty, tuning: Tuning
) -> float:
    """Of one epoch, validation on two texts included."""
    few = data.take([int(np.flatnonzero(data.y == label)[0]) for label in range(len(data.labels))])
    began = time.process_time()
    tune_marked(classifier, data, few, examples, marks, penalty, tuning)
    return time.process_time() - began


def cells(tasks: list[str], given: argparse.Namespace) -> list[Cell]:
    """One draw of every task, then the next: a run that is stopped has whole draws of all of them."""
    first = 100 if given.development else 0
    return [cell for seed in range(first, first + given.seeds) for task in tasks for cell in _draw(task, seed, given)]


def _draw(task: str, seed: int, given: argparse.Namespace) -> list[Cell]:
    settings = {"model": "minilm", "adapter": "lora", **SETTINGS[task]}
    if task != "cost":
        settings["development"] = given.development
    settings |= {name: value for name, _, value in (one.partition("=") for one in given.set)}
    settings = {name: _like(SETTINGS[task].get(name), value) for name, value in settings.items()}
    arms = ("steps",) if task == "cost" else given.arms
    return [Cell(dataset=task, noise="none", rate=0.0, seed=seed, arm=arm, settings=settings) for arm in arms]


def _like(usual: Any, value: Any) -> Any:
    return type(usual)(value) if usual is not None else value


def table(rows: pd.DataFrame, task: str) -> str:
    """Means of the arms, and the paired differences to the arm without feedback."""
    own = rows[rows["dataset"] == task].dropna(axis=1, how="all")
    figures = [c for c in own.columns if c not in ("cell", "dataset", "noise", "rate", "seed", "arm", "settings")]
    if task == "cost":
        return _cost_table(own)
    whole = [seed for seed, of in own.groupby("seed") if set(ARMS) <= set(of["arm"])]
    if not whole:
        return f"**{task}**: no draw has all its arms yet"
    lines = [
        f"**{task}**, {len(whole)} seed{'s' * (len(whole) > 1)}",
        "",
        "| | none | right | wrong | right − none | wrong − none |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for figure in figures:
        if figure == "cell_seconds":
            continue
        values = {
            arm: own[(own["arm"] == arm) & own["seed"].isin(whole)].sort_values("seed")[figure].to_numpy(dtype=float)
            for arm in ARMS
        }
        gaps = [_gap(values[arm], values["none"]) for arm in ARMS[1:]]
        lines.append(f"| {figure} | " + " | ".join([*(f"{of.mean():.3f}" for of in values.values()), *gaps]) + " |")
    return "\n".join(lines)


def _gap(one: Any, other: Any) -> str:
    found = paired_difference(one, other)
    if found.runs < _FEWEST or not np.isfinite(found.low):
        return f"{found.difference:+.3f}"
    return f"{found.difference:+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def _cost_table(own: pd.DataFrame) -> str:
    names = ("plain", "norm", "attention")
    spent = {name: own[f"{name}, seconds a step"].to_numpy(dtype=float) for name in names}
    lines = [f"**cost**, {len(own)} seeds", "", "| | seconds a step | times a plain step |", "| --- | --- | --- |"]
    for name, of in spent.items():
        times = of / spent["plain"]
        lines.append(f"| {name} | {of.mean():.2f} | {times.mean():.2f} ({times.min():.2f} to {times.max():.2f}) |")
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=VALUE", help="in place of the task's own settings"
    )
    parser.add_argument("--minutes", type=float, help="start no cell after so many")
    parser.add_argument("--development", action="store_true", help="judge on other examples, seeds from 100 on")
    parser.add_argument("--table", action="store_true", help="only print the tables, from the rows that are there")
    parser.add_argument("--pack", action="store_true", help="put the rows of finished cells into one file")
    parser.add_argument("--retry", action="store_true", help="also run the cells that failed before")
    given = parser.parse_args()
    results = Results(OUT / "development" if given.development else ROWS, OUT / "failed")
    wanted = cells(given.task, given)
    if not given.table:
        seconds = None if given.minutes is None else 60 * given.minutes
        found = run_cells(wanted, work, results, seconds=seconds, retry=given.retry)
        print(f"{found.done} cells done, {found.failed} failed, {len(found.left)} left\n", flush=True)
        for failure in results.failures().values():
            print(f"failed: {failure.cell.unit.name} {failure.cell.arm}: {failure.error}\n")
    if given.pack:
        results.pack()
    names = {cell.fingerprint for cell in wanted}
    rows = results.rows()
    rows = rows[rows["cell"].isin(names)]
    if given.development:
        print(rows.drop(columns=["cell", "noise", "rate", "settings"]).to_string())
        return
    print("\n\n".join(table(rows, task) for task in given.task if (rows["dataset"] == task).any()))


if __name__ == "__main__":
    main()
