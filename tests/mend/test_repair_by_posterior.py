"""The loop where a posterior decides: its bounds, noisy validation, questions and answers, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tracemend
from tests.mend.conftest import planted, quick
from tests.mend.test_limits import Nothing
from tests.mend.test_repair import Counter, Killed, timeless
from tracemend.data import Labelled, Splits, corrupt, make_splits
from tracemend.data.reference import available, reference
from tracemend.errors import TraceError, TuningError
from tracemend.mend import RepairResult
from tracemend.mend.job import configured
from tracemend.models import load, tiny
from tracemend.trace import cross_posterior, embed

pytestmark = pytest.mark.slow

# A random model tells little, and a stricter bound would leave nothing to act on.
FDR = 0.25


def by_posterior(**changes: Any) -> Any:
    return quick(**{"controls": (), "fdr": FDR, "rounds": 2, "stop": "fixed", **changes})


def flip_all(data: Labelled) -> Labelled:
    return data.relabelled({uid: data.labels[1 - y] for uid, y in zip(data.uid, data.y, strict=True)})


@pytest.fixture(scope="module")
def splits() -> Splits:
    return planted(400)


@pytest.fixture(scope="module")
def bounded(splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> tuple[RepairResult, Path]:
    out = tmp_path_factory.mktemp("bounded") / "run"
    return by_posterior(controls=("random", "similarity")).run(tiny("bert"), splits, out=out), out


def test_it_acts_on_wrong_labels_within_its_bounds(bounded: tuple[RepairResult, Path], splits: Splits) -> None:
    found, out = bounded
    m = found.metrics
    assert m["estimated_noise_low"] <= m["estimated_noise"] <= m["estimated_noise_high"]
    assert 0 < len(found.rows) <= m["estimated_noise_high"] * len(splits.train)
    assert m["acted_precision"] > found.controls["random"]["acted_precision"] + 0.2
    for arm in ("random", "similarity"):
        acted = found.controls[arm]["removed"] + found.controls[arm]["relabelled"]
        assert acted == m["removed"] + m["relabelled"]
    wrong = [json.loads(e)["p_wrong"] for e in found.rows["evidence"]]
    for number in (1, 2):
        each = [p for p, r in zip(wrong, found.rows["round"], strict=True) if r == number]
        assert each == sorted(each, reverse=True)
        assert not each or 1 - np.mean(each) <= FDR
    notes = json.loads((out / "result.json").read_text("utf-8"))["notes"]
    assert any("are estimated to be wrong" in note and "confident joint" in note for note in notes)


def test_a_stricter_rate_acts_on_fewer(splits: Splits) -> None:
    counts = [len(by_posterior(fdr=fdr, rounds=1).run(tiny("bert"), splits).rows) for fdr in (0.0, 0.1, 0.4)]
    assert counts == sorted(counts) and counts[0] == 0 < counts[2]


def test_a_killed_run_goes_on_as_if_it_had_not_been(splits: Splits, tmp_path: Path) -> None:
    rules, whole, out, counter = by_posterior(ask=2), tmp_path / "whole", tmp_path / "run", Counter()
    rules.run(tiny("bert"), splits, out=whole, progress=counter)
    with pytest.raises(Killed):
        rules.run(tiny("bert"), splits, out=out, progress=Counter(kill_at=counter.steps * 2 // 3))
    rules.run(tiny("bert"), splits, out=out)
    assert timeless(out) == timeless(whole)
    for name in ("questions.csv", "decisions.parquet", "repaired.jsonl"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


def test_a_budget_larger_than_the_set_is_bounded_by_the_estimate(splits: Splits) -> None:
    found = by_posterior(fdr=1.0, candidates=10_000, rounds=1).run(tiny("bert"), splits)
    assert len(found.rows) <= found.metrics["estimated_noise_high"] * len(splits.train) < len(splits.train) / 2
    given = by_posterior(fdr=1.0, candidates=10_000, rounds=3, noise=0.05).run(tiny("bert"), splits)
    assert len(given.rows) == round(0.05 * len(splits.train))


@pytest.mark.parametrize("changes", [{"fdr": 0.1}, {"fdr": None, "ask": 3}, {"fdr": None, "validation": "noisy"}])
def test_a_rank_without_probabilities_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(TuningError, match=r"'votes' \(as in the preset gbair\) gives none; choose rank 'consensus'"):
        quick(rank="votes", **changes).run(tiny("bert"), planted(60), progress=Nothing())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"fdr": 1.5}, "fdr is 1.5"),
        ({"ask": -1}, "ask is -1"),
        ({"validation": "nosy"}, "did you mean 'noisy'"),
    ],
)
def test_bounds_that_are_none_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(TuningError, match=said):
        quick(**changes).run(tiny("bert"), planted(60), progress=Nothing())
    with pytest.raises(TuningError, match=said):
        configured(**changes)


def test_validation_labels_that_are_all_wrong_are_refused_or_seen_through() -> None:
    splits = planted(400, wrong=0.1)
    turned = replace(splits, validation=flip_all(splits.validation))
    with pytest.raises(TraceError, match=r"carry no signal.*--validation noisy"):
        by_posterior().run(tiny("bert"), turned)
    with pytest.raises(TraceError, match="carry no signal"):  # a given share sets the number acted on, no more
        by_posterior(noise=0.3).run(tiny("bert"), turned)
    found = by_posterior(validation="noisy", fdr=None, candidates=15, rounds=1).run(tiny("bert"), turned)
    assert found.metrics["estimated_noise"] < 0.4
    assert found.metrics["acted_precision"] > splits.train.wrong.mean() + 0.2
    assert found.verdict.sentence.endswith("may be wrong as well.")


def test_noisy_validation_trusts_no_label() -> None:
    splits = planted(400, wrong=0.2)
    noisy = replace(splits, validation=corrupt(splits.validation, rate=0.2), verdict=corrupt(splits.verdict, rate=0.2))
    # Without trusted labels a random model is less sure still.
    found = by_posterior(validation="noisy", controls=("random",), fdr=2 * FDR).run(tiny("bert"), noisy)
    assert found.metrics["acted_precision"] > found.controls["random"]["acted_precision"] + 0.3
    # A validation label that is itself denied is no evidence.
    parts = (noisy.train, noisy.validation)
    both = np.concatenate([embed(tiny("bert"), part.pairs, max_length=20) for part in parts])
    crossed = cross_posterior(both, np.concatenate([part.y for part in parts]), 2)
    denied = np.array(noisy.validation.uid)[crossed.wrong[len(noisy.train) :] > 0.5]
    first = found.rows.loc[found.rows["round"] == 1, "evidence"]
    errors = {e["uid"] for one in first for e in json.loads(one)["errors"]}
    assert len(denied) and errors and not errors & set(denied)


def test_groups_and_groups_of_one(tmp_path: Path) -> None:
    base = planted(480, wrong=0)
    rng = np.random.default_rng(0)

    def authored(data: Labelled, trolls: bool) -> Labelled:
        author = [f"{data.uid[0]}-{i // 8}" if i > 2 else f"{data.uid[0]}-alone-{i}" for i in range(len(data))]
        bad = np.array([a.endswith(("-1", "-3", "-5")) for a in author]) & (rng.random(len(data)) < 0.9) & trolls
        frame = data.frame.assign(
            group=author,
            truth=data.frame["label"],
            label=np.where(bad, flip_all(data).frame["label"], data.frame["label"]),
        )
        return replace(data, frame=frame)

    splits = Splits(authored(base.train, True), authored(base.validation, True), authored(base.verdict, False))
    found = by_posterior(validation="noisy", rounds=1).run(tiny("bert"), splits)
    assert len(found.rows) and found.metrics["acted_precision"] > 0.6
    clean = by_posterior(rounds=1).run(tiny("bert"), splits)
    assert np.isfinite(clean.metrics["estimated_noise_high"])


def test_what_a_person_said_stands_in_the_recommended_set_too() -> None:
    splits = planted(200, wrong=0.1)
    train = splits.train
    wrong = {train.uid[i]: train.frame["truth"][i] for i in np.flatnonzero(train.wrong)[:3]}
    right = {train.uid[i]: train.frame["label"][i] for i in np.flatnonzero(~train.wrong)[:3]}
    for said in (wrong, right):
        method = by_posterior(rank="consensus", fold_epochs=0, fdr=None, noise=0.0, rounds=1, answers=said)
        found = method.run(tiny("bert"), splits)
        assert found.verdict.recommended == "original"
        for data in (found.repaired, found.recommended):
            labels = dict(zip(data.uid, data.frame["label"], strict=True))
            assert {uid: labels[uid] for uid in said} == said
        # To confirm a label is no act.
        assert found.verdict.sentence.startswith("No label was found suspect enough") == (said is right)


def test_the_share_given_sets_the_budget_with_a_rate_of_false_discoveries_too(tmp_path: Path) -> None:
    splits = planted(200, wrong=0.1)
    by_posterior(fdr=1.0, noise=0.4, rounds=1).run(tiny("bert"), splits, out=tmp_path)
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text("utf-8").splitlines()]
    (arm,) = (e for e in events if e["event"] == "arm")
    assert arm["candidates"] == [round(0.4 * len(splits.train))]


@pytest.mark.parametrize(
    ("controls", "said"),
    [(("randm",), "did you mean 'random'"), (("repair",), "'repair' is not one of"), ("random", "give a tuple"),
     (("random", "random"), "each once")],
)  # fmt: skip
def test_a_control_that_is_none_is_refused(controls: Any, said: str) -> None:
    with pytest.raises(TuningError, match=said):
        by_posterior(controls=controls).run(tiny("bert"), planted(60), progress=Nothing())
    with pytest.raises(TuningError, match=said):
        configured(controls=controls)


@pytest.mark.parametrize("rank", ["consensus", "votes"])
def test_a_share_that_was_given_bounds_the_acts_and_is_no_estimate(splits: Splits, rank: str) -> None:
    changes: dict[str, Any] = {"rank": rank, "noise": 0.02, "fdr": None, "rounds": 2, "candidates": 30}
    found = by_posterior(**changes).run(tiny("bert"), splits)
    assert found.metrics["given_noise"] == 0.02 and found.metrics["estimated_noise"] > 0.05
    assert 0 < found.metrics["removed"] + found.metrics["relabelled"] <= round(0.02 * len(splits.train))


def test_a_share_is_claimed_where_the_loss_is_shown(splits: Splits) -> None:
    right = splits.train.wrong.nonzero()[0]
    nearly = splits.train.relabelled({splits.train.uid[i]: splits.train.frame["truth"][i] for i in right[1:]})
    assert nearly.wrong.sum() == 1
    found = by_posterior(rounds=1).run(tiny("bert"), replace(splits, train=nearly))
    assert found.metrics["ap_clean"] is not None and found.metrics["recovered_share"] is None


def test_labels_that_nobody_vouches_for_are_said_to_judge() -> None:
    mine = planted(200).train.frame[["text", "label"]]
    options: dict[str, Any] = {
        "model": tiny("bert"), "preset": "gbair", "rounds": 1, "candidates": 5, "epochs": 1, "max_length": 20,
        "precision": "fp32", "controls": (), "adapter": "head",
    }  # fmt: skip
    said = "The labels it is judged by may be wrong as well."
    assert tracemend.repair(mine, **options).verdict.sentence.endswith(said)
    assert said not in tracemend.repair(mine, valid=planted(120).validation.frame[["text", "label"]], fix_splits=True,
                                        **options).verdict.sentence  # fmt: skip


def test_removing_a_whole_label_is_refused(splits: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    """A posterior that denies every example of a label, whatever the reason."""
    from tracemend.mend.bench import Bench

    def one_sided(self: Any, kernels: Any, train: Labelled) -> Any:
        return np.tile([0.99, 0.01], (len(train), 1))

    monkeypatch.setattr(Bench, "_believed", one_sided)
    with pytest.raises(TraceError, match=r"would leave '.*' alone of 2 labels"):
        by_posterior(noise=0.6, candidates=1000).run(tiny("bert"), splits)


@pytest.mark.parametrize("validation", ["clean", "noisy"])
def test_more_labels(validation: Any) -> None:
    splits = planted(480, labels=3, wrong=0.2)
    found = by_posterior(validation=validation, ask=2).run(tiny("bert"), splits)
    relabelled = found.rows[found.rows["kind"] == "label"]
    assert len(found.rows) and (relabelled["new"] != relabelled["old"]).all()
    assert found.metrics["acted_precision"] > splits.train.wrong.mean() + 0.2


@pytest.mark.slow
@pytest.mark.skipif(not available("diasafety"), reason="TRACEMEND_DATA names no folder with diasafety")
def test_five_labels_of_real_texts() -> None:
    """Which kind of unsafety a context invites: five labels, 30 % of the training labels flipped."""
    frame = reference("diasafety").frame.drop_duplicates("text").head(400)
    data = Labelled.make(frame["text"], frame["category"])
    assert len(data.labels) == 5
    splits = make_splits(data, seed=0, test_share=0.1)
    splits = splits.with_train(corrupt(splits.train, rate=0.3, seed=0))
    tuning = {"epochs": 1, "max_length": 32, "batch_size": 16, "learning_rate": 2e-3}
    found = by_posterior(tuning=tuning, rounds=1, warm_epochs=1, fdr=0.1).run(load("minilm"), splits)
    assert found.metrics["acted_precision"] > 0.75 > 0.3 + 0.3
    assert found.metrics["estimated_noise"] == pytest.approx(0.3, abs=0.1)
