from __future__ import annotations

import contextlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend.errors import DataError
from tracemend.studio.query import Term, matches, parse

TABLE = pd.DataFrame(
    {
        "label": ["safe", "unsafe", None, "very safe"],
        "confidence": [0.5, 0.95, np.nan, 0.9],
        "wrong": [True, False, True, False],
    }
)
TEXT = pd.Series(["go home", "thanks, go", "(a+b)*", "go\nhome now"])


def found(query: str) -> list[int]:
    return np.flatnonzero(matches(TABLE, query, text=TEXT)).tolist()


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("", [0, 1, 2, 3]),
        ("label:safe", [0]),
        ("LABEL:SAFE", [0]),
        ('label:"very safe"', [3]),
        ("confidence>0.9", [1]),
        ("confidence>=0.9", [1, 3]),
        ("-confidence>=0.9", [0, 2]),
        ("wrong:yes", [0, 2]),
        ("wrong:no go", [1, 3]),
        ('"go home"', [0]),
        ("-home", [1, 2]),
        ("(a+b)*", [2]),
        ("go label:unsafe", [1]),
    ],
)
def test_what_a_query_means(query: str, rows: list[int]) -> None:
    assert found(query) == rows


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("lable:safe", r"not one of: label, confidence.*did you mean 'label'\?.*quotes"),
        ("confidence>high", "is a number"),
        ("label>safe", "have no order"),
        ('"open', "never closed"),
        ("x" * 501, "at most 500"),
    ],
)
def test_what_is_no_query_is_said(query: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        found(query)


@pytest.mark.parametrize("words", ["https://x.org", "12:30", "12:3", "a>b", "HTTPS://X.org/?q=1", '"label:safe"'])
def test_what_only_looks_like_a_field_is_words(words: str) -> None:
    text = pd.Series(["see https://x.org/?q=1", "at 12:30", "a>b", "no label:safe here"])
    expected = text.str.contains(words.strip('"'), case=False, regex=False)
    assert expected.any() and matches(TABLE, words, text=text).tolist() == expected.tolist()
    assert matches(TABLE, f"-{words}", text=text).tolist() == (~expected).tolist()


def test_terms() -> None:
    assert parse("a>=1 -b") == [Term("a", ">=", "1"), Term("", "", "b", negated=True)]


@given(st.text(max_size=80))
def test_any_text_is_a_query_or_an_error_with_a_remedy(query: str) -> None:
    with contextlib.suppress(DataError):  # with a remedy; any other error fails the test
        assert matches(TABLE, query, text=TEXT).shape == (len(TABLE),)


@given(st.lists(st.sampled_from(["go", "home", "label:safe", "-thanks", "confidence>0.6"]), max_size=4))
def test_conditions_all_hold_in_any_order(terms: list[str]) -> None:
    each = [set(found(term)) for term in terms]
    assert set(found(" ".join(terms))) == set(range(len(TABLE))).intersection(*each)
    assert found(" ".join(terms)) == found(" ".join(reversed(terms)))
