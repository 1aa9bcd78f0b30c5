from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tracemend.circuits import Families
from tracemend.circuits.families import other_case, other_gender, paired
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError, ModelError
from tracemend.models import LanguageModel, tiny

SMALL, MODEL, DATA = Families.tiny()


WORDS = ("he", "she", "his", "her", "king", "queen", "Mr", "Mrs", "man", "of", "the", "film")


@given(st.lists(st.sampled_from(WORDS), min_size=1))
@settings(max_examples=30, deadline=None)
def test_a_change_undoes_itself(words: list[str]) -> None:
    text = " ".join(words)
    assert other_gender(other_gender(text)) == text
    assert other_case(other_case(text)) == text


def test_words_keep_their_first_letter() -> None:
    assert other_gender("He told his aunt, the Queen.") == "She told her uncle, the King."
    assert other_gender("The theatre heals.") == "The theatre heals."


def test_units_that_change_places_are_found() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(200, 6))
    # 0 and 1 change places, 2 stays (its sign does not matter), 3 is not there any more.
    second = np.column_stack([first[:, 1], first[:, 0], -first[:, 2], rng.normal(size=(200, 3))])
    found = paired(first, second + 0.1 * rng.normal(size=second.shape))
    assert found.partner[:3].tolist() == [1, 0, 2] and found.back[:3].all()
    assert found.correlation[:3].min() > 0.95 and found.correlation[3:].max() < 0.5
    shuffled = paired(first, np.roll(second, 1, axis=0))
    assert shuffled.correlation.max() < 0.5
    assert found.figures["fixed"] <= found.figures["involution"]


def test_a_unit_that_never_changes_has_no_correlation() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(size=(60, 3))
    first[:, 1] = 2
    found = paired(first, first)
    assert found.partner[[0, 2]].tolist() == [0, 2] and found.correlation[1] == 0
    with pytest.raises(CircuitError, match="no unit of the site changes"):
        paired(np.ones((60, 3)), first)


def mirrored() -> LanguageModel:
    """A GPT-2 to which "she" is "he" with both halves of the stream exchanged, and every other word the same both ways.

    Neurons i and 32 + i read mirror images.
    """
    model = tiny("gpt2")
    body: Any = model.network.transformer
    he, she = (model.tokenizer(f" {word}").input_ids[-1] for word in ("he", "she"))

    def turned(rows: Tensor) -> Tensor:
        return rows.roll(16, dims=-1)

    with torch.no_grad():
        table, mlp = body.wte.weight, body.h[0].mlp
        table.copy_((table + turned(table)) / 2)
        table[he] = torch.randn(32, generator=torch.Generator().manual_seed(0))
        table[she] = turned(table[he])
        body.wpe.weight.zero_()
        body.h[0].attn.c_proj.weight.zero_()
        mlp.c_fc.weight[:, 32:] = turned(mlp.c_fc.weight[:, :32].T).T
        mlp.c_fc.bias.zero_()
    return model


@pytest.mark.slow
def test_neurons_that_exchange_places_are_found_in_a_model() -> None:
    rng = np.random.default_rng(0)
    rows = [["he" if rng.random() < 0.5 else "she", *rng.choice(["is", "was", "the", "very", "film"], 5)]
            for _ in range(120)]  # fmt: skip
    # Behind the first token, which is not looked at.
    texts = Texts.make([{"text": " ".join(["the", *rng.permutation(row)])} for row in rows])
    found = replace(SMALL, transform="gender").run(mirrored(), texts)
    partner = found.table().set_index("unit")["partner"].sort_index().to_numpy()
    assert partner.tolist() == [*range(32, 64), *range(32)]
    m, shuffled = found.metrics, found.controls["shuffled pairs"]
    assert m["exchanged"] == m["involution"] == 1 and m["fixed"] == 0 and m["correlation"] > 0.999
    assert shuffled["correlation"] < 0.5 and shuffled["involution"] < 0.2


def test_bad_input_is_refused() -> None:
    for changed, words in (
        ({"transform": "plural"}, "not one of: case, gender"),
        ({"transform": "gender"}, "changes 0 of 30 texts"),
        ({"pairs": 0}, "pairs is 0"),
        ({"tokens": 1}, "tokens is 1"),
        ({"site": "blocks.0.attn.hook_pattern"}, "can only be read"),
        ({"max_memory": 1e-7}, "another site or fewer pairs"),
    ):
        with pytest.raises(CircuitError, match=words):
            replace(SMALL, **changed).run(MODEL, DATA)
    with pytest.raises(ModelError, match="blocks 0 to 1"):
        replace(SMALL, site="blocks.2.mlp.hook_post").run(MODEL, DATA)
    with pytest.raises(CircuitError, match="is not defined for"):
        SMALL.run(tiny("bert"), DATA)
    with pytest.raises(CircuitError, match="19 of 19"):
        SMALL.run(MODEL, Texts.make(DATA.frame.head(19)))
