"""ER-TEST: counted by hand on small sets, exactly zero between equal models, at chance where answers are shuffled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.data import (
    ContrastSet,
    Direction,
    FunctionalTest,
    Labelled,
    available,
    available_folder,
    checklist,
    read_functional,
    thinned,
)
from tracemend.errors import DataError, TracemendError
from tracemend.evaluate import Axes, ErTest, compared, er_test

LABELS = ("negative", "positive")


def by_words(pairs: Sequence[tuple[str, str | None]]) -> np.ndarray:
    """Positive by the share of good words among good and bad ones."""
    found = []
    for text, _ in pairs:
        words = text.lower().split()
        good, bad = (sum(word in of for word in words) for of in ({"good", "great"}, {"bad", "awful"}))
        found.append((good + 0.5) / (good + bad + 1))
    p = np.array(found)
    return np.stack([1 - p, p], axis=1)


WRONG: Any = {"x": "y"}
TESTS = [
    FunctionalTest("words", "MFT", "Vocabulary", (("good",), ("awful",), ("not good",), ("so so",)),
                   ("positive", "Negative", "negative", "neutral")),
    FunctionalTest("names", "INV", "NER", (("Ann is good", "Bob is good"), ("Ann is good", "Bob is good", "bad Bob"))),
    FunctionalTest("praise", "DIR", "Vocabulary", (("good", "good great"), ("good", "good awful")),
                   direction=Direction("positive", "not-down")),
    FunctionalTest("less", "DIR", "Vocabulary", (("awful", "awful bad"), ("awful", "awful good")),
                   direction=Direction(None, "not-up", tolerance=0.05)),
]  # fmt: skip
AXES = Axes(
    unseen={"reviews": Labelled.make(["good good", "bad", "great bad bad", "awful good good"],
                                     ["Positive", "Negative", "Negative", "Negative"])},
    contrast={"pairs": ContrastSet(("good", "bad"), LABELS[::-1], ("bad", "bad good good"), LABELS)},
    functional=TESTS,
)  # fmt: skip


def test_every_figure_is_what_a_person_counts():
    found = er_test(by_words, LABELS, AXES)
    values = dict(zip(zip(found.rows["set"], found.rows["figure"], strict=True), found.rows["value"], strict=True))
    assert values == {
        ("reviews", "accuracy"): 0.75,
        ("pairs", "accuracy, originals"): 1.0,
        ("pairs", "accuracy, copies"): 1.0,
        ("pairs", "consistency"): 1.0,
        ("words", "passed (MFT)"): pytest.approx(2 / 3),
        ("names", "passed (INV)"): 0.5,
        ("praise", "passed (DIR)"): 0.5,
        ("less", "passed (DIR)"): 0.5,
    }
    assert found.notes == ["words: 1 examples have a label that the classifier does not have; left out."]
    assert set(found.axis("functional")["capability"]) == {"Vocabulary", "NER"}


def test_a_constant_passes_every_invariance_and_no_pair():
    found = er_test(by_words, LABELS, AXES).rows.set_index("set")
    assert found.loc["names", "constant"] == 1.0 and found.loc["less", "constant"] == 1.0
    assert found.loc["pairs"].set_index("figure").loc["consistency", "constant"] == 0.0


@given(st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_shuffled_answers_are_at_chance(seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=400)
    data = Labelled.make(
        [("good " if label else "bad ") + str(i) for i, label in enumerate(y)], [LABELS[label] for label in y]
    )
    found = er_test(by_words, LABELS, Axes(unseen={"set": data}), seed=seed).rows.iloc[0]
    assert found["value"] == 1.0 and found["low"] == 1.0
    assert found["shuffled"] == pytest.approx(0.5, abs=0.06)


def test_the_same_model_twice_differs_by_exactly_nothing():
    arm = [er_test(by_words, LABELS, AXES, seed=seed) for seed in range(3)]
    table = compared(arm, arm)
    assert (table["difference"] == 0).all() and (table["low"] == 0).all() and (table["high"] == 0).all()
    assert set(table["verdict"]) == {"no effect shown"} and (table["p"] == 1).all()


def made_up(values: np.ndarray) -> list[ErTest]:
    """A test a seed of these figures [seeds, figures]."""
    return [
        ErTest(pd.DataFrame({"axis": "unseen", "set": [f"s{i}" for i in range(len(own))], "figure": "x", "value": own}))
        for own in values
    ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["normal", "of 20 cases"])
def test_noise_is_seldom_called_better_or_worse(kind):
    rng, claimed, families = np.random.default_rng(0), 0, 100
    for _ in range(families):
        arms = rng.normal(0.7, 0.02, (2, 3, 30)) if kind == "normal" else rng.binomial(20, 0.7, (2, 3, 30)) / 20
        claimed += bool((compared(*map(made_up, arms))["verdict"] != "no effect shown").any())
    assert claimed / families <= 0.08  # 0.05, and what 100 families may be off by


def test_a_better_arm_is_called_so_and_two_seeds_call_nothing():
    rng = np.random.default_rng(0)
    good, bad = (made_up(rng.normal(mean, 0.01, (5, 1))) for mean in (0.8, 0.6))
    assert compared(good, bad)["verdict"].tolist() == ["better"]
    assert compared(bad, good)["verdict"].tolist() == ["worse"]
    few = compared(good[:2], bad[:2])
    assert few["verdict"].tolist() == ["no effect shown"] and few["p"].isna().all()


@pytest.mark.parametrize(
    ("classify", "axes", "said"),
    [
        (by_words, Axes(), "nothing to test on"),
        (lambda pairs: np.zeros((len(pairs), 3)), AXES, r"expected \(4, 2\)"),
        (lambda pairs: np.full((len(pairs), 2), np.nan), AXES, "not finite"),
        (by_words, Axes(unseen={"x": Labelled.make(["a", "b"], ["yes", "no"])}), "no example has a label"),
        (by_words, Axes(unseen=WRONG), "none of Labelled"),
    ],
    ids=["nothing", "shape", "nan", "labels", "kind"],
)
def test_bad_input_is_refused(classify, axes, said):
    with pytest.raises(TracemendError, match=said):
        er_test(classify, LABELS, axes)


def test_axes_are_told_apart_by_all_that_is_asked():
    found = {
        Axes(unseen={"x": Labelled.make(["a", "b"], list(LABELS))}).fingerprint,
        Axes(unseen={"y": Labelled.make(["a", "b"], list(LABELS))}).fingerprint,
        Axes(unseen={"x": Labelled.make(["a", "b"], list(LABELS[::-1]))}).fingerprint,
        Axes(contrast=AXES.contrast).fingerprint,
        *(Axes(functional=[test]).fingerprint for test in TESTS),
        Axes(functional=[replace(TESTS[3], direction=Direction(None, "not-up", 0.06))]).fingerprint,
    }
    assert len(found) == 9


def test_arms_must_belong_together():
    one, other = er_test(by_words, LABELS, AXES), er_test(by_words, LABELS, Axes(unseen=AXES.unseen))
    with pytest.raises(TracemendError, match="different sets"):
        compared([one], [other])
    with pytest.raises(TracemendError, match="1 and 2 tests"):
        compared([one], [one, one])


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("no json", "line 1 .* is no JSON"),
        ('{"test": "a"}', "line 1 .* is no case"),
        ('{"test": "a", "type": "INF", "texts": ["b"]}', "did you mean 'INV'"),
        ('{"test": "a", "type": "DIR", "texts": ["b", "c"]}', "without a direction"),
        ('{"test": "a", "type": "DIR", "texts": ["b", "c"], "direction": {"way": "up"}}', "not-down, not-up"),
        ('{"test": "a", "type": "INV", "texts": ["b"]}', "needs 2 texts"),
        (
            '{"test": "a", "type": "INV", "texts": ["b", "c"]}\n'
            '{"test": "a", "type": "MFT", "texts": ["b"], "label": 1}',
            "line 2 .* is MFT here and INV before",
        ),
        (
            '{"test": "a", "type": "DIR", "texts": ["b", "c"], "direction": {"way": "not-up"}}\n'
            '{"test": "a", "type": "DIR", "texts": ["b", "c"], "direction": {"way": "not-down"}}',
            "one type and one direction",
        ),
        ("", "holds no test"),
    ],
)
def test_a_bad_suite_names_its_line(tmp_path, line, said):
    path = tmp_path / "cases.jsonl"
    path.write_text(line)
    with pytest.raises(DataError, match=said):
        read_functional(path)


def test_a_suite_of_ones_own_is_read(tmp_path):
    path = tmp_path / "cases.jsonl"
    path.write_text(
        '{"test": "w", "type": "MFT", "capability": "V", "texts": ["good"], "label": 1}\n'
        '{"test": "w", "type": "MFT", "capability": "V", "texts": ["hm"], "label": null}\n'
        '{"test": "d", "type": "DIR", "texts": ["a", "b"], "direction": {"label": null, "way": "not-up"}}\n'
    )
    one, other = read_functional(path, labels={1: "positive"})
    assert (one.labels, one.cases) == (("positive",), (("good",),))
    assert thinned([one, other], 1)[0].labels == ("positive",)
    assert other.direction == Direction(None, "not-up", 0.1)


@pytest.mark.skipif(not available("checklist_sentiment"), reason="checklist_sentiment is not here")
def test_checklists_suite_is_read_whole():
    tests = checklist(available_folder("checklist_sentiment"))
    assert {test.kind for test in tests} == {"MFT", "INV", "DIR"}
    assert sum(len(test.cases) for test in tests) == 8082 - 500
    assert [test.name for test in tests if test.kind == "DIR" and test.direction is None] == []
