"""The whole proof on made-up data: what each arm does, and that nothing is done twice."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tracemend.data import available
from tracemend.mend.proof import Job, planned, prove, results_of, selected, tables
from tracemend.mend.proof.plan import ARMS, CEILING
from tracemend.mend.proof.sets import draw

pytestmark = pytest.mark.slow

CHOSEN = ["trace.random", "trace.loss", "trace.out-of-fold-loss", CEILING]


def cells(part, job, **more):
    given = {"sets": ["hatecheck"], "seeds": 1, "rates": [0.3], "noises": ["symmetric"], **more}
    return planned(part, settings=job.settings, **given)


def test_detection_gives_one_row_a_detector_and_resumes(job, folders):
    wanted = cells("detection", job, arms=CHOSEN)
    found = prove(wanted, workers=0, **folders)
    results = results_of("detection", **folders)
    assert (found.done, found.failed) == (4, 0), [failure.details for failure in results.failures().values()]
    rows: Any = results.rows().set_index("arm")
    assert rows["chance"].unique().tolist() == [pytest.approx(0.3, abs=0.01)]
    assert rows.loc[CEILING, "ap"] > rows.loc["trace.random", "ap"] + 0.2
    assert rows.loc["trace.out-of-fold-loss", "auroc"] > 0.6
    assert (rows["seconds"] >= 0).all() and rows["n"].between(55, 65).all()
    assert prove(wanted, workers=0, **folders).done == 0


def test_the_same_cell_gives_the_same_row_in_another_process_order(job, folders, tmp_path):
    wanted = cells("detection", job, arms=CHOSEN)
    prove(wanted, workers=0, **folders)
    other = {"rows": tmp_path / "rows-2", "out": tmp_path / "out-2"}
    for cell in reversed(wanted):
        prove([cell], workers=0, **other)
    first, second = (results_of("detection", **f).rows()[["arm", "ap", "auroc"]] for f in (folders, other))
    assert first.equals(second)


def test_every_arm_of_the_repair(job, folders):
    wanted = cells("repair", job, other="trace.out-of-fold-loss")
    found = prove(wanted, workers=0, **folders)
    results = results_of("repair", **folders)
    assert found.failed == 0, [f.details for f in results.failures().values()]
    rows: Any = results.rows().set_index("arm")
    assert set(rows.index) == set(ARMS)
    # An arm that changes nothing has the figures of the start.
    assert rows.loc["nothing", "ap"] == rows.loc["nothing", "ap_corrupted"] and rows.loc["nothing", "touched"] == 0
    assert rows["ap_clean"].nunique() == rows["ap_corrupted"].nunique() == 1
    budget = rows.loc["default", "acted"]
    assert rows.loc["random", "acted"] == rows.loc["best-other", "acted"] == budget > 0
    oracle = rows.loc["oracle"]
    n = round(oracle["acted"] / oracle["touched"])
    assert oracle["acted"] == min(budget, round(oracle["wrong_before"] * n)) and oracle["acted_right"] == 1
    assert oracle["wrong_after"] == pytest.approx(oracle["wrong_before"] - oracle["acted"] / n)
    assert rows.loc["validation-added", "wrong_after"] < rows.loc["nothing", "wrong_after"]
    assert np.isnan(rows.loc["validation-only", "wrong_after"]) and rows.loc["validation-only", "ap"] > 0.5
    assert rows.loc["best-other", "detector"] == "trace.out-of-fold-loss"
    assert rows.loc[["default", "gbair"], "loop_ap"].notna().all() and rows.loc["default", "loop_seconds"] > 0
    assert "**default**" in tables(results.rows(), "repair")


def test_no_noise_has_nothing_to_recover(job, folders):
    wanted = cells("repair", job, rates=[], noises=["none"], arms=["nothing", "oracle"])
    assert prove(wanted, workers=0, **folders).failed == 0
    rows: Any = results_of("repair", **folders).rows().set_index("arm")
    assert (rows["wrong_before"] == 0).all() and (rows["ap"] == rows["ap_clean"]).all()
    assert rows.loc["oracle", "acted"] == 0


def test_noisy_validation_is_what_one_file_holds(job, folders):
    """The labels to steer by carry the same noise, those to measure on none, and the default trusts none of them."""
    noisy = replace(job, noisy_validation=True)
    mild: dict[str, Any] = {"rates": [0.1]}  # of more noise so small a set says too little
    unit = cells("repair", job, **mild)[0].unit
    sizes = {"train": job.train, "validation": job.validation, "test": job.test}
    parts, trusted = draw(unit, **sizes, noisy_validation=True), draw(unit, **sizes)
    assert parts.validation.uid == trusted.validation.uid and not trusted.validation.has_truth
    assert parts.validation.wrong.mean() == pytest.approx(0.1, abs=0.02) and not parts.verdict.has_truth
    assert parts.train.fingerprint == trusted.train.fingerprint

    wanted = cells("repair", noisy, arms=["nothing", "default", "oracle"], **mild)
    assert prove(wanted, workers=0, **folders).failed == 0, results_of("repair", **folders).failures()
    kept = next(folders["out"].rglob("repairs/default/result.json"))
    assert json.loads(kept.read_text(encoding="utf-8"))["config"]["validation"] == "noisy"
    # Rows of the one kind are not taken for rows of the other.
    assert not {cell.fingerprint for cell in cells("repair", noisy)} & {
        cell.fingerprint for cell in cells("repair", job)
    }
    assert "noisy_validation" not in job.settings
    rows = results_of("repair", **folders).rows()
    assert len(selected(rows, noisy.settings, sets=["hatecheck"])) == 3
    assert selected(rows, job.settings, sets=["hatecheck"]).empty


def test_where_the_default_refuses_a_person_is_left_with_the_labels_as_they_are(job, folders):
    """Few texts, much noise and no label to trust: what is refused counts in the mean, as no repair at all."""
    wanted = cells("repair", replace(job, noisy_validation=True), arms=["nothing", "default", "random", "oracle"])
    found = prove(wanted, workers=0, **folders)
    rows: Any = results_of("repair", **folders).rows()
    assert found.failed == 0 and rows.set_index("arm")["refused"].fillna(0).to_dict() == {
        "nothing": 0, "default": 1, "random": 0, "oracle": 0,
    }  # fmt: skip
    assert rows["ap"].nunique() == 1 and (rows["acted"] == 0).all()
    assert "In 1 of 1 draws default refused" in tables(rows, "repair")


def test_true_labels_are_tuned_on_once_a_draw(job, folders):
    wanted = cells("repair", job, rates=[0.2, 0.3], arms=["nothing", "default"])
    assert prove(wanted, workers=0, **folders).failed == 0
    rows: Any = results_of("repair", **folders).rows()
    assert rows["rate"].nunique() == 2 and rows["ap_clean"].nunique() == 1 and rows["ap_corrupted"].nunique() == 2
    assert len(list(folders["out"].rglob("*-clean-*.json"))) == 1
    assert len(list(folders["out"].rglob("tuning-clean"))) == 1  # and no repair tuned on them again


def test_an_arm_without_what_it_needs_fails_alone(job, folders):
    wanted = cells("repair", job, arms=["nothing", "best-other"])
    found = prove(wanted, workers=0, **folders)
    assert (found.done, found.failed) == (1, 1)
    assert "--other NAME" in next(iter(results_of("repair", **folders).failures().values())).error


def test_nothing_planned_is_nothing_done(folders):
    assert prove([], **folders).left == []


@pytest.mark.slow
@pytest.mark.skipif(
    not available("uci_sentiment_sentences"), reason="TRACEMEND_DATA: uci_sentiment_sentences is not here"
)
def test_workers_do_the_same_on_a_real_set(tmp_path):
    from tracemend.models import tiny

    model = tiny("bert")
    model.network.save_pretrained(tmp_path / "model")
    model.tokenizer.save_pretrained(tmp_path / "model")
    job = Job(model=str(tmp_path / "model"), adapter="head", epochs=1, max_length=16, train=40, validation=30, test=30)
    wanted = cells("detection", job, sets=["uci_sentiment_sentences"], arms=["trace.random", "trace.loss"])
    folders = {"rows": tmp_path / "rows", "out": tmp_path / "out"}
    found = prove(wanted, workers=1, **folders)
    failures = results_of("detection", **folders).failures().values()
    assert (found.done, found.failed) == (2, 0), [failure.details for failure in failures]
    by_worker = results_of("detection", **folders).rows()[["arm", "ap"]]
    here = {"rows": tmp_path / "rows-2", "out": tmp_path / "out-2"}
    prove(wanted, workers=0, **here)
    assert results_of("detection", **here).rows()[["arm", "ap"]].equals(by_worker)
