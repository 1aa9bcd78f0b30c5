"""Heads that look from a pronoun to a name: guesses by hand, and a head that is made to know."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tracemend.data import Pronoun, Pronouns, available, read_gap
from tracemend.data.reference import reference_folder
from tracemend.errors import ProbeError
from tracemend.models import load, tiny
from tracemend.probing import HeadCoreference
from tracemend.probing import head_coreference as room
from tracemend.probing.head_coreference import guessed

WORDS = tuple("abcdef")


def pronoun(right: int, part: str = "test", words: tuple[str, ...] = WORDS) -> Pronoun:
    return Pronoun(words=words, pronoun=(5, 6), candidates=((0, 2), (3, 4)), right=(right,), part=part)


def test_a_guess_is_the_candidate_with_the_most_attention_a_word():
    maps = torch.zeros(3, 6, 6)
    maps[0, 5, 0], maps[0, 5, 1], maps[0, 5, 3] = 0.3, 0.0, 0.2  # .15 a word against .2
    maps[1, 5, 1] = 0.9
    maps[1, 3, 5] = 0.4  # the name looks back
    assert guessed(maps, pronoun(1)).tolist() == [True, False, False, False, True, False]
    assert guessed(maps, pronoun(0)).tolist() == [False, True, False, False, False, False]


def test_a_head_that_knows_is_found_and_judged_on_other_pronouns(monkeypatch):
    """Head 5 of 8 looks at the right name in its sentences, all others anywhere."""
    rng = np.random.default_rng(0)
    examples = [pronoun(int(rng.integers(2)), part, (*WORDS[:-1], f"w{i}")) for i in range(90)
                for part in [("train", "test", "dev")[i % 3]]]  # fmt: skip

    def attention(model, sentences, **_):
        right = {e.words: e.candidates[e.right[0]][0] for e in examples}
        found = []
        for words in sentences:
            maps = torch.from_numpy(rng.random((8, 6, 6))).float()
            if "random" not in model.name:
                maps[5, 5] = 0
                maps[5, 5, right[tuple(words)]] = 1
            found.append(maps)
        return found

    monkeypatch.setattr(room, "word_attention", attention)
    found = HeadCoreference().run(tiny("bert"), Pronouns(examples=tuple(examples)))
    assert found.metrics["best_head"] == 1.0 and 0.3 < found.metrics["median_head"] < 0.7
    assert found.table().iloc[0]["head"] == "1-1" and found.table().iloc[0]["way"] == "pronoun to name"
    assert found.controls["random_weights"]["best_head"] < 0.8
    rules = [found.controls[rule]["best_head"] for rule in ("recency", "first_mention")]
    assert sum(rules) == pytest.approx(1)
    assert any("beats recency" in s for s in found.findings)


@pytest.mark.parametrize("architecture", ["gpt2", "t5"])
def test_other_families(architecture):
    method, _, data = HeadCoreference.tiny()
    found = method.run(tiny(architecture), data)
    assert found.facts["heads"] == 8 and len(found.table()) == 16


def test_what_cannot_be_asked_is_refused():
    method, model, data = HeadCoreference.tiny()
    with pytest.raises(ProbeError, match="no usable example in test"):
        method.run(model, Pronouns(examples=tuple(data.of("train"))))
    long = Pronoun(words=("a",) * 200, pronoun=(5, 6), candidates=((0, 1), (2, 3)), right=(0,), part="test")
    with pytest.raises(ProbeError, match="no text of up to 120 words"):
        method.run(model, Pronouns(examples=(long,)))
    with pytest.raises(ProbeError, match="must be at least 1"):
        HeadCoreference(test_examples=0).run(model, data)


@pytest.mark.slow
@pytest.mark.skipif(not available("gap"), reason="TRACEMEND_DATA names no folder with gap")
def test_minilm_on_gap():
    pronouns = read_gap(reference_folder("gap"))
    found = HeadCoreference(choosing_examples=50, test_examples=40).run(load("minilm"), pronouns)
    assert 0.4 <= found.metrics["median_head"] <= 0.6 and found.metrics["best_head"] >= 0.4
