"""Marks of words, of spans and of a ledger's decisions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend.data import Decision, words_of
from tracemend.errors import DataError, TuningError
from tracemend.mend.marks import (
    check_words,
    elsewhere,
    frequencies,
    goes_with,
    marks_of_decisions,
    marks_of_spans,
    marks_of_words,
    of_tokens,
    other_words,
    put_in,
    without,
)
from tracemend.models import tiny
from tracemend.saliency import Example, encoded
from tracemend.tuning import TextClassifier

NAN = np.nan


@pytest.fixture(scope="module")
def example() -> Example:
    classifier = TextClassifier(tiny("bert"), ("safe", "unsafe"), kind="head")
    return encoded(classifier, [("Honestly good, honestly.", "Honestly no")])[0]


def word(new: str, *, matters: bool, uid: str = "a-0", scope: str = "all", version: int = 0) -> Decision:
    return Decision(uid=uid, kind="word", new=new, scope=scope, evidence={"matters": matters}, version=version)


def test_marks_of_words(example: Example) -> None:
    found = marks_of_words(example, remove=["honestly"], add=["GOOD"])
    np.testing.assert_array_equal(found, [0, 1, NAN, 0, NAN, 0, NAN])


def test_marks_of_spans(example: Example) -> None:
    np.testing.assert_array_equal(marks_of_spans(example, [(9, 13)]), [0, 1, 0, 0, 0, NAN, NAN])
    np.testing.assert_array_equal(marks_of_spans(example, [(0, 8)], part=1)[-2:], [1, 0])
    # All of a text, or none of it, tells nothing apart.
    assert np.isnan(marks_of_spans(example, [(0, 24)])).all() and np.isnan(marks_of_spans(example, [])).all()
    for span in ((5, 5), (-1, 3), (10, 99)):
        with pytest.raises(TuningError, match="is not of the text"):
            marks_of_spans(example, [span])


def test_marks_of_decisions(example: Example) -> None:
    rows = [word("honestly", matters=False, version=1), word("Good", matters=False, version=2)]
    np.testing.assert_array_equal(marks_of_decisions(example, "a-0", rows), [0, 0, NAN, 0, NAN, 0, NAN])
    # What is said of this example stands over what is said of all, and the later of two over the earlier.
    rows += [word("good", matters=True, scope="example", version=3)]
    rows += [word("no", matters=True, uid="b-0", scope="example")]
    rows += [Decision(uid="a-0", kind="comment", new="no")]
    np.testing.assert_array_equal(marks_of_decisions(example, "a-0", rows), [0, 1, NAN, 0, NAN, 0, NAN])
    rows += [word("good", matters=False, scope="example", version=4)]
    assert marks_of_decisions(example, "a-0", rows[::-1])[1] == 0


def test_marks_of_tokens(example: Example) -> None:
    marks = np.arange(len(example.words), dtype=np.float64)
    found = of_tokens(0, example, marks)
    assert np.isnan(found[0]) and len(found) == len(example.ids)
    assert found[example.owner >= 0].tolist() == example.owner[example.owner >= 0].tolist()
    with pytest.raises(TuningError, match="text 3 has 7 words and 6 marks"):
        of_tokens(3, example, marks[:-1])


@pytest.mark.parametrize(
    ("remove", "add", "said"),
    [
        (("black people",), (), "is 2 words"),
        (("",), (), "is 0 words"),
        ((), (" a",), "is 1 words"),
        (("Bad",), ("bad",), "bad: marked as not to matter and as to matter"),
    ],
)
def test_what_is_no_word_is_refused(remove: tuple[str, ...], add: tuple[str, ...], said: str) -> None:
    with pytest.raises(TuningError, match=said):
        check_words(remove, add)


def test_other_words_are_about_as_frequent_and_never_those_marked() -> None:
    rare, often = [("rare odd", None)] * 6, [("the of and", None)] * 60
    found = other_words([*rare, *often], ["the", "rare"], fewest=5, seed=0)
    assert found["the"] in ("of", "and") and found["rare"] == "odd"
    assert found == other_words([*rare, *often], ["the", "rare"], fewest=5, seed=0)
    with pytest.raises(DataError, match="no other word"):
        other_words([("the", None)] * 9, ["the"], fewest=5, seed=0)


def test_words_are_taken_out_and_put_in() -> None:
    assert without(("Honestly, it is honestly good", "Honestly no"), ["honestly"]) == (", it is good", "no")
    assert without(("Honestly", None), ["honestly"]) == ("Honestly", None)
    assert without(("so  it goes", None), ["never"]) == ("so  it goes", None)
    assert frequencies([("A a b", "a"), ("b", None)]) == {"a": 1, "b": 2}
    lines = " one\n\n  line "
    for seed in range(5):  # white space is not what is put in
        having = put_in((lines, "\n"), "X", np.random.default_rng(seed))
        assert having[0].replace("X ", "").replace(" X", "") == lines and having[1] == "\n"
    assert put_in(("", None), "X", np.random.default_rng(0)) == ("X", None)


@given(st.lists(st.sampled_from(["so", "it", "goes", "well"]), min_size=1, max_size=8), st.integers(0, 99))
def test_what_was_put_in_can_be_taken_out(words: list[str], seed: int) -> None:
    pair = (" ".join(words), None)
    having = put_in(pair, "honestly", np.random.default_rng(seed))
    assert len(words_of(having[0])) == len(words) + 1
    assert without(having, ["HONESTLY"]) == pair


def test_the_label_a_word_goes_with_is_where_it_is_more_frequent_not_where_there_are_more_texts() -> None:
    pairs = [("x a", None)] * 3 + [("b", None)] * 7 + [("x c", None)] * 2
    labels = ["few"] * 0 + ["many"] * 10 + ["few"] * 2
    assert goes_with(pairs, labels, ["X", "a", "z"]) == {"X": "few", "a": "many", "z": None}


@pytest.mark.parametrize("labels", [["p", "q", "p", "q"], ["q", "p", "q", "p"]])
def test_a_word_as_frequent_in_two_labels_goes_with_neither(labels: list[str]) -> None:
    pairs = [("x a", None), ("x", None), ("so", None), ("so", None)]
    assert goes_with(pairs, labels, ["x", "a"]) == {"x": None, "a": labels[0]}


@pytest.mark.parametrize("seed", range(5))
def test_marks_elsewhere_are_as_many_and_of_the_rationale_only_what_is_wanting(seed: int) -> None:
    marks = np.array([0, 1, NAN, 1, 0, 0])
    found = elsewhere(marks, np.random.default_rng(seed))
    assert np.isnan(found[2]) and np.nansum(found) == 2 and not (found[marks == 1] == 1).any()
    long = np.array([1, 1, NAN, 1, 0])
    np.testing.assert_array_equal(np.sort(elsewhere(long, np.random.default_rng(seed))), [0, 1, 1, 1, NAN])
    assert elsewhere(long, np.random.default_rng(seed))[4] == 1
    assert np.isnan(elsewhere(np.full(3, NAN), np.random.default_rng(seed))).all()
