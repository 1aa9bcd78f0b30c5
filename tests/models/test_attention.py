"""Attention patterns are the network's own, and tracing them keeps what it starts with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tracemend.errors import ModelError
from tracemend.models import tiny
from tracemend.models.attention import Attention, back_trace, down_decoder, flow, read_attention, rollout

TEXTS = ["you are terrible and i hate this film", "good movie"]


def patterns(layers: int, heads: int, pos: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(2, heads, pos, pos, generator=generator).softmax(-1) for _ in range(layers)]


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "t5"])
def test_patterns_are_those_that_transformers_gives(architecture: str) -> None:
    model = tiny(architecture)
    inputs = dict(model.tokenizer(TEXTS, return_tensors="pt", padding=True))
    inputs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    if architecture == "t5":
        inputs["decoder_input_ids"] = torch.zeros(2, 3, dtype=torch.long)
    with torch.no_grad():
        expected = model.network(**inputs, output_attentions=True)
        found = read_attention(model, lambda: model.network(**inputs))
    stacks = (
        {"layers": "encoder_attentions", "decoder": "decoder_attentions", "cross": "cross_attentions"}
        if architecture == "t5"
        else {"layers": "attentions"}
    )
    for name, of in stacks.items():
        own, theirs = getattr(found, name), getattr(expected, of)
        assert len(own) == len(theirs) == 2
        for one, other in zip(own, theirs, strict=True):
            torch.testing.assert_close(one, other)
            # Grouped queries: llama has two key-value heads and four patterns.
            assert one.shape[1] == 4
            torch.testing.assert_close(one.sum(-1)[0], torch.ones_like(one.sum(-1)[0]))
    if architecture != "t5":
        assert not found.decoder and not found.cross


def test_attention_that_keeps_no_patterns_is_refused() -> None:
    model = tiny("llama")
    model.network.set_attn_implementation("sdpa")
    called = []
    with pytest.raises(ModelError, match=r"'sdpa', which keeps no patterns.*attention=\"eager\""):
        read_attention(model, lambda: called.append(1))
    assert not called


def test_identity_attention_returns_the_start() -> None:
    start = torch.rand(2, 5)
    same = [torch.eye(5).expand(2, 3, 5, 5)] * 4
    torch.testing.assert_close(rollout(same, start), start)
    torch.testing.assert_close(flow(same, start / start.sum(-1, keepdim=True)), start / start.sum(-1, keepdim=True))
    torch.testing.assert_close(back_trace(same, start), start)
    torch.testing.assert_close(back_trace([], start), start)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 7), st.integers(0, 100), st.floats(0, 0.9))
def test_nothing_is_lost_on_the_way(layers: int, heads: int, pos: int, seed: int, residual: float) -> None:
    some = patterns(layers, heads, pos, seed)
    start = torch.rand(2, pos).softmax(-1)
    for found in (
        rollout(some, start, residual=residual),
        flow(some, start, residual=residual),
        back_trace(some, start),
    ):
        assert found.shape == (2, pos) and (found >= 0).all()
        torch.testing.assert_close(found.sum(-1), torch.ones(2), rtol=1e-5, atol=1e-5)


def test_rollout_is_the_product_of_the_mixed_layers() -> None:
    some = patterns(3, 2, 4, 0)
    product = torch.eye(4)
    for pattern in some:
        product = (0.5 * torch.eye(4) + 0.5 * pattern[0].mean(0)) @ product
    for position in range(4):
        start = torch.nn.functional.one_hot(torch.tensor([position, position]), 4).float()
        torch.testing.assert_close(rollout(some, start)[0], product[position])


def test_flow_is_the_smallest_cut() -> None:
    """Of one layer what a pipe holds; of two, by hand, what the narrower one does."""
    one = patterns(1, 2, 4, 0)
    start = torch.nn.functional.one_hot(torch.tensor([2, 1]), 4).float()
    torch.testing.assert_close(flow(one, start), rollout(one, start), rtol=1e-5, atol=1e-6)
    low = torch.tensor([[0.8, 0.2], [0.1, 0.9]]).expand(1, 1, 2, 2)
    high = torch.tensor([[0.3, 0.7], [0.6, 0.4]]).expand(1, 1, 2, 2)
    found = flow([low, high], torch.tensor([[1.0, 0.0]]), residual=0.0)
    # To 0: min(.3, .8) over 0 and min(.7, .1) over 1; to 1: min(.3, .2) and min(.7, .9).
    expected = torch.tensor([[0.3 + 0.1, 0.2 + 0.7]])
    torch.testing.assert_close(found, expected / expected.sum(), rtol=1e-5, atol=1e-6)
    # Rollout shares out in place of asking what could come.
    assert not torch.allclose(found, rollout([low, high], torch.tensor([[1.0, 0.0]]), residual=0.0), atol=1e-3)


def test_flow_equals_that_of_another_search() -> None:
    """Against scipy's other algorithm, which pushes along shortest paths."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    some = patterns(3, 2, 5, 3)
    start = torch.rand(2, 5).softmax(-1)
    mixed = [0.5 * torch.eye(5) + 0.5 * pattern[0].mean(0) for pattern in some]
    held = np.zeros((21, 21), dtype=np.int32)
    held[20, 15:20] = (start[0] * 1e6).round().int().numpy()
    for layer, pattern in enumerate(mixed):
        held[5 * layer + 5 : 5 * layer + 10, 5 * layer : 5 * layer + 5] = (pattern * 1e6).round().int().numpy()
    flows = [maximum_flow(csr_array(held), 20, j, method="edmonds_karp").flow_value for j in range(5)]
    expected = torch.tensor(flows, dtype=torch.float64)
    torch.testing.assert_close(
        flow(some, start)[0].double(), expected / expected.sum() * start[0].sum(), rtol=1e-4, atol=1e-5
    )


def test_back_tracing_goes_down_each_column_of_heads_for_itself() -> None:
    some = patterns(2, 2, 3, 1)
    start = torch.tensor([[0.2, 0.3, 0.5]] * 2)
    expected = sum(start[0] @ some[1][0, h] @ some[0][0, h] for h in range(2)) / 2
    found = back_trace(some, start)[0]
    torch.testing.assert_close(found, expected)
    # Which is not the same as putting the heads together at every layer.
    merged = start[0] @ some[1][0].mean(0) @ some[0][0].mean(0)
    assert not torch.allclose(found, merged, atol=1e-4)


def test_a_decoders_first_position_shares_out_what_reaches_it() -> None:
    cross = [torch.rand(2, 2, 1, 3).softmax(-1) for _ in range(2)]
    attention = Attention(layers=(), decoder=(), cross=cross)
    torch.testing.assert_close(down_decoder(attention, residual=0.0), cross[1].mean(1)[:, 0])
    expected = (0.5 * cross[1] + 0.25 * cross[0]).mean(1)[:, 0] / 0.75
    torch.testing.assert_close(down_decoder(attention, residual=0.5), expected)


def test_bad_input() -> None:
    start = torch.ones(2, 4) / 4
    with pytest.raises(ModelError, match="from 0 to 1"):
        rollout(patterns(1, 1, 4, 0), start, residual=1.5)
    with pytest.raises(ModelError, match="from 0 to 1"):
        flow(patterns(1, 1, 4, 0), start, residual=-0.5)
    wide = [torch.rand(2, 2, 4, 6)]
    for trace in (rollout, flow, back_trace):
        with pytest.raises(ModelError, match="4 queries and 6 keys"):
            trace(wide, start)
    assert np.isfinite(start).all()


def test_what_goes_to_a_prefix_is_not_handed_to_the_text() -> None:
    """Without the keys of a prefix rows do not add up to one, and neither does what rollout traces."""
    some = [0.8 * pattern for pattern in patterns(2, 2, 4, 0)]
    start = torch.nn.functional.one_hot(torch.tensor([2, 2]), 4).float()
    torch.testing.assert_close(rollout(some, start).sum(-1), torch.full((2,), 0.9**2))
