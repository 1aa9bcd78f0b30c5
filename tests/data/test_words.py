"""The words of a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend.data.words import cut_at_words, texts_holding, words_of


def strings(text: str) -> list[str]:
    return [text[start:end] for start, end in words_of(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't pay 3.50, ok?!", ["Don't", "pay", "3.50", ",", "ok", "?!"]),
        ("e-mail me - at once.", ["e-mail", "me", "-", "at", "once", "."]),
        ("snake_case `code`", ["snake_case", "`", "code", "`"]),
        ("so 👍🏽 👩‍👩‍👧!", ["so", "👍🏽", "👩‍👩‍👧", "!"]),
        ("你好吗 ok", ["你", "好", "吗", "ok"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("cafe\u0301 noir", ["cafe\u0301", "noir"]),
        ("'quoted' it's", ["'", "quoted", "'", "it's"]),
        ("5. end", ["5", ".", "end"]),
        (" \n\t ", []),
        ("", []),
    ],
)
def test_words_of_a_text(text: str, words: list[str]) -> None:
    assert strings(text) == words


@given(st.text(max_size=60))
def test_words_are_in_order_and_hold_every_sign_that_is_no_space(text: str) -> None:
    spans = words_of(text)
    covered = [at for start, end in spans for at in range(start, end)]
    assert covered == sorted(set(covered))
    assert {at for at, sign in enumerate(text) if not sign.isspace()} <= set(covered)
    assert not any(sign.isspace() for start, end in spans for sign in text[start:end])


@given(st.text(max_size=60), st.integers(0, 20))
def test_pieces_are_the_text_with_a_word_at_every_second_place(text: str, most: int) -> None:
    pieces = cut_at_words(text, most)
    assert "".join(pieces) == text
    assert pieces[1::2] == strings(text)[:most]


def test_a_word_is_held_whatever_its_case_and_not_inside_another() -> None:
    assert texts_holding(["So bad.", "a BAD day", "badly", "not-bad"], "Bad") == 2
    assert texts_holding(["Straße"], "STRASSE") == 1
    assert texts_holding([], "bad") == 0
