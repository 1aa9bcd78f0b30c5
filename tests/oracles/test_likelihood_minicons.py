"""Log-probabilities of texts under decoders are those of minicons with a bos token.

Its scorer of masked models calls batch_encode_plus, which transformers 5 no longer has; those are tested by hand in
tests/models/test_likelihood.py.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tracemend.models import LanguageModel, load, tiny
from tracemend.models.likelihood import likelihoods

scorer = pytest.importorskip("minicons.scorer", reason="minicons is the oracle here")

TEXTS = [
    "The cats that the dog likes are asleep.",
    "The cats that the dog likes is asleep.",
    "Who should Derek hug after shocking Richard?",
    "you love xyz",
]


def theirs(kind: str, model: LanguageModel, **more: Any) -> list[float]:
    # A copy, since a scorer may change its tokenizer.
    made = getattr(scorer, kind)(model.network, "cpu", tokenizer=copy.deepcopy(model.tokenizer))
    found: list[float] = made.sequence_score(TEXTS, reduction=lambda x: x.sum(0).item(), **more)
    return found


def assert_equal(found: list[float], expected: list[float]) -> None:
    assert found == pytest.approx(expected, abs=1e-3)
    assert len(set(expected)) == len(expected)


def test_a_decoder() -> None:
    model = tiny("gpt2")
    assert_equal([one.total for one in likelihoods(model, TEXTS)], theirs("IncrementalLMScorer", model, bos_token=True))


@pytest.mark.slow
def test_smollm2() -> None:
    model = load("smollm2")
    assert_equal([one.total for one in likelihoods(model, TEXTS)], theirs("IncrementalLMScorer", model, bos_token=True))
