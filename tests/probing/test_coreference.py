"""The similarity probe: its rules by hand, what it learns where there is something, and what it leaves out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from tracemend.data import Pronoun, Pronouns, available, read_gap
from tracemend.data.reference import reference_folder
from tracemend.errors import ProbeError
from tracemend.models import load, tiny
from tracemend.probing import CoreferenceProbe
from tracemend.probing.by_group import biases, by_group
from tracemend.probing.coreference import _distance, _picked, _place, usable
from tracemend.progress import Progress

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


def test_candidates_that_are_not_there_change_nothing(monkeypatch):
    probe, model, data = CoreferenceProbe.tiny()
    parts, _ = usable(data, train=60, test=60, seed=0)
    hits, zero = probe._read(model, parts, None, Progress())
    vectors = CoreferenceProbe._vectors

    def padded(*given):
        pronouns, names = vectors(*given)
        return pronouns, torch.nn.functional.pad(names, (0, 0, 0, 6))

    monkeypatch.setattr(CoreferenceProbe, "_vectors", padded)
    beside, of_beside = probe._read(model, parts, None, Progress())
    assert (zero == of_beside).all() and all((hits[part] == beside[part]).all() for part in ("dev", "test"))


def test_a_dev_part_that_is_made_shares_no_document_with_train():
    _, _, data = CoreferenceProbe.tiny()
    known = [replace(e, part="train", document=f"d{i // 4}") for i, e in enumerate(data.examples)]
    made = Pronouns(examples=(*known, *(replace(e, part="test", document="t") for e in data.examples[:4])))
    parts, _ = usable(made, train=50, test=10, seed=0)
    train, dev = ({e.document for e in parts[part]} for part in ("train", "dev"))
    assert train and dev and not train & dev
    assert len(parts["train"]) + len(parts["dev"]) == 48 and 10 <= len(parts["dev"]) < 14
    alone = Pronouns(examples=tuple(replace(e, document="x") if e.part == "train" else e for e in made.examples))
    assert len(usable(alone, train=50, test=10, seed=0)[0]["dev"]) == 10


def test_whole_documents_are_drawn_so_that_twins_stay_together():
    _, _, data = CoreferenceProbe.tiny()
    twins = Pronouns(examples=tuple(replace(e, document=f"{e.part}{i // 2}") for i, e in enumerate(data.examples)))
    parts, _ = usable(twins, train=11, test=7, seed=0)
    assert [len(parts[part]) for part in ("train", "dev", "test")] == [10, 6, 6]
    for of in parts.values():
        assert set(Counter(e.document for e in of).values()) == {2}


def test_figures_of_groups_and_the_bias_between_them():
    _, model, data = CoreferenceProbe.tiny()
    grouped = [
        replace(e, groups=("pro" if e.right == (0,) else "anti", "x"), document=e.id[:-1]) for e in data.examples
    ]
    found = CoreferenceProbe(rank=4, steps=5).run(model, Pronouns(examples=tuple(grouped)))
    of = found.metrics
    assert {"accuracy_pro", "accuracy_anti", "accuracy_x", "pro_minus_anti"} < set(of)
    assert of["accuracy_x"] == of["accuracy"] and "male_minus_female" not in of
    assert of["pro_minus_anti"] == pytest.approx(of["accuracy_pro"] - of["accuracy_anti"])
    # The nearest name is always the second one, which is the right one of the anti examples alone.
    assert found.controls["recency"] == {
        "accuracy": 0.5, "accuracy_pro": 0, "accuracy_anti": 1, "accuracy_x": 0.5, "pro_minus_anti": -1,
    }  # fmt: skip
    assert any("pro and" in said and "anti examples" in said for said in found.findings)


def test_the_bias_is_the_difference_of_means_with_twins_kept_together():
    test = [pronoun((0, 1), (2, 3)) for _ in range(6)]
    groups = [("pro",), ("anti",), ("pro",), ("anti",), ("pro",), ("neutral",)]
    test = [replace(e, groups=g, document=f"d{i // 2}") for i, (e, g) in enumerate(zip(test, groups, strict=True))]
    hits = np.array([1.0, 0, 1, 0, 0, 1])
    assert by_group(hits, test)["pro_minus_anti"] == pytest.approx(2 / 3)
    (said,) = biases("it", hits, test)
    assert said.startswith("it is right for 0.667 of 3 pro and 0.000 of 2 anti examples: +0.667")
    assert by_group(hits, [pronoun((0, 1), (2, 3))] * 6) == {} and biases("it", hits, [test[-1]] * 6) == []


def test_pronouns_without_parts_are_divided_and_without_train_refused():
    _, model, data = CoreferenceProbe.tiny()
    whole = Pronouns(examples=tuple(replace(e, part="", document=f"d{i // 4}") for i, e in enumerate(data.examples)))
    found = CoreferenceProbe(rank=4, steps=5).run(model, whole)
    assert found.facts["n_train"] > 30 and found.facts["n_test"] >= 8
    only = Pronouns(examples=tuple(data.of("test")))
    with pytest.raises(ProbeError, match=r"no training part.*--train"):
        CoreferenceProbe().run(model, only)
    assert CoreferenceProbe(rank=4, steps=5).run(model, data.tested_on(only)).facts["n_test"] == len(only)


@pytest.mark.slow
@pytest.mark.skipif(not available("gap"), reason="TRACEMEND_DATA names no folder with gap")
def test_pronouns_in_minilm():
    pronouns = read_gap(reference_folder("gap"))
    found = CoreferenceProbe(layers=(3,), train_examples=120, test_examples=100).run(load("minilm"), pronouns)
    assert found.metrics["accuracy"] > 0.55
