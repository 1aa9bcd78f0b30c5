"""The loop as a whole, on tiny models: it finds planted wrong labels, resumes exactly, and changes no file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pytest

import tracemend
from tests.mend.conftest import planted, quick
from tracemend.data import Splits
from tracemend.data.examples import read_examples
from tracemend.errors import DataError, RunError, TuningError
from tracemend.mend import Repair, RepairResult, Verdict
from tracemend.mend.acts import ERRORS
from tracemend.mend.bench import Bench
from tracemend.models import tiny
from tracemend.progress import Progress
from tracemend.trace import TracIn
from tracemend.tuning import tune

pytestmark = pytest.mark.slow

T = TypeVar("T")
FILES = ("curve.parquet", "decisions.parquet", "repaired.jsonl")


class Killed(Exception):
    """Stands for whatever ends a process."""


class Counter(Progress):
    """Counts the steps of all loops, and ends the process at one of them."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.steps, self.kill_at = 0, kill_at

    def track(self, items: Iterable[T], *, task: str, total: int | None = None) -> Iterator[T]:
        for item in items:
            self.steps += 1
            if self.steps == self.kill_at:
                raise Killed
            yield item


def timeless(out: Path) -> dict[str, Any]:
    """What result.json says, but for how long it took."""
    found: dict[str, Any] = json.loads((out / "result.json").read_text("utf-8"))
    found.pop("seconds")
    found["metrics"].pop("seconds")
    return found


@pytest.fixture(scope="module")
def whole(splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> tuple[RepairResult, Path, int]:
    """An unbroken run with the default ranking and action, its folder, and the steps it took."""
    out, counter = tmp_path_factory.mktemp("whole") / "run", Counter()
    return quick().run(tiny("bert"), splits, out=out, progress=counter), out, counter.steps


def test_it_finds_the_planted_labels(whole: tuple[RepairResult, Path, int], splits: Splits) -> None:
    found, _, _ = whole
    random = found.controls["random"]
    assert found.metrics["acted_precision"] > random["acted_precision"] + 0.2
    assert found.metrics["detection_ap"] > 0.6
    assert random["detection_ap"] == pytest.approx(splits.train.wrong.mean())
    assert found.repaired.has_truth
    assert found.repaired.wrong.sum() < splits.train.wrong.sum()


def test_it_says_which_examples_the_repaired_set_holds(whole: tuple[RepairResult, Path, int], splits: Splits) -> None:
    found, out, _ = whole
    (note,) = (n for n in json.loads((out / "result.json").read_text("utf-8"))["notes"] if "repaired set" in n)
    sizes = len(splits.train), sum(map(len, splits.parts.values())), len(found.repaired)
    left = f", {sizes[2]} of them left" if sizes[2] < sizes[0] else ""
    assert note.startswith(f"The repaired set is the training part, {sizes[0]} of {sizes[1]} examples{left}; ")
    assert all(name in note for name in splits.parts if name != "train")


def test_every_decision_says_why(whole: tuple[RepairResult, Path, int], splits: Splits) -> None:
    table = whole[0].table()
    assert len(table) and table["uid"].is_unique and set(table["uid"]) <= set(splits.train.uid)
    given = dict(zip(splits.train.uid, splits.train.frame["label"], strict=True))
    assert [given[uid] for uid in table["uid"]] == list(table["old"])
    assert set(table["kind"]) <= {"label", "remove"}
    assert (table["new"] != table["old"]).all()
    assert table["reason"].str.startswith("Labelled ").all()
    evidence = [json.loads(e) for e in whole[0].rows["evidence"]]
    assert all(set(e) == {"errors", "pushed", "neighbour"} for e in evidence)
    assert all(len(e["errors"]) == min(e["pushed"], ERRORS) for e in evidence) and any(e["pushed"] for e in evidence)
    assert all(one["influence"] < 0 and one["label"] != one["predicted"] for e in evidence for one in e["errors"])


def test_the_run_directory_holds_what_the_design_says(whole: tuple[RepairResult, Path, int]) -> None:
    found, out, _ = whole
    result = json.loads((out / "result.json").read_text("utf-8"))
    assert result["status"] == "complete" and set(result["controls"]) == {"random", "similarity", "unchanged"}
    for name in ("events.jsonl", "ledger.sqlite", "changes.md", "adapter-original/adapter_config.json", *FILES):
        assert (out / name).exists(), name
    assert (out / "adapter-repaired").exists() == (result["verdict"]["recommended"] == "repaired")
    curve = found.curve
    assert {"repair", "random", "similarity", "unchanged", "corrupted", "clean"} == set(curve["arm"])
    assert set(curve["split"]) == {"validation", "verdict", "test"}
    assert sorted(curve.loc[curve["arm"] == "repair", "round"].unique()) == [0, 1, 2]


@pytest.mark.parametrize("share", [0.15, 0.45, 0.75, 0.99])
def test_a_killed_run_goes_on_as_if_it_had_not_been(
    share: float, whole: tuple[RepairResult, Path, int], splits: Splits, tmp_path: Path
) -> None:
    expected, unbroken, steps = whole
    out = tmp_path / "run"
    with pytest.raises(Killed):
        quick().run(tiny("bert"), splits, out=out, progress=Counter(kill_at=int(share * steps)))
    assert not (out / "result.json").exists()
    counter = Counter()
    found = quick().run(tiny("bert"), splits, out=out, progress=counter)
    assert counter.steps < steps  # what was done is not done again
    assert timeless(out) == timeless(unbroken)
    pd.testing.assert_frame_equal(found.rows, expected.rows)
    pd.testing.assert_frame_equal(found.curve, expected.curve)
    for name in FILES:
        assert (out / name).read_bytes() == (unbroken / name).read_bytes(), name


def test_a_finished_run_is_read_back(whole: tuple[RepairResult, Path, int], splits: Splits) -> None:
    expected, out, _ = whole
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    found = quick().run(tiny("bert"), splits, out=out, progress=Counter(kill_at=1))
    assert found.metrics == expected.metrics
    assert found.repaired.fingerprint == expected.repaired.fingerprint
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_result_is_kept_whatever_the_further_columns_hold(
    whole: tuple[RepairResult, Path, int], tmp_path: Path
) -> None:
    """Parquet has no type for a column of text, numbers and lists."""
    found, _, _ = whole
    odd: list[Any] = ["a", 1, [2, 3], None, 2**70]
    frame = found.repaired.frame
    repaired = replace(found.repaired, frame=frame.assign(votes=[odd[i % 5] for i in range(len(frame))]))
    replace(found, repaired=repaired).save(tmp_path)
    read = RepairResult.load(tmp_path)
    assert list(read.repaired.frame["votes"]) == list(repaired.frame["votes"])
    assert "votes" not in read.recommended.frame
    assert [read.repaired.fingerprint, read.recommended.fingerprint] == [
        found.repaired.fingerprint,
        found.recommended.fingerprint,
    ]


def test_a_directory_of_another_run_is_refused(whole: tuple[RepairResult, Path, int], splits: Splits) -> None:
    _, out, _ = whole
    with pytest.raises(RunError, match="top_k: there 20, now 5"):
        quick(top_k=5).run(tiny("bert"), splits, out=out)
    with pytest.raises(RunError, match="other data"):
        quick().run(tiny("bert"), splits.with_train(splits.train.take(range(50))), out=out)
    with pytest.raises(RunError, match="other model"):
        quick().run(tiny("bert", seed=1), splits, out=out)


def test_other_data_than_splits_is_refused(splits: Splits) -> None:
    with pytest.raises(DataError, match=r"takes Splits, not Labelled: .*make_splits"):
        quick().run(tiny("bert"), splits.train)


def test_nothing_suspect_leaves_the_original(tmp_path: Path) -> None:
    splits = planted(120, wrong=0)
    rules = quick(rank="votes", controls=())
    # Without validation errors the vote has nobody to ask.
    tuned = tune(tiny("bert"), splits.train, splits.validation, rules.tuning)
    right = tuned.classifier.predict(splits.validation.pairs).argmax(axis=1) == splits.validation.y
    easy = replace(splits, validation=splits.validation.take(np.flatnonzero(right)))
    found = rules.run(tiny("bert"), easy, out=tmp_path / "run")
    assert len(found.table()) == 0 and found.figure().axes
    assert found.verdict.recommended == "original"
    assert found.verdict.sentence.startswith("No label was found suspect enough")
    assert found.recommended is easy.train
    assert (tmp_path / "run" / "repaired.jsonl").read_text("utf-8").count("\n") == len(easy.train)


@pytest.mark.parametrize("rank", ["trusted", "votes", "mean", "weighted"])
def test_three_labels(rank: Any) -> None:
    splits = planted(150, labels=3, wrong=0.2)
    found = quick(rank=rank, rounds=1, controls=()).run(tiny("bert"), splits)
    assert found.metrics["relabelled"] + found.metrics["removed"] == len(found.rows) > 0
    relabelled = found.rows[found.rows["kind"] == "label"]
    assert set(relabelled["new"]) <= set(splits.labels) and (relabelled["new"] != relabelled["old"]).all()
    if rank == "trusted":
        assert found.metrics["acted_precision"] > splits.train.wrong.mean() + 0.1


def test_the_controls_relabel_and_remove_as_many() -> None:
    plain = TracIn(normalise_train=False, normalise_query=False)  # it removes where a suggestion is not sure enough
    rules = quick(tracin=plain, rank="votes", drivers="all", candidates=12, rounds=1, stop="fixed")
    found = replace(rules, controls=("random", "similarity")).run(tiny("bert"), planted(150, labels=3, wrong=0.3))
    assert found.metrics["relabelled"] > 0 and found.metrics["removed"] > 0
    for arm in ("random", "similarity"):
        assert all(found.controls[arm][kind] == found.metrics[kind] for kind in ("relabelled", "removed"))


def test_the_preset_of_the_paper(splits: Splits) -> None:
    tuning = replace(quick().tuning, adapter="prompt", epochs=2)
    rules = Repair.preset("gbair", tuning=tuning, rounds=2, candidates=5)
    assert rules.tracin.parts == ("prompt",) and not rules.warm_start
    found = rules.run(tiny("bert"), splits)
    assert found.metrics["rounds"] == 2
    assert found.metrics["removed"] == len(found.rows) == 10 and found.metrics["relabelled"] == 0
    assert len(found.repaired) == len(splits.train) - 10
    assert list(found.rows["round"]) == [1] * 5 + [2] * 5
    with pytest.raises(TuningError, match="preset 'gbare' is not one of: default, gbair"):
        Repair.preset("gbare")


@pytest.mark.parametrize(
    ("architecture", "adapter"),
    [("llama", "lora"), ("gpt2", "prefix"), ("gpt2", "prompt"), ("llama", "p-tuning"), ("t5", "ia3"), ("bert", "lora")],
)
def test_every_family_and_adapter_runs_through(architecture: str, adapter: Any, tmp_path: Path) -> None:
    """Random weights learn little in two epochs: this is about the parts fitting together."""
    splits = planted(60)
    rules = quick(
        tuning={"adapter": adapter, "epochs": 1, "max_length": 48}, rounds=1, warm_epochs=1, candidates=4,
        rank="mean", drivers="residual", checkpoints="all", controls=("random",), stop="fixed",
    )  # fmt: skip
    found = rules.run(tiny(architecture), splits, out=tmp_path / "run")
    assert len(found.rows) == 4 and np.isfinite(found.metrics["ap_repaired"])
    assert (tmp_path / "run" / "adapter-original" / "adapter_model.safetensors").exists()


def test_a_decoder_with_three_labels_falls_back_on_embeddings(tmp_path: Path) -> None:
    splits = planted(60, labels=3)
    rules = quick(tuning={"adapter": "lora", "epochs": 1, "max_length": 48}, rounds=1, warm_epochs=1, controls=())
    rules.run(tiny("gpt2"), splits, out=tmp_path / "run")
    events = (tmp_path / "run" / "events.jsonl").read_text("utf-8")
    assert "trusted fit on sentence embeddings" in events


@pytest.mark.parametrize(("action", "kind"), [("remove", "remove"), ("relabel", "label")])
def test_the_action_is_the_one_asked_for(action: Any, kind: str) -> None:
    found = quick(action=action, rounds=1, controls=(), stop="fixed").run(tiny("bert"), planted(100))
    assert set(found.rows["kind"]) == {kind}


def test_the_users_file_is_left_alone_and_the_repaired_one_speaks_its_language(tmp_path: Path) -> None:
    data = planted(100).train
    mine = pd.DataFrame(
        {
            "comment": data.frame["text"],
            "toxic": data.frame["label"],
            "right": data.frame["truth"],
            "likes": range(len(data)),
        }
    )
    source = tmp_path / "comments.csv"
    mine.to_csv(source, index=False)
    before = source.read_bytes()
    found = tracemend.repair(
        source, text="comment", label="toxic", truth="right", model=tiny("bert"), out=tmp_path / "run",
        adapter="head", epochs=2, rounds=1, max_length=20, precision="fp32", controls=(), stop="fixed",
        rank="trusted",  # a random model knows too little for consensus to act on it
    )  # fmt: skip
    assert source.read_bytes() == before
    repaired = pd.read_csv(tmp_path / "run" / "repaired.csv")
    assert list(repaired) == ["uid", "comment", "toxic", "right", "likes"]
    assert list(repaired["toxic"]) == list(found.repaired.frame["label"])
    uid = found.rows["uid"].iloc[0]
    tracemend.mend.undo(tmp_path / "run", uid, read_examples(tmp_path / "run").train)
    again = pd.read_csv(tmp_path / "run" / "repaired.csv").set_index("uid")
    assert list(again) == ["comment", "toxic", "right", "likes"]
    assert again.loc[uid, "toxic"] == found.rows["old"].iloc[0]


def test_a_result_comes_back_whole(whole: tuple[RepairResult, Path, int], tmp_path: Path) -> None:
    found = whole[0]
    back = RepairResult.load(found.save(tmp_path))
    assert back.verdict == found.verdict and back.folder == found.folder
    pd.testing.assert_frame_equal(back.curve, found.curve)
    for name in ("repaired", "recommended"):
        one, other = getattr(back, name), getattr(found, name)
        assert (one.fingerprint, one.labels, one.positive) == (other.fingerprint, other.labels, other.positive)
        assert list(one.frame["truth"]) == list(other.frame["truth"])
    pd.testing.assert_frame_equal(back.summary(), found.summary())


def test_what_a_notebook_shows_is_escaped(whole: tuple[RepairResult, Path, int]) -> None:
    shown = replace(whole[0], verdict=Verdict("original", "<script>alert(1)</script>", ()))._repr_html_()
    assert "<script>" not in shown and "&lt;script&gt;" in shown
    assert "ap_repaired" in shown


@pytest.mark.parametrize(("tuned_on", "expected"), [(0.8, "tuned on"), (0.7, "start"), (0.6, "start")])
def test_the_original_is_the_better_of_start_and_tuning_on(tuned_on: float, expected: str) -> None:
    """What more tuning on wrong labels spoils is no merit of the repair either."""
    curve = pd.DataFrame({"split": ["validation"] * 2 + ["test"], "round": [0, 2, 2], "ap": [0.7, tuned_on, 1.0]})
    unchanged: Any = SimpleNamespace(curve=curve, chosen=2, tuned=SimpleNamespace(best="tuned on"))
    bench: Any = SimpleNamespace(start=SimpleNamespace(best="start"), first={"validation": {"ap": 0.7}})
    found: list[Any] = [Bench.original(bench, of) for of in (unchanged, None)]
    assert found == [expected, "start"]


def test_tuning_on_is_no_merit_of_the_repair(tmp_path: Path) -> None:
    """The arm `unchanged` tunes for as many rounds, changes nothing, and is what the verdict compares with."""
    method = replace(quick(), rounds=2, stop="fixed")
    found = method.run(tiny("bert"), planted(), out=tmp_path / "run")
    rows = found.curve[(found.curve["arm"] == "unchanged") & (found.curve["split"] == "verdict")]
    assert list(rows["round"]) == list(range(int(found.metrics["rounds"]) + 1)) and rows["acted"].eq(0).all()
    before = {c.metric: c.before for c in found.verdict.comparisons}
    held = found.curve[(found.curve["arm"] == "unchanged") & (found.curve["split"] == "validation")]["ap"]
    better = held.iloc[-1] > held.iloc[0]
    assert before["ap"] == pytest.approx(float(rows["ap"].iloc[-1 if better else 0]), abs=1e-6)
    assert ("as much tuning on the unchanged labels" in found.verdict.sentence) <= better
    random = found.curve[(found.curve["arm"] == "random") & (found.curve["split"] == "verdict")]
    influence = found.curve[(found.curve["arm"] == "repair") & (found.curve["split"] == "verdict")]
    assert list(random["acted"]) == list(influence["acted"])
