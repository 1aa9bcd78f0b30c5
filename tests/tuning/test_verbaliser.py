"""Words for labels, and a prompt that always fits its room."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.errors import TuningError
from tracemend.models import tiny
from tracemend.tuning import TextClassifier
from tracemend.tuning.verbaliser import Verbaliser

TOKENIZERS = {name: tiny(name).tokenizer for name in ("gpt2", "llama", "t5")}
every = pytest.mark.parametrize("name", TOKENIZERS)
texts = st.text(max_size=60) | st.lists(st.sampled_from(["love", "hate", "film", "a"]), max_size=40).map(" ".join)


def ids(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return found


@every
def test_labels_are_their_own_words(name: str) -> None:
    tokenizer = TOKENIZERS[name]
    made = Verbaliser.make(tokenizer, ("safe", "unsafe"))
    assert made.tokens == (ids(tokenizer, " safe")[0], ids(tokenizer, " unsafe")[0])
    assert "safe, unsafe" in tokenizer.decode(made.after)


def test_labels_that_begin_alike_become_letters() -> None:
    tokenizer = tiny("gpt2").tokenizer
    labels = ("toxic film", "toxic movie", "clean")
    with pytest.raises(TuningError, match="begin with the same token"):  # this tokenizer lacks the letters as well
        Verbaliser.make(tokenizer, labels)
    tokenizer.add_tokens([" A", " B", " C"])
    made = Verbaliser.make(tokenizer, labels)
    assert made.tokens == tuple(tokenizer.convert_tokens_to_ids([" A", " B", " C"]))
    assert "A = toxic film" in tokenizer.decode(made.after)


def test_named_words_are_taken_and_must_differ() -> None:
    tokenizer = TOKENIZERS["gpt2"]
    made = Verbaliser.make(tokenizer, ("0", "1"), words={"0": "good", "1": "bad"})
    assert made.tokens == (ids(tokenizer, " good")[0], ids(tokenizer, " bad")[0])
    assert "good = 0, bad = 1" in tokenizer.decode(made.after)
    with pytest.raises(TuningError, match=r"begin with the same token.*name words that differ"):
        Verbaliser.make(tokenizer, ("0", "1"), words={"0": "good", "1": "good film"})


def test_only_an_encoder_decoder_is_closed() -> None:
    tokenizer = TOKENIZERS["t5"]
    closed, open_ = (Verbaliser.make(tokenizer, ("safe", "unsafe"), closing=c) for c in (True, False))
    assert closed.after == (*open_.after, tokenizer.eos_token_id)
    assert tokenizer.eos_token_id not in closed.before


@settings(max_examples=60, deadline=None)
@given(text=texts, reply=st.none() | texts, spare=st.integers(2, 30), name=st.sampled_from(sorted(TOKENIZERS)))
def test_a_prompt_fits_its_room_and_keeps_some_of_both_parts(
    text: str, reply: str | None, spare: int, name: str
) -> None:
    tokenizer = TOKENIZERS[name]
    made = Verbaliser.make(tokenizer, ("safe", "unsafe"), closing=name == "t5")
    room = made.length + spare
    found, cut = made.encode(tokenizer, text, reply, room)
    assert len(found) <= room
    body, answer = ids(tokenizer, " " + text), [] if reply is None else ids(tokenizer, " " + reply)
    between = [] if reply is None else list(made.between)
    whole = [*made.before, *body, *between, *answer, *made.after]
    assert cut == (len(whole) > room)
    assert (found == whole) == (not cut)
    # What is cut is cut at the ends of the parts, and neither vanishes.
    assert tuple(found[: len(made.before)]) == made.before and tuple(found[-len(made.after) :]) == made.after
    inner = found[len(made.before) : len(found) - len(made.after)]
    kept = next(
        k for k in range(len(body) + 1) if inner == [*body[:k], *between, *answer[: len(inner) - len(between) - k]]
    )
    assert (kept > 0) == (len(body) > 0)
    assert (len(inner) - len(between) - kept > 0) == (len(answer) > 0)
    if cut:
        assert len(found) == room


def test_label_names_too_long_for_the_window_are_an_error() -> None:
    with pytest.raises(TuningError, match=r"the prompt around a text takes \d+ tokens.*shorter label names"):
        TextClassifier(tiny("gpt2"), ("q" * 30, "z" * 30), kind="lora")


def test_a_short_max_length_makes_room_for_the_template() -> None:
    classifier = TextClassifier(tiny("gpt2"), ("safe", "unsafe"), kind="lora", max_length=4)
    assert classifier.verbaliser is not None
    assert classifier.max_length == classifier.verbaliser.length + 8
