"""The whole job in one Python call."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest

import tracemend
from tracemend.data import Splits, corrupt, demo, make_splits, read, read_splits
from tracemend.data.examples import read_examples, write_examples
from tracemend.errors import DataError, RunError, TuningError
from tracemend.mend import Repair, RepairResult
from tracemend.mend.job import Choices, TuningChoices, configured, demo_job, tuned_as
from tracemend.models import tiny
from tracemend.tuning import Tuning
from tracemend.tuning.predictor import Predictor

FAST = {"adapter": "head", "epochs": 2, "rounds": 1, "max_length": 24, "precision": "fp32"}


@pytest.fixture(scope="module")
def frame():
    words = {"safe": ["love", "great", "nice", "happy"], "unsafe": ["hate", "awful", "terrible", "bad"]}
    rng = np.random.default_rng(0)
    rows = []
    for i in range(120):
        truth = ("safe", "unsafe")[i % 2]
        text = f"{' '.join(rng.choice(words[truth], 3))} {i}"
        label = ("safe", "unsafe")[(i + (rng.random() < 0.25)) % 2]
        rows.append({"comment": text, "toxic": label, "right": truth, "likes": i})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def model():
    return tiny("bert")


@pytest.fixture(scope="module")
def out(frame, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("job") / "run"
    tracemend.repair(frame, text="comment", label="toxic", truth="right", model=model, out=folder, **FAST)
    return folder


@pytest.mark.slow
def test_it_repairs_a_data_frame_and_keeps_nothing(frame, model):
    before = frame.copy()
    found = tracemend.repair(frame, text="comment", label="toxic", model=model, **FAST)
    assert isinstance(found, RepairResult)
    assert found.folder is None
    assert found.verdict.recommended in ("repaired", "original")
    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.slow
def test_labels_of_one_column_are_not_trusted_to_judge_each_other(frame, model, tmp_path):
    """Without labels that are known to be better, none is taken for right; a person may say otherwise."""
    common = {"text": "comment", "label": "toxic", "model": model, **FAST}
    held = frame.head(30)
    for given, expected in (
        ({}, "noisy"), ({"truth": "right"}, "clean"), ({"valid": held}, "clean"), ({"validation": "clean"}, "clean"),
    ):  # fmt: skip
        folder = tmp_path / f"{expected}-{'-'.join(given)}"
        source = frame.tail(90) if "valid" in given else frame
        tracemend.repair(source, out=folder, **common, **given)
        assert json.loads((folder / "config.json").read_text("utf-8"))["config"]["validation"] == expected


def test_out_keeps_a_run_with_its_report(out):
    for name in ("report.html", "examples.parquet", "classifier.json", "repaired.csv"):
        assert (out / name).exists()
    assert json.loads((out / "result.json").read_text("utf-8"))["data"]["name"] == "data"


def test_again_reads_back_what_is_there(frame, model, out):
    written = (out / "result.json").read_bytes()
    found = tracemend.repair(frame, text="comment", label="toxic", truth="right", model=model, out=out, **FAST)
    assert (out / "result.json").read_bytes() == written
    assert found.metrics["ap_repaired"] == json.loads(written)["metrics"]["ap_repaired"]


def test_other_choices_need_another_out(frame, model, out):
    with pytest.raises(RunError, match=r"rounds: there 1, now 2"):
        tracemend.repair(
            frame, text="comment", label="toxic", truth="right", model=model, out=out, **{**FAST, "rounds": 2}
        )


def test_a_path_and_a_frame_are_the_same_job(frame, model, out, tmp_path):
    frame.to_csv(tmp_path / "comments.csv", index=False)
    found = tracemend.repair(
        tmp_path / "comments.csv", text="comment", label="toxic", truth="right", model=model, out=out, **FAST
    )
    assert found.folder == out


def test_the_room_gives_its_names_and_no_others():
    import tracemend.mend as room

    assert all(getattr(room, name).__module__.startswith("tracemend.mend.") for name in room.__all__)
    assert room.repair is tracemend.repair
    with pytest.raises(AttributeError, match="has no attribute 'repare'"):
        _ = room.repare


def test_every_choice_of_a_repair_and_a_tuning_is_a_keyword():
    tuning = {f.name for f in fields(Tuning)} - {"seed", "rank"} | {"lora_rank"}
    repair = {f.name for f in fields(Repair)} - {"seed", "tuning", "tracin"} | {"kernel"}
    assert set(TuningChoices.__annotations__) == tuning
    assert set(Choices.__annotations__) >= repair
    assert set(Choices.__annotations__) - tuning == repair


def test_choices_go_where_they_belong():
    method = configured(seed=3, adapter="prompt", lora_rank=4, rank="votes", kernel="dot", candidates=None)
    assert (method.seed, method.tuning.seed) == (3, 3)
    assert (method.tuning.adapter, method.tuning.rank, method.rank) == ("prompt", 4, "votes")
    assert not method.tracin.normalise_train and not method.tracin.normalise_query
    assert method.candidates is None
    assert configured() == Repair()


def test_the_preset_of_the_paper_is_a_start():
    method = configured("gbair", candidates=10)
    assert (method.candidates, method.action, method.tuning.adapter) == (10, "remove", "prompt")
    assert method.tracin.parts == ("prompt",)
    # An adapter without a prompt is traced whole.
    assert configured("gbair", adapter="lora").tracin.parts == ()


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"candidate": 3}, r"'candidate' is no choice of a repair: .*did you mean 'candidates'\?"),
        ({"action": "delete"}, r"action 'delete' is not one of: remove, relabel, auto"),
        ({"adapter": "Lora"}, r"adapter 'Lora' is not one of: .*did you mean 'lora'\?"),
        ({"kernel": "cos"}, r"kernel 'cos' is not one of: cosine, dot"),
        ({"epochs": 0}, r"epochs is 0; it must be at least 1"),
        ({"preset": "gbare"}, r"preset 'gbare' is not one of: default, gbair"),
        ({"validation": "noisy", "fold_epochs": 2}, r"with noisy validation none is tuned\. Give such labels"),
    ],
)
def test_a_wrong_choice_is_answered_with_the_valid_ones(choices, said):
    with pytest.raises(TuningError, match=said):
        configured(**choices)


def test_tuned_as_changes_what_is_given():
    assert tuned_as(Tuning(epochs=5), seed=1, epochs=None, batch_size=4) == Tuning(epochs=5, batch_size=4, seed=1)


def test_given_parts_are_read_without_truth(frame):
    half = len(frame) // 2
    train, valid = frame[:half], frame[half:].drop(columns="right")
    splits = read_splits(train, text="comment", label="toxic", truth="right", valid=valid)
    assert splits.train.has_truth and not splits.validation.has_truth
    assert len(splits.train) == half and splits.test is None


def test_dropped_rows_are_noted(frame):
    holes = frame.assign(comment=frame.comment.where(frame.index != 4, ""))
    with pytest.raises(DataError, match="--drop-empty"):
        read_splits(holes, text="comment", label="toxic")
    notes = read_splits(holes, text="comment", label="toxic", drop_empty=True).notes
    assert notes[0] == "Dropped 1 row without text (row 4 (counted from 0))."


def test_examples_come_back_as_they_were(frame, tmp_path):
    data = corrupt(read(frame.assign(who=["a", None] * 60), text="comment", label="toxic", group="who"), rate=0.2)
    splits = make_splits(data)
    write_examples(splits, tmp_path)
    back = read_examples(tmp_path)
    assert back.fingerprints == splits.fingerprints
    assert back.notes == splits.notes
    for name, part in splits.parts.items():
        assert list(back.parts[name].frame) == list(part.frame)
        assert back.parts[name].pairs == part.pairs
        assert list(back.parts[name].frame["truth"]) == list(part.frame["truth"])
        assert list(back.parts[name].frame["likes"]) == list(part.frame["likes"])


def test_examples_that_cannot_be_kept_are_refused_at_once(frame, model, tmp_path):
    odd = frame.assign(likes=[1, "two"] * 60)
    with pytest.raises(DataError, match=r"further columns .*'likes'.* cannot be kept"):
        tracemend.repair(odd, text="comment", label="toxic", model=model, out=tmp_path / "run", **FAST)


def test_damaged_examples_are_named(tmp_path):
    with pytest.raises(RunError, match="does not exist; name the --out"):
        read_examples(tmp_path)
    (tmp_path / "examples.parquet").write_bytes(b"PAR1")
    with pytest.raises(RunError, match="is damaged"):
        read_examples(tmp_path)


def test_the_recommended_classifier_is_the_one_that_predicts(out, model):
    result = json.loads((out / "result.json").read_text("utf-8"))
    predictor = Predictor.load(out, model=model)
    assert predictor.adapter == f"adapter-{result['verdict']['recommended']}"
    assert predictor.threshold == pytest.approx(result["metrics"]["threshold"])
    table = predictor.table([("nice movie", None), ("awful film", None)])
    assert list(table) == ["text", "label", "p_safe", "p_unsafe", "threshold"]
    assert np.allclose(table.p_safe + table.p_unsafe, 1, atol=1e-5)


def test_another_model_is_refused(out):
    with pytest.raises(RunError, match="bring back the model"):
        Predictor.load(out, model=tiny("bert", seed=1))


@pytest.mark.slow
def test_the_demo_is_the_same_job(model, tmp_path, monkeypatch):
    # A tiny model and a tenth of the demo set: that the job holds together. Its figures come from benchmarks/.
    monkeypatch.setattr("tracemend.mend.job.load", lambda name: model)
    whole = demo(noise=0.3)
    parts = {name: part.take(range(0, len(part), 10)) for name, part in whole.parts.items()}
    monkeypatch.setattr("tracemend.mend.job.demo", lambda **_: Splits(**parts, notes=whole.notes))
    found = demo_job(tmp_path / "demo")
    result = json.loads((tmp_path / "demo" / "result.json").read_text("utf-8"))
    assert (result["command"], result["config"]["tuning"]["adapter"]) == ("demo", "prompt")
    assert result["config"]["tuning"]["patience"] == 0
    assert (tmp_path / "demo" / "report.html").exists()
    wanted = {"ap_clean", "ap_corrupted", "ap_repaired", "recovered_share", "acted_precision", "detection_ap"}
    assert wanted <= set(found.metrics)
    assert Predictor.load(tmp_path / "demo", model=model).columns == {"text": "text", "reply": "reply"}


@pytest.mark.parametrize(
    "choice",
    [
        {"rounds": 0},
        {"candidates": 0},
        {"top_k": 0},
        {"noise": 3.0},
        {"learning_rate": -1.0},
        {"learning_rate": float("nan")},
    ],
    ids=str,
)
def test_a_number_out_of_range_is_refused_before_a_directory_is_made(choice: dict[str, float]) -> None:
    with pytest.raises(TuningError, match=next(iter(choice))):
        configured(**choice)


@pytest.mark.parametrize("rank", [None, "consensus", "trusted"])
def test_labels_of_one_column_are_as_good_as_each_other_whatever_ranks(rank):
    choices = {} if rank is None else {"rank": rank}
    assert configured(checked=False, **choices).validation == "noisy"
    assert configured(checked=True, **choices).validation == configured(**choices).validation == "clean"
    assert configured(checked=False, validation="clean", **choices).validation == "clean"
    assert (
        configured("gbair", checked=False).validation == configured(rank="votes", checked=False).validation == "clean"
    )


@pytest.mark.parametrize(("given", "checked"), [({}, False), ({"truth": "t"}, True), ({"valid": "v.csv"}, True)])
def test_labels_count_as_checked_where_a_part_or_the_truth_is_given(monkeypatch, given, checked):
    class Seen(Exception):
        pass

    def seen(preset, **choices):
        raise Seen(str(choices["checked"]))

    monkeypatch.setattr("tracemend.mend.job.configured", seen)
    with pytest.raises(Seen, match=str(checked)):
        tracemend.repair(pd.DataFrame(), text="text", label="label", **given)
