from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.errors import ModelError
from tracemend.models import capture, edit, tiny
from tracemend.models.edits import add, mean, replace, zero

Z = "blocks.0.attn.hook_z"


@given(
    positions=st.none() | st.lists(st.integers(-5, 4), max_size=3),
    heads=st.none() | st.lists(st.integers(-4, 3), max_size=3),
)
@settings(max_examples=40, deadline=None)
def test_an_edit_changes_the_chosen_places_alone(positions: list[int] | None, heads: list[int] | None) -> None:
    old = torch.arange(1.0, 2 * 5 * 4 * 3 + 1).reshape(2, 5, 4, 3)
    new = zero(positions=positions, heads=heads)(old.clone())
    chosen = torch.zeros(5, 4, dtype=torch.bool)
    where = torch.arange(5) if positions is None else torch.tensor([p % 5 for p in positions], dtype=torch.long)
    which = torch.arange(4) if heads is None else torch.tensor([h % 4 for h in heads], dtype=torch.long)
    chosen[where[:, None], which[None, :]] = True
    assert (new[:, chosen] == 0).all()
    assert torch.equal(new[:, ~chosen], old[:, ~chosen])


def test_each_edit_does_what_it_says() -> None:
    old = torch.arange(24.0).reshape(2, 3, 4)
    value = torch.full((1, 3, 4), 7.0)
    assert torch.equal(replace(value, positions=[-1])(old)[:, -1], torch.full((2, 4), 7.0))
    assert torch.equal(add(value, scale=2.0)(old), old + 14)
    assert torch.equal(mean(positions=[0])(old)[:, 0], old.mean(dim=(0, 1)).expand(2, 4))
    assert torch.equal(mean(positions=[0])(old)[:, 1:], old[:, 1:])


@torch.no_grad()
def test_a_whole_activation_put_back_gives_the_same_answer_elsewhere() -> None:
    """The stream of one input put into another gives the first one's answer: nothing passes by."""
    model = tiny("gpt2")
    one, other = (model.tokenizer(text, return_tensors="pt") for text in ("you are so nice", "you hate this film"))
    name = "blocks.1.hook_resid_post"
    with capture(model, [name]) as seen:
        expected = model.network(**one).logits
    with edit(model, {name: replace(seen[name])}):
        assert torch.equal(model.network(**other).logits, expected)
    assert not torch.equal(model.network(**other).logits, expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (zero(positions=[99]), "position 99 is out of range"),
        (zero(heads=[4]), "head 4 is out of range"),
        (replace(torch.zeros(3, 3)), "does not fit"),
    ],
)
def test_places_that_are_not_there_are_named(change: Any, words: str) -> None:
    model = tiny("gpt2")
    with pytest.raises(ModelError, match=words), edit(model, {Z: change}):
        model.network(**model.tokenizer("you are", return_tensors="pt"))


def test_a_stream_has_no_heads() -> None:
    with pytest.raises(ModelError, match="has no heads"):
        zero(heads=[0])(torch.zeros(1, 2, 3))
