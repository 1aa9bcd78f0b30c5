"""The similarity probe: its rules by hand, what it learns where there is something, and what it leaves out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tracemend.data import Pronoun, Pronouns, available, read_gap
from tracemend.data.reference import reference_folder
from tracemend.errors import ProbeError
from tracemend.models import load, tiny
from tracemend.probing import CoreferenceProbe
from tracemend.probing.coreference import _distance, _picked, _place

WORDS = tuple("abcdefghij")


def pronoun(*candidates, at=8, right=(0,), part="test"):
    return Pronoun(words=WORDS, pronoun=(at, at + 1), candidates=candidates, right=right, part=part)


def test_rules():
    one = pronoun((0, 2), (5, 6), right=(1,))
    assert [_distance(one, c) for c in one.candidates] == [6, 2]
    assert _distance(pronoun((0, 1), (6, 7), at=3), (6, 7)) == 2
    assert _picked([one], _distance).tolist() == [1.0]
    assert _picked([one], _place).tolist() == [0.0]


@pytest.fixture(scope="module")
def found():
    method, model, data = CoreferenceProbe.tiny()
    return method.run(model, data)


def test_every_control_is_there_and_the_rules_do_not_know(found):
    assert set(found.controls) == {
        "random_weights", "zero_shot", "recency", "first_mention", "places", "layer_0",
    }  # fmt: skip
    assert found.controls["recency"]["accuracy"] == found.controls["first_mention"]["accuracy"] == 0.5
    assert list(found.table()["layer"]) == [0, 1, 2]


def test_it_learns_what_the_pronouns_vector_holds():
    # The decoder's vector of "it" holds the verb before it, which says whose it is; its embedding does not.
    _, _, data = CoreferenceProbe.tiny()
    found = CoreferenceProbe(rank=16, steps=300, lr=1e-2).run(tiny("gpt2"), data)
    table = found.table().set_index("layer")
    assert table["accuracy"][2] > 0.8 > table["accuracy"][0] + 0.1


def test_examples_without_one_right_name_or_with_names_behind_are_left_out():
    _, model, data = CoreferenceProbe.tiny()
    odd = (pronoun((0, 1), (2, 3), right=()), pronoun((0, 1), (2, 3), right=(0, 1)), pronoun((3, 4), (5, 6), at=1))
    found = CoreferenceProbe(rank=4, steps=5).run(model, replace(data, examples=(*data.examples, *odd)))
    assert found.facts["left_out"] == 3 and "left out" in found.findings[-1]
    with pytest.raises(ProbeError, match="no usable example in test"):
        CoreferenceProbe().run(model, Pronouns(examples=(*data.of("train"), odd[0])))


def test_more_candidates_than_two_and_no_dev_part():
    _, model, data = CoreferenceProbe.tiny()
    third = [replace(e, candidates=(*e.candidates, (7, 9)), part="train" if e.part == "dev" else e.part)
             if i % 2 else replace(e, part="train" if e.part == "dev" else e.part)
             for i, e in enumerate(data.examples)]  # fmt: skip
    found = CoreferenceProbe(rank=4, steps=5).run(model, replace(data, examples=tuple(third)))
    assert np.isfinite(found.metrics["accuracy"])


@pytest.mark.slow
@pytest.mark.skipif(not available("gap"), reason="TRACEMEND_DATA names no folder with gap")
def test_pronouns_in_minilm():
    pronouns = read_gap(reference_folder("gap"))
    found = CoreferenceProbe(layers=(3,), train_examples=120, test_examples=100).run(load("minilm"), pronouns)
    assert found.metrics["accuracy"] > 0.55
