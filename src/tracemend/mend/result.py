"""What a repair found, for a notebook, a report and the next step."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from tracemend.data import Labelled, Splits
from tracemend.data.decision import MACHINE
from tracemend.data.examples import read_parts, write_parts
from tracemend.data.ledger import Decision, Ledger
from tracemend.evaluate import curve_figure, detection, recovered_share
from tracemend.mend.acts import Kinds
from tracemend.mend.judgement import Verdict
from tracemend.mend.questions import QUESTIONS, write_questions
from tracemend.mend.repaired import apply, by_people, export
from tracemend.methods import MethodResult, read_table
from tracemend.runs import read_json, write_csv, write_json, write_parquet

if TYPE_CHECKING:
    from tracemend.mend.rounds import ArmResult

_SETS = "sets.parquet"
MEASURES = ("ap", "accuracy", "macro_f1")
DECISIONS = ("uid", "text", "reply", "kind", "old", "new", "round", "score", "reason", "truth", "evidence")

# What a reader wants first, in this order.
HEADLINE = (
    "ap_clean",
    "ap_corrupted",
    "ap_repaired",
    "recovered_share",
    "random_recovered_share",
    "similarity_recovered_share",
    "unchanged_recovered_share",
    "acted_precision",
    "detection_ap",
    "removed",
    "relabelled",
    "rounds",
)


@dataclass(frozen=True, kw_only=True)
class RepairResult(MethodResult):
    """A finished repair.

    Attributes:
        rows: the decisions, one row an example acted on, with evidence.
        curve: figures by arm, round and split.
        verdict: the comparison on examples that steered nothing.
        repaired: the training set after the decisions.
        recommended: the set to use: ``repaired``, or, where the repair is not shown to help, the original with what
            people decided.
        folder: the run directory; None where nothing was kept.
    """

    curve: pd.DataFrame
    verdict: Verdict
    repaired: Labelled
    recommended: Labelled
    folder: Path | None = None

    def save(self, directory: Path | str) -> Path:
        """Write the figures, the decisions, the curve, the verdict and both sets; :meth:`load` reads them back."""
        path = super().save(directory)
        write_parquet(path / "curve.parquet", self.curve)
        write_parts({"repaired": self.repaired, "recommended": self.recommended}, path / _SETS)
        folder = None if self.folder is None else str(self.folder)
        write_json(path / "repair.json", {"verdict": self.verdict.facts, "folder": folder})
        return path

    @classmethod
    def _read(cls, path: Path) -> dict[str, Any]:
        facts = read_json(path / "repair.json")
        sets, _ = read_parts(path / _SETS)
        return {
            **super()._read(path),
            "curve": read_table(path / "curve.parquet"),
            "verdict": Verdict.of(facts["verdict"]),
            "folder": None if facts["folder"] is None else Path(facts["folder"]),
            **sets,
        }

    def table(self) -> pd.DataFrame:
        """The decisions without their machine-readable evidence."""
        return self.rows.drop(columns=["evidence"], errors="ignore")

    def figure(self) -> Any:
        """The curve over rounds with both controls (matplotlib)."""
        return curve_figure(self.curve)

    def summary(self) -> pd.DataFrame:
        """The headline figures, each beside its controls."""
        found = [name for name in HEADLINE if pd.notna(self.metrics.get(name))]
        table = pd.DataFrame({"repair": [self.metrics[name] for name in found]}, index=found)
        for arm, figures in self.controls.items():
            if isinstance(figures, Mapping):
                table[arm] = [figures.get(name) for name in found]
        return table

    def _repr_html_(self) -> str:
        table = self.summary().to_html(float_format="{:.3f}".format, na_rep="")
        return f"<p><b>{escape(self.verdict.sentence)}</b></p>{table}"


Figures = Mapping[str, Mapping[str, float]]


def figures(
    splits: Splits,
    arm: ArmResult,
    start: Figures,
    clean: Figures | None,
    *,
    cost: bool = True,
    told: Collection[str] = (),
) -> dict[str, Any]:
    """What came of one arm, on test where there is one, else on verdict.

    Args:
        cost: whether the wrong labels are shown to have cost AP, so that there is something to recover a share of.
        told: examples that a person answered for before they were ranked; no ranking found them.
    """
    split = "test" if splits.test is not None else "verdict"
    at_chosen = arm.curve[(arm.curve["split"] == split) & (arm.curve["round"] == arm.chosen)].iloc[0]
    # What a person answered is no merit of the method's.
    said, own = arm.answered, arm.own
    kept = own[own["kept"]] if len(own) else own
    found: dict[str, Any] = {
        "ap_clean": None if clean is None else clean[split]["ap"],
        "ap_corrupted": start[split]["ap"],
        "ap_repaired": float(at_chosen["ap"]),
        "accuracy_corrupted": start[split]["accuracy"],
        "accuracy_repaired": float(at_chosen["accuracy"]),
        "macro_f1_corrupted": start[split]["macro_f1"],
        "macro_f1_repaired": float(at_chosen["macro_f1"]),
        "recovered_share": None,
        "acted_precision": None,
        "detection_ap": None,
        "rounds": arm.chosen,
        "tried": len(own),
        "removed": int((kept["kind"] == "remove").sum()) if len(kept) else 0,
        "relabelled": int((kept["kind"] == "label").sum()) if len(kept) else 0,
        "relabelled_by_answers": int((said["kind"] == "label").sum()) if len(said) else 0,
        "removed_by_answers": int((said["kind"] == "remove").sum()) if len(said) else 0,
    }
    if clean is not None and cost:
        found["recovered_share"] = recovered_share(
            [clean[split]["ap"]], [start[split]["ap"]], [found["ap_repaired"]]
        ).share
    if splits.train.has_truth:
        found["acted_precision"] = float((kept["old"] != kept["truth"]).mean()) if len(kept) else None
        found["detection_ap"] = _detected(splits.train, arm.suspicion, told)
    return found


def _detected(train: Labelled, suspicion: npt.NDArray[Any], told: Collection[str]) -> float | None:
    ranked = np.array([uid not in told for uid in train.uid])
    return detection(suspicion[ranked], train.wrong[ranked]).ap if train.wrong[ranked].any() else None


def acted_each_round(arm: ArmResult) -> list[Kinds]:
    """How many examples an arm relabelled and how many it removed in each of its rounds."""
    if not len(arm.decisions):
        return []
    own = arm.own
    # Answers stand before the first round (0), in which the classifier is tuned on for them alone if need be.
    rounds = range(1, max(1, int(arm.decisions["round"].max())) + 1)
    each = [own.loc[own["round"] == number, "kind"] for number in rounds]
    return [Kinds(label=int((kind == "label").sum()), remove=int((kind == "remove").sum())) for kind in each]


def keep(
    out: Path,
    splits: Splits,
    arms: Mapping[Any, ArmResult],
    start: Figures,
    clean: Figures | None,
    *,
    names: Mapping[str, str] | None = None,
) -> None:
    """Write curve, decisions and questions, the ledger, and the repaired set, under the user's column names."""
    curves = [arm.curve for arm in arms.values()]
    for name, found in (("corrupted", start), ("clean", clean)):
        if found is not None:
            rows = [{"arm": name, "round": 0, "split": s, **{m: f[m] for m in MEASURES}} for s, f in found.items()]
            curves.append(pd.DataFrame(rows).assign(n_train=len(splits.train), acted=0, acted_precision=np.nan))
    write_parquet(out / "curve.parquet", pd.concat(curves, ignore_index=True))
    decisions = arms["repair"].decisions
    kept = decisions[decisions["kept"]] if len(decisions) else decisions
    table = pd.DataFrame(kept.to_dict("records"), columns=list(DECISIONS))
    table["evidence"] = [json.dumps(e) for e in table["evidence"]]
    write_parquet(out / "decisions.parquet", table)
    back = decisions.drop(kept.index)
    if len(back):  # what rounds after the chosen one tried
        shown = [name for name in DECISIONS if name != "evidence"]
        write_csv(out / "taken-back.csv", back[shown].dropna(axis=1, how="all"))
    # A column that mixes scores with none, or labels with none, holds NaN for none.
    records: list[dict[str, Any]] = [
        {str(k): None if v is None or v != v else v for k, v in d.items()} for d in kept.to_dict("records")
    ]
    with Ledger(out / "ledger.sqlite") as ledger:
        ledger.add(
            Decision(
                uid=d["uid"],
                kind=d["kind"],
                old=d["old"],
                new=d["new"],
                round=int(d["round"]),
                score=d["score"],
                evidence={**d["evidence"], "reason": d["reason"]},
                actor=d["actor"],
            )
            for d in records
        )
        ledger.add(_stays(d, "ask", suggested=d["suggested"], p_wrong=d["p_wrong"]) for d in arms["repair"].asked)
        ledger.add(_stays(d, "keep") for d in arms["repair"].spared)
        export(splits.train, ledger, out, names=names)
    if arms["repair"].asked:
        write_questions(out / QUESTIONS, arms["repair"].asked, [d for d in records if d["actor"] == "person"])


def _stays(d: Mapping[str, Any], kind: Literal["ask", "keep"], **further: Any) -> Decision:
    """What the ledger says of an example that was suspected and whose label stays."""
    return Decision(
        uid=d["uid"],
        kind=kind,
        old=d["old"],
        round=int(d["round"]),
        score=d["score"],
        evidence={"reason": d["reason"], **further},
        actor=MACHINE,
    )


def load_result(out: Path, splits: Splits) -> RepairResult:
    """A finished repair from its run directory."""
    result = read_json(out / "result.json")
    judged = Verdict.of(result["verdict"])
    with Ledger(out / "ledger.sqlite") as ledger:
        state = ledger.state()
    repaired = apply(splits.train, state)
    people = by_people(state)
    original = apply(splits.train, people) if people else splits.train
    return RepairResult(
        metrics=result["metrics"],
        controls=result["controls"],
        config=result["config"],
        rows=pd.read_parquet(out / "decisions.parquet"),
        curve=pd.read_parquet(out / "curve.parquet"),
        verdict=judged,
        repaired=repaired,
        recommended=repaired if judged.recommended == "repaired" else original,
        folder=out,
    )
