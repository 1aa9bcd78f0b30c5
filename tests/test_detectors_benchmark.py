"""The benchmark of detectors: development sets alone, no template in two parts, a table of what is finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import detectors
from tracemend.runs import write_json


def hatecheck(folder: Path) -> Path:
    rows = [
        f'{i},{i},{i // 4},"I {verb} {name} {word * (1 + i // 8)}",{gold}'
        for i, (verb, name, word, gold) in enumerate(
            (v, n, w, g)
            for w in ("today", "always", "quite", "never", "deeply", "openly")
            for v, g in (("hate", "hateful"), ("love", "non-hateful"))
            for n in ("Ann", "Bob", "Cid", "Dee")
        )
    ]
    text = "\n".join([",case_id,templ_id,test_case,label_gold", *rows]) + "\n"
    (folder / "test_suite_cases.csv").write_text(text, encoding="utf-8")
    return folder


def test_only_development_sets_are_known() -> None:
    assert set(detectors.SETS) == {"uci_sentiment_sentences", "hatecheck"}


def test_sentences_and_their_labels_are_read(tmp_path: Path) -> None:
    (tmp_path / "yelp_labelled.txt").write_text("Wow...\tloved it.\t1\nCrust is not good.\t0\n", encoding="utf-8")
    found = detectors.uci(tmp_path)
    assert list(found.frame["text"]) == ["Wow...\tloved it.", "Crust is not good."]
    assert list(found.frame["label"]) == ["positive", "negative"]


def test_no_template_crosses_the_parts_and_the_validation_is_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectors, "TRAIN", 20)
    monkeypatch.setattr(detectors, "VALIDATION", 6)
    made = detectors.parts(detectors.hatecheck(hatecheck(tmp_path)), seed=0)
    assert len(made.train) == 20 and len(made.validation) == 6
    assert made.train.wrong.sum() == 6
    assert not made.validation.has_truth or not made.validation.wrong.any()
    assert not set(made.train.frame["group"]) & set(made.validation.frame["group"])


def test_the_table_is_of_finished_rows_best_first_with_the_control_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectors, "OUT", tmp_path)
    assert detectors.table(["hatecheck"], "lora", "minilm", 4) == "nothing is finished yet"
    for name, ap in (("trace.loss", 0.5), ("trace.aum", 0.75)):
        for seed in (0, 1):
            figures = {"detection_ap": ap + 0.1 * seed, "detection_auroc": 0.8, "brier": 0.2}
            control = {"detection_ap": 0.3, "detection_auroc": 0.5, "brier": 0.21}
            facts = {"set": "hatecheck", "seed": seed, "adapter": "lora", "model": "minilm", "epochs": 4}
            row = {**facts, "detector": name, "metrics": figures, "controls": control}
            write_json(tmp_path / f"{name}-{seed}.json", row)
    lines = detectors.table(["hatecheck", "uci_sentiment_sentences"], "lora", "minilm", 4).splitlines()
    assert lines[2] == "| `trace.aum` | 0.800 (0.800), 0.200 |"
    assert lines[3] == "| `trace.loss` | 0.550 (0.800), 0.200 |"
    assert lines[4].endswith("| 0.300 (0.500), 0.210 |") and "random order" in lines[4]
    assert detectors.table(["hatecheck"], "prompt", "minilm", 4) == "nothing is finished yet"
