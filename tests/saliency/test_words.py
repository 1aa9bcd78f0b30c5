"""Words of the user's text, and which tokens are whose."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.saliency.conftest import ARCHITECTURES, PAIRS
from tracemend.data import words_of
from tracemend.errors import DataError
from tracemend.saliency import encoded


def strings(text: str) -> list[str]:
    return [text[start:end] for start, end in words_of(text)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", ["prompt", "lora"])
def test_every_word_has_its_tokens_and_none_is_virtual(make, architecture: str, kind: str) -> None:
    classifier = make(architecture, kind)
    for example in encoded(classifier, PAIRS):
        text, reply = example.pair
        assert [example.text_of(word) for word in example.words] == [*strings(text), *strings(reply or "")]
        assert len(example.owner) == len(example.ids)
        assert example.read.all() and not example.cut
        # "terrible" has a token of its own, "thanks," falls apart; a template and special tokens are of no word.
        assert set(example.owner[example.owner >= 0]) == set(range(len(example.words)))
        assert (example.owner[~example.of_text] == -1).all()


def test_a_word_in_pieces_sums_them(make) -> None:
    (example,) = encoded(make("bert"), [("good unknownword", None)])
    pieces = np.flatnonzero(example.owner == 1)
    assert len(pieces) > 3
    assert example.of_words(np.arange(len(example.ids), dtype=float))[1] == pieces.sum()


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "t5"])
def test_the_space_that_begins_a_word_is_of_that_word(make, architecture: str) -> None:
    """Where the first letters are no token together with their space, the space has a token of its own."""
    (example,) = encoded(make(architecture), [("so Zz  Zz", None)])
    assert [example.text_of(word) for word in example.words] == ["so", "Zz", "Zz"]
    assert (example.owner[example.of_text] == -1).sum() <= 1  # of two spaces the first begins nothing


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_bytes_of_one_sign_are_of_one_word(make, architecture: str) -> None:
    (example,) = encoded(make(architecture), [("ok 👍 café", None)])
    assert [example.text_of(word) for word in example.words] == ["ok", "👍", "café"]
    assert (np.bincount(example.owner[example.owner >= 0]) >= [1, 4, 4]).all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(max_examples=10, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_any_text_has_a_word_for_each_token_or_is_refused(make, architecture: str, text: str) -> None:
    try:
        (example,) = encoded(make(architecture), [(text, None)])
    except DataError:
        return
    spans = [(word.start, word.end) for word in example.words]
    assert spans == sorted(spans) and all(a[1] <= b[0] for a, b in pairwise(spans))
    assert example.read.any()


def test_what_is_cut_is_not_read(make) -> None:
    (example,) = encoded(make("bert", max_length=8), [("good movie " * 10, None)])
    assert example.cut and example.read.tolist() == [True] * 6 + [False] * 14
    assert np.isnan(example.of_words(np.ones(len(example.ids)))[6:]).all()


def test_words_that_share_a_token_are_one(make) -> None:
    classifier = make("llama")
    tokenizer = classifier.language_model.tokenizer
    tokenizer.add_tokens(["good movie"])
    (example,) = encoded(classifier, [("a good movie is good", None)])
    assert [example.text_of(word) for word in example.words] == ["a", "good movie", "is", "good"]


@pytest.mark.parametrize("pair", [("", None), ("  \n", None), ("good", " "), ("\u200b", None)])
def test_a_text_without_words_is_refused(make, pair: tuple[str, str | None]) -> None:
    with pytest.raises(DataError, match="text 1"):
        encoded(make("bert"), [("good", None), pair])
