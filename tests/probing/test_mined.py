"""Mined patterns: the words between a subject and its object, those first that several facts give."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tracemend.data import Fact
from tracemend.probing.mined import mined_patterns

CAPITALS = [Fact("capital", "Bern", "Switzerland"), Fact("capital", "Rome", "Italy"), Fact("capital", "Oslo", "Norway")]


def test_patterns_that_several_facts_give_come_first():
    texts = [
        "Bern, the capital of Switzerland. Bern, the capital of Switzerland.",
        "In Rome, Italy, and in Oslo,\nNorway.",
        "Oslo is what Norway built",
    ]
    found = mined_patterns(CAPITALS, texts)
    assert found == ["[X], [Y]", "[X], the capital of [Y]", "[X] is what [Y]"]
    assert mined_patterns(CAPITALS, texts, most=1) == ["[X], [Y]"]
    assert "[X], the capital of [Y]" not in mined_patterns(CAPITALS, texts, longest=2)


def test_parts_of_words_glued_names_and_names_between_make_no_pattern():
    texts = [
        "Berna of Switzerland",
        "Bern of Switzerlander",
        "Bern-Switzerland",
        "Rome and Rome of Italy",
        "Oslo [X] Norway",
    ]
    assert mined_patterns(CAPITALS, texts) == ["[X] of [Y]"]
    assert mined_patterns([Fact("r", "a", "a")], ["a of a"]) == []
    assert mined_patterns(CAPITALS, ["Paris of France"]) == []


def test_objects_in_front_count_where_the_model_can_use_them():
    texts = ["Italy and its Rome"]
    assert mined_patterns(CAPITALS, texts) == []
    assert mined_patterns(CAPITALS, texts, both_ways=True) == ["[Y] and its [X]"]


@given(st.lists(st.sampled_from(["Bern", "Switzerland", "the", "of", ",", "(a)", "."]), max_size=14))
def test_a_mined_pattern_filled_in_stands_in_the_text(words):
    text = " ".join(words)
    for pattern in mined_patterns(CAPITALS, [text], both_ways=True):
        assert pattern.count("[X]") == pattern.count("[Y]") == 1
        assert pattern.replace("[X]", "Bern").replace("[Y]", "Switzerland") in text
