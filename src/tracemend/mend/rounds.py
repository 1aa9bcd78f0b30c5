"""The loop of one arm: rank, act, tune again, until the stop rule; resumable after any round."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from safetensors.torch import save
from torch import Tensor

from tracemend.data import Labelled, Splits
from tracemend.evaluate import scores
from tracemend.mend.acts import ActRules, Kinds, Neighbours, act, ask, choose, spare
from tracemend.mend.bounds import refuse_one_label
from tracemend.mend.questions import answered
from tracemend.mend.ranking import Ranking
from tracemend.models import LanguageModel
from tracemend.progress import Progress
from tracemend.runs import atomic, read_json, write_json
from tracemend.tuning import Checkpoint, Tuned, Tuning, tune
from tracemend.tuning.tune import resolve_precision

Ranker = Callable[[Tuned, Labelled, int], tuple[Ranking, np.ndarray[Any, Any]]]


class LoopRules(ActRules, Protocol):
    """What the loop reads of the configuration."""

    @property
    def rounds(self) -> int: ...
    @property
    def warm_start(self) -> bool: ...
    @property
    def warm_epochs(self) -> int: ...
    @property
    def stop(self) -> str: ...


@dataclass(frozen=True, eq=False)
class ArmResult:
    """What came of one arm.

    Attributes:
        curve: one row a round and split.
        decisions: one row an example acted on.
        train: the training set at the chosen round.
        tuned: the classifier at the chosen round.
        chosen: the chosen round; 0 is the start.
        suspicion: of the first round, over the training set as given [n]; 0 where a person left an example out.
        asked: one row a question to a person.
        spared: one row an example that was suspected and kept, since hardly another of its label is left.
    """

    curve: pd.DataFrame
    decisions: pd.DataFrame
    train: Labelled
    tuned: Tuned
    chosen: int
    suspicion: np.ndarray[Any, Any]
    asked: Sequence[Mapping[str, Any]] = ()
    spared: Sequence[Mapping[str, Any]] = ()

    @property
    def own(self) -> pd.DataFrame:
        """What the method itself decided, in all rounds."""
        return self._by("repair")

    @property
    def answered(self) -> pd.DataFrame:
        """What a person answered, whose decisions stand whatever round is chosen."""
        return self._by("person")

    def _by(self, actor: str) -> pd.DataFrame:
        return self.decisions if self.decisions.empty else self.decisions[self.decisions["actor"] == actor]


def measure(tuned: Tuned, splits: Splits) -> dict[str, dict[str, float]]:
    """Figures of a classifier on validation, verdict and test."""
    precision = resolve_precision(tuned.tuning.precision, tuned.classifier.device)
    found = {}
    for name, part in (("validation", splits.validation), ("verdict", splits.verdict), ("test", splits.test)):
        if part is not None:
            p = tuned.classifier.probabilities(part.pairs, precision=precision)
            found[name] = scores(part.y, p, part.positive_index)
    return found


def repair_arm(
    arm: str,
    rules: LoopRules,
    model: LanguageModel,
    splits: Splits,
    start: Tuned,
    tuning: Tuning,
    ranker: Ranker | None,
    candidates: Sequence[int | Kinds],
    *,
    out: Path,
    at: int | None = None,
    cap: int | None = None,
    answers: Mapping[str, str] | None = None,
    neighbours: Neighbours | None = None,
    measured: Mapping[str, Mapping[str, float]] | None = None,
    progress: Progress = Progress(),
) -> ArmResult:
    """Run the rounds of one arm from a tuned start.

    Args:
        ranker: gives the ranking of the current training set and the classifier's probabilities; None acts on
            nothing and only tunes on: what more tuning does by itself.
        candidates: the most examples to act on in each round, or how many to relabel and how many to remove; as many
            rounds.
        out: folder of the arm; rounds that are there are read, not done again.
        cap: the most examples to act on in all rounds together; None does not bound it.
        answers: uid -> label that a person gave; carried out first of all.
        neighbours: gives the nearest opposite-label neighbours of training rows, for the evidence.
        measured: figures of the start, where known.

    An example is acted on once. The chosen round is the one with the best validation AP where ``stop`` is ``best`` (the
    first of equals, which changes least), the last one where it is ``fixed``, and ``at`` where that is given.
    """
    given, train, tuned = splits.train, splits.train, start
    history: list[dict[str, Any]] = []
    state: Mapping[str, Tensor] = start.best.load_state()
    kept = [start.best]
    acted: dict[str, dict[str, Any]] = {}
    asked: list[dict[str, Any]] = []
    spared: list[dict[str, Any]] = []
    suspicion = np.zeros(len(given))
    figures = [measured or measure(start, splits)]
    again = replace(tuning, epochs=rules.warm_epochs, patience=0) if rules.warm_start else tuning
    for number, most in enumerate(candidates, start=1):
        folder = out / f"round-{number:02d}"
        # A control of a round in which a person alone acted tunes on as well.
        idle = ranker is None or (isinstance(most, Kinds) and not sum(most))
        if not (folder / "round.json").exists():
            chosen_now = folder / "decisions.json"
            if not chosen_now.exists():
                facts = _decided(
                    rules, ranker, splits, train, tuned, most, number,
                    answers=answers, taken=set(acted), history=history, cap=cap, neighbours=neighbours,
                )  # fmt: skip
                write_json(chosen_now, facts)
                progress.note("decided", arm=arm, round=number, acted=len(facts["decisions"]))
            facts = read_json(chosen_now)
            if facts["decisions"] or idle:
                tuned = tune(
                    model,
                    _apply(train, facts["decisions"]),
                    splits.validation,
                    replace(again, seed=again.seed + number),
                    out=folder / "tuning",
                    start=state if rules.warm_start else None,
                    progress=progress,
                )
            _keep(folder, {**facts, "figures": measure(tuned, splits)}, tuned)
        facts = read_json(folder / "round.json")
        tuned = at_checkpoint(
            tuned, Checkpoint(step=facts["step"], lr_sum=facts["lr_sum"], folder=folder, metrics=facts["metrics"])
        )
        state = tuned.best.load_state()
        kept.append(tuned.best)
        suspicion = np.array(facts["suspicion"]) if number == 1 else suspicion
        history += facts["decisions"]
        asked += facts["asked"]
        spared += facts.get("spared", [])  # a round of an earlier version has none
        acted |= {d["uid"]: d for d in [*facts["decisions"], *facts["asked"]]}
        train = _apply(given, history)
        figures.append(facts["figures"])
        progress.note("round", arm=arm, round=number, acted=len(facts["decisions"]), **facts["figures"]["validation"])
        if not facts["decisions"] and not idle:
            break
    chosen = len(figures) - 1
    if rules.stop == "best":
        chosen = max(range(len(figures)), key=lambda r: (figures[r]["validation"]["ap"], -r))
    if at is not None:
        chosen = min(at, len(figures) - 1)
    done = {d["uid"] for d in history if d["round"] <= chosen}
    # Whoever was kept in one round may have been acted on in another, and is kept again in most.
    kept_back = {d["uid"]: d for d in reversed(spared) if d["round"] <= chosen and d["uid"] not in done}
    table = pd.DataFrame(history)
    if len(table):
        table["kept"] = table["round"] <= chosen
    return ArmResult(
        curve=_curve(arm, given, history, figures),
        decisions=table,
        train=_apply(given, [d for d in history if d["round"] <= chosen]),
        tuned=at_checkpoint(tuned, kept[chosen]),
        chosen=chosen,
        suspicion=suspicion,
        asked=asked,
        spared=list(reversed(kept_back.values())),
    )


def _decided(
    rules: LoopRules,
    ranker: Ranker | None,
    splits: Splits,
    train: Labelled,
    tuned: Tuned,
    most: int | Kinds,
    number: int,
    *,
    answers: Mapping[str, str] | None,
    taken: set[str],
    history: Sequence[Mapping[str, Any]],
    cap: int | None,
    neighbours: Neighbours | None,
) -> dict[str, Any]:
    """What a round does and asks: what people said first, then what the ranking of the rest comes to."""
    said = answered(train, answers) if answers and number == 1 else []
    if ranker is None:
        return {"decisions": said, "asked": [], "spared": [], "suspicion": [0.0] * len(train)}
    now = _told(train, said)
    ranking, p_train = ranker(tuned, now, number)
    if cap is not None and not isinstance(most, Kinds):
        most = min(most, cap - sum(d["actor"] != "person" for d in history))
    earlier = [d["evidence"]["p_wrong"] for d in history if "p_wrong" in d.get("evidence", {})]
    picked = choose(rules, ranking, now, taken | {d["uid"] for d in said}, most, earlier)
    made, spared = spare(act(rules, ranking, p_train, now, splits.validation, picked, number, tuned, neighbours), now)
    suspicion = dict(zip(now.uid, ranking.suspicion.tolist(), strict=True))
    return {
        "decisions": [*said, *made],
        "asked": ask(ranking, now, picked, number),
        "spared": spared,
        "suspicion": [suspicion.get(uid, 0.0) for uid in train.uid],
    }


def _told(train: Labelled, said: list[dict[str, Any]]) -> Labelled:
    """The training set with the labels that a person gave, without whom the answers leave out."""
    if not said:
        return train
    told = _apply(train, said)
    refuse_one_label(np.bincount(told.y, minlength=len(told.labels)).tolist(), told.labels, "the answers")
    return told


def _apply(data: Labelled, made: list[dict[str, Any]]) -> Labelled:
    relabelled = data.relabelled({d["uid"]: d["new"] for d in made if d["kind"] == "label"})
    return relabelled.without(d["uid"] for d in made if d["kind"] == "remove")


def _keep(folder: Path, facts: Mapping[str, Any], tuned: Tuned) -> None:
    """Finish a round: parameters and second moments as a checkpoint has them, then ``round.json``, which says so."""
    best = tuned.best
    tensors = {"parameters": best.load_state(), "second_moments": best.second_moments()}
    for name, found in tensors.items():
        with atomic(folder / f"{name}.safetensors", "wb") as file:
            file.write(save(dict(found)))
    about = {"step": best.step, "lr_sum": best.lr_sum, "metrics": dict(best.metrics)}
    write_json(folder / "round.json", {**facts, **about})
    shutil.rmtree(folder / "tuning", ignore_errors=True)


def at_checkpoint(tuned: Tuned, checkpoint: Checkpoint) -> Tuned:
    """The same classifier with these parameters, as its best and only checkpoint for what follows."""
    tuned.classifier.restore(checkpoint.load_state())
    return replace(tuned, best=checkpoint, checkpoints=[checkpoint])


def _curve(
    arm: str, given: Labelled, history: list[dict[str, Any]], figures: list[Mapping[str, Mapping[str, float]]]
) -> pd.DataFrame:
    rows = []
    for number, parts in enumerate(figures):
        done = [d for d in history if d["round"] <= number]
        removed = sum(d["kind"] == "remove" for d in done)
        mine = [d for d in done if d["actor"] == "repair"]
        right = [d["truth"] is not None and d["old"] != d["truth"] for d in mine]
        for split, found in parts.items():
            rows.append(
                {
                    "arm": arm,
                    "round": number,
                    "split": split,
                    "ap": found["ap"],
                    "accuracy": found["accuracy"],
                    "macro_f1": found["macro_f1"],
                    "n_train": len(given) - removed,
                    "acted": len(mine),
                    "acted_precision": float(np.mean(right)) if mine and given.has_truth else np.nan,
                }
            )
    return pd.DataFrame(rows)
