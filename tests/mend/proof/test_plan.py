from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest

from tracemend.errors import DataError, TracemendError
from tracemend.evaluate.grid import Unit
from tracemend.mend.proof import DEVELOPMENT, JUDGED, planned, selected, sets
from tracemend.mend.proof.plan import ARMS, CEILING
from tracemend.mend.proof.sets import draw
from tracemend.trace.run import detectors

WORDS = {
    "safe": ["love", "great", "nice", "happy", "thanks"],
    "unsafe": ["hate", "awful", "terrible", "sad", "stop"],
}


def counts(cells):
    """Seeds of each (set, noise, rate)."""
    units = {cell.unit for cell in cells}
    return Counter((u.dataset, u.noise, u.rate) for u in units)


def test_detection_has_every_registered_detector_and_the_ceiling():
    cells = planned("detection")
    assert {cell.arm for cell in cells} == {*detectors(), CEILING}
    found = counts(cells)
    assert all(found[name, "symmetric", 0.3] == 10 for name in JUDGED)
    kinds = [(name, kind, rate) for name in JUDGED for kind in ("symmetric", "confusable") for rate in (0.1, 0.4)]
    assert all(found[row] == 3 for row in kinds)
    assert found["convabuse", "annotator", 0.0] == 10 and found["convabuse", "trolls", 0.2] == 3
    assert not any(noise == "none" for _, noise, _ in found)  # nothing to find
    assert all(found[name, "trolls", 0.3] == 3 for name in JUDGED)
    assert not {name for name, _, _ in found} & set(DEVELOPMENT)


def test_repair_has_every_arm_and_clean_labels():
    cells = planned("repair", other="trace.loss")
    assert {cell.arm for cell in cells} == set(ARMS)
    assert all(counts(cells)[name, "none", 0.0] == 5 for name in (*JUDGED, "convabuse"))
    assert {cell.settings.get("detector") for cell in cells if cell.arm == "best-other"} == {"trace.loss"}
    assert not any("detector" in cell.settings for cell in cells if cell.arm != "best-other")
    assert cells[0].noise == "symmetric" and cells[0].rate == 0.3  # the headline first


def test_a_plan_can_be_narrowed():
    chosen = {"sets": ["hatecheck"], "arms": ["trace.loss"], "rates": [0.3], "noises": ["symmetric", "trolls"]}
    cells = planned("detection", seeds=1, **chosen)
    assert [(c.noise, c.rate, c.seed, c.arm) for c in cells] == [
        ("symmetric", 0.3, 0, "trace.loss"),
        ("trolls", 0.3, 0, "trace.loss"),
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"part": "detect"}, "did you mean 'detection'"),
        ({"part": "repair", "arms": ["defualt"]}, "did you mean 'default'"),
        ({"part": "detection", "arms": ["trace.los"]}, "did you mean 'trace.loss'"),
        ({"part": "detection", "sets": ["sst3"]}, "set 'sst3' is not one of: .*did you mean 'sst2'"),
        ({"part": "detection", "noises": ["symetric"]}, "noise 'symetric' is not one of: .*did you mean 'symmetric'"),
        ({"part": "detection", "rates": [0.25]}, "rate 0.25 is not one of: 0.0, 0.1, 0.2, 0.3, 0.4"),
    ],
)
def test_unknown_names(given, said):
    with pytest.raises(TracemendError, match=said):
        planned(**given)


def test_rows_of_other_settings_or_sets_never_enter_a_table():
    def row(dataset, settings):
        return {"dataset": dataset, "noise": "x", "rate": 0.3, "arm": "a", "settings": json.dumps(settings)}

    rows = pd.DataFrame(
        [
            row("sst2", {"part": "repair", "train": 500}),
            row("sst2", {"part": "repair", "train": 500, "detector": "trace.em"}),
            row("sst2", {"part": "repair", "train": 60}),
            row("hatecheck", {"part": "repair", "train": 500}),
        ]
    )
    assert selected(rows, {"train": 500}).index.tolist() == [0, 1]
    assert selected(rows, {"train": 500}, sets=["hatecheck"])["dataset"].tolist() == ["hatecheck"]
    voted = rows.assign(noise="annotator", rate=0.0)
    assert len(selected(voted, {"train": 500}, rates=[0.3])) == len(selected(voted, {"train": 500}))
    assert not len(selected(rows, {"train": 500}, rates=[0.1])) and not len(selected(rows.head(0), {"train": 500}))


SIZES = {"train": 60, "validation": 40, "test": 30}


@pytest.mark.parametrize("noise", ["none", "symmetric", "confusable", "trolls", "annotator"])
def test_a_draw_has_its_sizes_noise_in_training_only_and_nothing_twice(job, noise):
    splits = draw(Unit("hatecheck", noise, 0.0 if noise == "none" else 0.3, 1), **SIZES)
    total = sum(len(part) for part in splits.parts.values())
    assert total <= 130 and abs(len(splits.train) - 60) <= 5 and abs(len(splits.validation) - 40) <= 5
    uids = [uid for part in splits.parts.values() for uid in part.uid]
    groups = [set(part.frame["group"]) for part in splits.parts.values()]
    assert len(set(uids)) == len(uids) and not groups[0] & groups[1] and not groups[0] & groups[2]
    assert set(splits.parts) == {"train", "validation", "verdict"}
    share = splits.train.wrong.mean()
    bounds = {"none": (0, 0), "symmetric": (0.29, 0.31), "confusable": (0.29, 0.31), "trolls": (0.15, 0.45)}
    low, high = bounds.get(noise, (0.02, 0.3))
    assert low <= share <= high
    words = {word: label for label, own in WORDS.items() for word in own}
    for part in (splits.validation, splits.verdict):
        assert [words[text.split()[0]] for text in part.frame["text"]] == list(part.frame["label"])
    again = draw(Unit("hatecheck", noise, 0.0 if noise == "none" else 0.3, 1), **SIZES)
    assert again.fingerprints == splits.fingerprints


def test_a_set_without_groups_gets_users_of_ten_some_of_them_trolls(job, monkeypatch):
    whole = vars(sets)["reference"]("sst2")
    monkeypatch.setattr(sets, "reference", lambda name: replace(whole, frame=whole.frame.assign(group=None)))
    drawn = draw(Unit("sst2", "trolls", 0.3, 1), **SIZES)
    frame = drawn.train.frame.assign(wrong=drawn.train.wrong)
    assert set(frame["group"].value_counts()) == {10}
    assert not set(frame["group"]) & set(drawn.validation.frame["group"])
    share = frame.groupby("group")["wrong"].mean()
    assert set(share[share > 0]) == {0.8} and (share == 0).sum() > (share > 0).sum()
    assert draw(Unit("sst2", "symmetric", 0.3, 1), **SIZES).train.frame["group"].isna().all()


def test_noise_that_a_set_cannot_carry_and_sets_that_are_too_small(job):
    with pytest.raises(DataError, match="sst2 carries no noise of kind 'annotator'; sets that do: convabuse"):
        draw(Unit("sst2", "annotator", 0.3, 0), **SIZES)
    with pytest.raises(DataError, match="not one of: none, symmetric"):
        draw(Unit("sst2", "symetric", 0.3, 0), **SIZES)
    with pytest.raises(DataError, match="has 168 rows; 500"):
        draw(Unit("sst2", "symmetric", 0.3, 0))
