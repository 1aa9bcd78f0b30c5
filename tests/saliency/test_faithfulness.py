"""Faithfulness is what the papers say, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.saliency.conftest import PAIRS
from tracemend.saliency import encoded, faithfulness
from tracemend.saliency.faithfulness import Deleter, random_orders


def probability(classifier, ids: list[int], target: int) -> float:
    with torch.inference_mode():
        return float(classifier.logits(classifier.batch([ids])).double().softmax(1)[0, target])


@pytest.mark.parametrize(("architecture", "deletion"), [("bert", "mask"), ("bert", "remove"), ("gpt2", "pad")])
def test_figures_are_those_of_the_papers(make, architecture: str, deletion: str) -> None:
    classifier = make(architecture)
    (example,) = encoded(classifier, PAIRS[:1])
    n = len(example.words)
    assert n == 11
    deleter = Deleter.of(classifier.language_model, deletion)
    order = np.random.default_rng(0).permutation(n).tolist()

    def without(words: list[int]) -> float:
        ids = []
        for token, owner in zip(example.ids, example.owner, strict=True):
            if owner not in words:
                ids.append(token)
            elif deletion != "remove":
                tokenizer = classifier.language_model.tokenizer
                ids.append(tokenizer.mask_token_id if deletion == "mask" else tokenizer.pad_token_id)
        return probability(classifier, ids, 1)

    full = probability(classifier, example.ids, 1)
    taken = [1, 1, 2, 3, 6]  # 1, 5, 10, 20 and 50 % of 11 words, rounded up
    comprehensiveness = np.mean([full - without(order[:k]) for k in taken])
    sufficiency = np.mean([full - without(order[k:]) for k in taken])
    aopc = sum(full - without(order[:k]) for k in range(11)) / 11
    found = faithfulness(classifier, [example], [1], [[order]], deleter)
    assert found.shape == (1, 1, 3)
    np.testing.assert_allclose(found[0, 0], [comprehensiveness, sufficiency, aopc], atol=1e-6)


def test_orders_and_texts_stand_where_they_should(make) -> None:
    classifier = make("bert")
    examples = encoded(classifier, PAIRS)
    deleter = Deleter.of(classifier.language_model, "auto")
    orders = [random_orders(example, 3, (0, i)) for i, example in enumerate(examples)]
    together = faithfulness(classifier, examples, [0, 1, 0, 1, 0], orders, deleter)
    for i, example in enumerate(examples):
        for k in range(3):
            alone = faithfulness(classifier, [example], [i % 2], [[orders[i][k]]], deleter)
            np.testing.assert_allclose(together[i, k], alone[0, 0], atol=1e-6)


def test_a_text_of_one_word_can_lose_it(make) -> None:
    for architecture, deletion in (("bert", "remove"), ("gpt2", "remove"), ("t5", "pad")):
        classifier = make(architecture)
        (example,) = encoded(classifier, [("nice", None)])
        deleter = Deleter.of(classifier.language_model, deletion)
        found = faithfulness(classifier, [example], [0], [[[0]]], deleter)
        assert np.isfinite(found).all() and found[0, 0, 1] == pytest.approx(0.0, abs=1e-7)


def test_nothing_left_is_one_pad_token() -> None:
    from tracemend.saliency.words import Example, Word

    example = Example(("a", None), [5], (Word(0, 0, 1),), np.array([0]), np.array([True]), False)
    assert Deleter("remove", None, pad=9).without(example, [0]) == [9]


def test_random_orders_are_of_the_read_words_and_of_their_seed(make) -> None:
    (example,) = encoded(make("bert", max_length=8), [("good movie " * 10, None)])
    first = random_orders(example, 4, (0, 1))
    assert all(sorted(order) == list(range(6)) for order in first)
    assert first == random_orders(example, 4, (0, 1)) != random_orders(example, 4, (1, 1))
