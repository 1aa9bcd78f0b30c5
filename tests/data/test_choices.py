from __future__ import annotations

import re

import pytest

from tracemend.data.choices import letter_choices
from tracemend.errors import DataError
from tracemend.models import tiny


def test_the_right_city_changes_places() -> None:
    pairs = letter_choices(40).frame
    assert pairs["clean"].is_unique
    assert set(pairs["answer"]) == set("ABCD") and (pairs["answer"] != pairs["foil"]).all()
    for row in pairs.to_dict("records"):
        clean, corrupted = (dict(re.findall(r"\((\w)\) (\w+)", row[side])) for side in ("clean", "corrupted"))
        assert clean[row["answer"]] == corrupted[row["foil"]] and clean[row["foil"]] == corrupted[row["answer"]]
        assert sum(clean[letter] == corrupted[letter] for letter in "ABCD") == 2
        if "France?" in row["clean"]:
            assert clean[row["answer"]] == "Paris"


def test_both_prompts_have_the_same_tokens() -> None:
    tokenizer = tiny("llama").tokenizer
    for row in letter_choices(5).frame.to_dict("records"):
        clean, corrupted = (sorted(tokenizer(row[side]).input_ids) for side in ("clean", "corrupted"))
        assert clean == corrupted


def test_the_draw_is_the_seed_s() -> None:
    assert letter_choices(5).fingerprint == letter_choices(5).fingerprint != letter_choices(5, seed=1).fingerprint
    with pytest.raises(DataError, match="expected 1 to 1000"):
        letter_choices(0)
