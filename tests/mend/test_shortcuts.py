"""Shortcuts are found where one was planted, told from chance, and distilled away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mend.test_regularise import shortcut
from tracemend.data import Labelled, Splits
from tracemend.errors import DataError, TuningError
from tracemend.mend import Shortcuts
from tracemend.mend.distil import distil, softened
from tracemend.mend.early import with_the_head
from tracemend.mend.head_words import head_of, local_mutual_information, with_shuffled_labels
from tracemend.mend.shortcuts import ShortcutsResult
from tracemend.models import tiny
from tracemend.tuning import Tuning

QUICK = Tuning(epochs=2, batch_size=16, rank=2, max_length=24, precision="fp32")
METHOD = Shortcuts(head=0.1, fewest=3, judged=1, checked=3, steps=2, max_steps=8, tuning=QUICK)


@pytest.fixture(scope="module")
def splits() -> Splits:
    train, validation = shortcut(96, follows=0.95, seed=0), shortcut(32, follows=0.95, seed=1)
    return Splits(train=train, validation=validation, verdict=shortcut(48, follows=0.5, seed=2))


@pytest.fixture(scope="module")
def result(splits: Splits) -> ShortcutsResult:
    tuning = replace(QUICK, epochs=4, rank=4, learning_rate=5e-3)
    return replace(METHOD, tuning=tuning).run(tiny("bert"), splits)


def test_local_mutual_information_is_what_it_says() -> None:
    data = Labelled.make(["x x a", "x b", "a b!", "b a"], ["p", "p", "q", "q"])
    found = local_mutual_information(data, fewest=2).set_index("word")
    # 9 occurrences, 5 of them in texts of p; all 3 of x are.
    assert found["lmi"]["x"] == pytest.approx(3 / 9 * np.log(1 / (5 / 9)))
    assert (found["label"]["x"], found["count"]["x"], found["share"]["x"]) == ("p", 3, 1.0)
    assert found["label"]["a"] == "q" and found["share"]["a"] == pytest.approx(2 / 3)
    assert found.index[0] == "x" and "!" not in found.index
    assert head_of(found.reset_index(), 0.34)["word"].tolist() == ["x", *found.index[1:2]]
    with pytest.raises(DataError, match="no word occurs 9 times"):
        local_mutual_information(data, fewest=9)
    with pytest.raises(DataError, match="all texts have the label 'p'"):
        local_mutual_information(data.take([0, 1]), fewest=1)


def test_shuffled_labels_are_as_many() -> None:
    data = shortcut(60, follows=0.9, seed=0)
    found = with_shuffled_labels(data, 1)
    assert found.uid == data.uid and found.positive == data.positive
    assert sorted(found.frame["label"]) == sorted(data.frame["label"])
    assert list(found.frame["label"]) != list(data.frame["label"])


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=5), st.floats(0, 1))
def test_softened_probabilities_keep_their_order_and_lose_their_edge(values: list[float], degree: float) -> None:
    p = np.array([[v, 1 - v] for v in values])
    found = softened(p, np.full(len(p), degree))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (np.abs(found - 0.5) <= np.abs(p - 0.5) + 1e-9).all()
    assert (((found - 0.5) * (p - 0.5)) >= -1e-12).all()


def test_softened_ends() -> None:
    p = np.array([[0.9, 0.1], [0.3, 0.7]])
    np.testing.assert_allclose(softened(p, [0, 0]), p)
    np.testing.assert_allclose(softened(p, [1, 1]), 0.5)
    for degree in ([0.5], [0.5, 1.2], [-0.1, 0]):
        with pytest.raises(TuningError, match="one a row, from 0 to 1"):
            softened(p, degree)


def test_a_student_learns_what_it_is_told(splits: Splits) -> None:
    """Of a teacher that says the contrary of the labels, and of no teacher."""
    tuning = replace(QUICK, epochs=6, rank=4, learning_rate=5e-3)
    against = np.eye(2)[1 - splits.train.y]
    accuracy = {}
    for alpha in (0.0, 1.0):
        tuned = distil(tiny("bert"), splits.train, splits.validation, against, tuning, alpha=alpha)
        p = tuned.classifier.probabilities(splits.train.pairs)
        accuracy[alpha] = float((p.argmax(axis=1) == splits.train.y).mean())
    assert accuracy[0.0] >= 0.8 and accuracy[1.0] <= 0.2
    with pytest.raises(TuningError, match=r"alpha is 1\.5"):
        distil(tiny("bert"), splits.train, splits.validation, against, tuning, alpha=1.5)
    with pytest.raises(TuningError, match="expected one row an example"):
        distil(tiny("bert"), splits.train, splits.validation, against[:3], tuning)


def test_the_planted_word_is_the_first_of_the_head(result: ShortcutsResult) -> None:
    first = result.table().iloc[0]
    assert (first["word"], first["label"]) == ("please", "unsafe") and first["texts"] > 40
    assert first["first_two"] >= first["first"] and first["first_two"] > 0
    assert result.metrics["first_two"] > result.controls["shuffled labels"]["first_two"]
    assert set(result.controls) == {"shuffled labels", "unmended", "shuffled degrees"}
    assert any("The head is" in note for note in result.findings)


def test_degrees_are_those_of_the_formula(result: ShortcutsResult, splits: Splits) -> None:
    texts, head = result.texts, set(result.rows["word"])
    assert texts["uid"].tolist() == splits.train.uid
    assert texts["degree"].between(0, 1).all() and texts["early"].between(-1, 1).all()
    inside = texts["first"].isin(head) | texts["second"].isin(head)
    assert inside.tolist() == texts["in_head"].tolist()
    total = texts["in_head"] + texts["early"]
    expected = (total - total.min()) / (total.max() - total.min())
    np.testing.assert_allclose(texts["degree"], expected)
    assert result.metrics["first_two"] == pytest.approx(inside.mean())
    assert result.metrics["degree"] == pytest.approx(expected.mean())


def test_texts_with_the_head_hold_a_word_of_their_label() -> None:
    data = Labelled.make(["Good day", "good day", "bad", "so it goes"], ["p", "q", "q", "q"])
    head = pd.DataFrame({"word": ["good", "bad"], "label": ["p", "q"]})
    assert with_the_head(data, head).tolist() == [True, False, True, False]


def test_the_curve_tells_what_was_learnt_first(result: ShortcutsResult, splits: Splits) -> None:
    curve, head = result.curve, result.rows
    each = len(splits.train) / QUICK.batch_size
    assert curve["step"].tolist() == [each * epoch for epoch in range(5)]
    # All 96 texts are followed, so that its ends are the method's own figures.
    assert curve["first_two"].iloc[-1] == pytest.approx(result.metrics["first_two"])
    assert curve["first_two"].iloc[1] == pytest.approx(result.metrics["early"])
    assert curve["shuffled"].iloc[-1] == pytest.approx(result.controls["shuffled labels"]["first_two"])
    assert result.tuned is not None
    n = with_the_head(splits.train, head).sum()
    assert 0 < n < len(splits.train)
    last, first = curve.iloc[-1], curve.iloc[0]
    # The word that was planted is learnt before what tells the texts apart that lack it.
    assert last["loss_with"] < first["loss_with"] and last["accuracy_with"] > last["accuracy_without"]
    assert [note for note in result.findings if note.startswith(f"{n} of 96 training texts hold a word of the head")]


@pytest.mark.slow
def test_the_curve_is_of_the_texts_that_are_followed(splits: Splits) -> None:
    few = replace(METHOD, followed=5).run(tiny("bert"), splits).curve
    assert (few["first_two"] * 5 % 1 < 1e-9).all() and len(few) == 3


def test_it_comes_back_from_disk(result: ShortcutsResult, tmp_path: Path) -> None:
    found = ShortcutsResult.load(result.save(tmp_path))
    pd.testing.assert_frame_equal(found.texts, result.texts)
    pd.testing.assert_frame_equal(found.curve, result.curve)
    assert [axes.get_ylabel() for axes in found.figure().axes[1:]] == ["share of texts", "loss"]
    assert found.metrics == result.metrics and found.tuned is None


@pytest.mark.slow
def test_what_was_cut_and_what_does_not_add_up_is_told(splits: Splits) -> None:
    tight = replace(METHOD, steps=1, max_steps=1, tuning=replace(QUICK, max_length=6))
    result = tight.run(tiny("bert"), splits)
    cut, off = int(result.texts["cut"].sum()), int((result.texts["gap"] > 0.05).sum())
    assert cut > 0 and off > 0
    assert [note for note in result.findings if note.startswith(f"{cut} training texts were cut")]
    assert [note for note in result.findings if f"of {off} training texts are more than 5% away" in note]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"head": 0.0}, "head is 0.0"),
        ({"alpha": 2.0}, "alpha 2.0"),
        ({"judged": 0}, "judged is 0"),
        ({"tuning": replace(QUICK, epochs=1)}, "give it two or more"),
    ],
)
def test_bad_choices_are_told(splits: Splits, changes: dict[str, object], said: str) -> None:
    with pytest.raises(TuningError, match=said):
        replace(METHOD, **changes).run(tiny("bert"), splits)
