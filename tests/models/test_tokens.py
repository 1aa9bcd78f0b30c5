"""Tokens behind others: as a text has them there, whatever a vocabulary puts before a text by itself."""

from __future__ import annotations

import pytest

from tests.models.marked import marked
from tracemend.errors import ModelError
from tracemend.models import LanguageModel, load, tiny
from tracemend.models.tokens import line_tokens, tokens_behind, word_tokens

_ODD = ("good", "don't", "'s", "$5", "1984", "New York", "naïve", "東京", "e-mail", "...", "🙂", " two", "C++", "the")


def names(model: LanguageModel, ids: list[int]) -> list[str]:
    return model.tokenizer.convert_ids_to_tokens(ids)


def test_a_vocabulary_that_marks_every_text_marks_no_word_twice():
    model = marked()
    assert names(model, model.tokenizer(" good", add_special_tokens=False).input_ids) == ["▁", "▁good"]
    assert names(model, word_tokens(model, "good")) == ["▁good"]
    assert names(model, word_tokens(model, "very bad")) == ["▁very", "▁bad"]
    assert names(model, tokens_behind(model, "my film", " is good")) == ["▁is", "▁good"]


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "t5"])
def test_other_vocabularies_make_the_same_of_a_word_by_itself(architecture):
    model = tiny(architecture)
    for word in _ODD:
        assert word_tokens(model, word) == model.tokenizer(f" {word}", add_special_tokens=False).input_ids


@pytest.mark.slow
@pytest.mark.parametrize("name", ["minilm", "smollm2"])
def test_the_embedded_models_make_the_same_of_a_word_by_itself(name):
    model = load(name)
    for word in _ODD:
        assert word_tokens(model, word) == model.tokenizer(f" {word}", add_special_tokens=False).input_ids


def test_a_line_behind_another_has_no_mark():
    model = marked()
    whole = model.tokenizer("good film\n\nmy film", add_special_tokens=False).input_ids
    before = model.tokenizer("good film\n\n", add_special_tokens=False).input_ids
    assert [*before, *line_tokens(model, "my film")] == whole


_LINES = ("Text: it was good", " so", "\n\nit", "\n", "  two", "東京 is", "'s", "...", "Is it\n\n so?\n", "", "\t1984")


def same_of_a_line_by_itself(model: LanguageModel) -> bool:
    return all(line_tokens(model, t) == model.tokenizer(t, add_special_tokens=False).input_ids for t in _LINES)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_other_vocabularies_make_the_same_of_a_line_by_itself(architecture):
    assert same_of_a_line_by_itself(tiny(architecture))


@pytest.mark.slow
def test_the_embedded_decoder_makes_the_same_of_a_line_by_itself():
    assert same_of_a_line_by_itself(load("smollm2"))


def test_what_changes_the_prompt_or_is_nothing_is_refused():
    model = tiny("gpt2")
    with pytest.raises(ModelError, match="changes how the end"):
        tokens_behind(model, "the go", "od")
    with pytest.raises(ModelError, match="makes no token"):
        tokens_behind(model, "the", "")
