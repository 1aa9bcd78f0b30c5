"""The benchmark of detectors: development sets alone, no template in two parts, a table of what is finished."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import detectors
from tracemend.data import Labelled
from tracemend.runs import write_json


def cases() -> Labelled:
    """Cases of forty templates, which differ in one name alone."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abdegilmnoprstu"), 6)) for _ in range(200)]
    made = [
        (" ".join([name, *template]), t)
        for t, template in enumerate(rng.choice(words, (40, 6)))
        for name in ("Ann", "Bob", "Cid")
    ]
    return Labelled.make(
        [text for text, _ in made],
        [("hateful", "non-hateful")[t % 2] for _, t in made],
        groups=[f"template-{t}" for _, t in made],
        positive="hateful",
    )


def test_only_development_sets_are_known() -> None:
    assert set(detectors.SETS) == {"uci_sentiment_sentences", "hatecheck"}


def test_no_template_crosses_the_parts_and_the_validation_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detectors, "TRAIN", 20)
    monkeypatch.setattr(detectors, "VALIDATION", 6)
    made = detectors.parts(cases(), seed=0, noisy=False)
    assert len(made.train) == 20 and len(made.validation) == 6
    assert made.train.wrong.sum() == 6
    assert not made.validation.has_truth or not made.validation.wrong.any()
    assert not set(made.train.frame["group"]) & set(made.validation.frame["group"])
    noisy = detectors.parts(cases(), seed=0, noisy=True)
    assert list(noisy.validation.uid) == list(made.validation.uid) and not noisy.validation.has_truth
    assert (noisy.validation.y != made.validation.y).sum() == 2


def test_the_table_is_of_finished_rows_best_first_with_the_control_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detectors, "OUT", tmp_path)
    assert detectors.table(["hatecheck"], "lora", "minilm", 4, noisy=False) == "nothing is finished yet"
    for name, ap in (("trace.loss", 0.5), ("trace.aum", 0.75)):
        for seed in (0, 1):
            figures = {"detection_ap": ap + 0.1 * seed, "detection_auroc": 0.8, "brier": 0.2}
            control = {"detection_ap": 0.3, "detection_auroc": 0.5, "brier": 0.21}
            facts = {"set": "hatecheck", "seed": seed, "adapter": "lora", "model": "minilm", "epochs": 4}
            row = {**facts, "detector": name, "metrics": figures, "controls": control}
            write_json(tmp_path / f"{name}-{seed}.json", row)
    lines = detectors.table(["hatecheck", "uci_sentiment_sentences"], "lora", "minilm", 4, noisy=False).splitlines()
    assert lines[2] == "| `trace.aum` | 0.800 (0.800), 0.200 |"
    assert lines[3] == "| `trace.loss` | 0.550 (0.800), 0.200 |"
    assert lines[4].endswith("| 0.300 (0.500), 0.210 |") and "random order" in lines[4]
    assert detectors.table(["hatecheck"], "prompt", "minilm", 4, noisy=False) == "nothing is finished yet"
