from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.families import DECODERS, decoder
from tracemend.circuits import Attention, AttentionResult
from tracemend.circuits.attention import _findings
from tracemend.circuits.weights import writes
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError
from tracemend.models import capture, load, tiny

TEXTS = Texts.make([{"text": "we love this movie so"}, {"text": "a bad film"}])


@pytest.mark.parametrize("name", DECODERS)
def test_patterns_are_shares_of_what_came_before(name: str) -> None:
    found = Attention(shown=2).run(decoder(name), TEXTS)
    assert set(found.maps["text"]) == {0, 1}
    for row in found.maps.itertuples():
        for kind in ("attention", "moved"):
            pattern = found.pattern(row.text, row.layer, row.head, kind)
            assert pattern.sum(1) == pytest.approx(1, abs=len(pattern) / 255)
            assert not np.triu(pattern, 1).any()


@torch.no_grad()
def test_what_is_moved_is_the_length_of_what_a_head_takes() -> None:
    """By hand, key by key, and with key-value heads that several heads share."""
    model = decoder("llama")
    text = TEXTS.frame["text"].iloc[0]
    found = Attention().run(model, Texts.make([{"text": text}]))
    with capture(model, ["blocks.1.attn.hook_v", "blocks.1.attn.hook_pattern"]) as seen:
        model.network(torch.tensor([model.tokenizer(text).input_ids]))
    values, pattern = seen["blocks.1.attn.hook_v"][0], seen["blocks.1.attn.hook_pattern"][0]
    assert values.shape[1] < pattern.shape[0]
    for head in range(len(pattern)):
        taken = values[:, head // (len(pattern) // values.shape[1])] @ writes(model, 1)[head]
        last = pattern[head, -1] * taken.norm(dim=-1)
        assert found.pattern(0, 1, head, "moved")[-1] == pytest.approx((last / last.sum()).numpy(), abs=1 / 255)


def test_an_encoder_looks_both_ways() -> None:
    found = Attention().run(tiny("bert"), TEXTS)
    assert np.triu(found.pattern(0, 0, 0), 1).any()
    assert found.rows["first"].between(0, 1).all()


def test_means_are_over_texts_and_queries_but_the_first() -> None:
    model = tiny("gpt2")
    found = Attention(shown=2).run(model, TEXTS)
    row = found.rows[(found.rows["layer"] == 1) & (found.rows["head"] == 0)].iloc[0]
    maps = [found.pattern(text, 1, 0) for text in (0, 1)]
    assert row["first"] == pytest.approx(np.mean([m[1:, 0].mean() for m in maps]), abs=2 / 255)
    assert row["previous"] == pytest.approx(np.mean([m.diagonal(-1).mean() for m in maps]), abs=2 / 255)


def test_it_is_kept_and_read_back(tmp_path: Path) -> None:
    found = Attention().run(tiny("gpt2"), TEXTS)
    again = AttentionResult.load(found.save(tmp_path))
    assert np.array_equal(again.pattern(1, 0, 2, "moved"), found.pattern(1, 0, 2, "moved"))
    assert list(again.tokens["token"]) == list(found.tokens["token"])


def test_long_texts_are_cut_and_it_is_said() -> None:
    found = Attention(length=3, shown=1).run(tiny("gpt2"), TEXTS)
    assert len(found.tokens) == 3
    assert any("were cut" in finding for finding in found.findings)


@pytest.mark.parametrize(
    ("changes", "model", "message"),
    [
        ({"length": 1}, "gpt2", "length is 1; it must be at least 2"),
        ({"shown": -1}, "gpt2", "shown is -1; it must be at least 0"),
        ({}, "t5", "read_attention"),
        ({"max_memory": 1e-7}, "gpt2", "cut the texts shorter"),
    ],
)
def test_what_it_is_not_defined_for(changes: dict[str, Any], model: str, message: str) -> None:
    with pytest.raises(CircuitError, match=message):
        Attention(**changes).run(tiny(model), TEXTS)


def test_a_pattern_that_was_not_kept() -> None:
    found = Attention(shown=1).run(tiny("gpt2"), TEXTS)
    with pytest.raises(CircuitError, match="1 texts were kept"):
        found.pattern(1, 0, 0)


@pytest.mark.parametrize(("moved", "said"), [(0.1, "but only 10%"), (0.9, "but 90%"), (0.52, "is about its share")])
def test_what_is_moved_is_told_from_the_attention(moved: float, said: str) -> None:
    (found,) = _findings({"first": 0.5, "moved_first": moved, "entropy": 1.0}, {"entropy": 3.0}, 0)
    assert said in found


def test_other_data_are_refused() -> None:
    data: Any = "a text"
    with pytest.raises(CircuitError, match="takes Texts"):
        Attention().run(tiny("gpt2"), data)


@pytest.mark.slow
def test_smollm2_looks_at_the_first_token_more_than_it_takes_from_it() -> None:
    """The first token is a resting place: its values are short (random weights spread evenly)."""
    model = load("smollm2")
    text = "When Mary and John went to the store, John gave a drink to Mary. Then the two of them walked home."
    found = Attention().run(model, Texts.make([{"text": text}]))
    control = found.controls["random weights"]
    assert found.metrics["first"] > 0.35 and found.metrics["moved_first"] < found.metrics["first"] - 0.1
    assert control["first"] == pytest.approx(control["moved_first"], abs=0.02)
    assert found.metrics["previous_best"] > 0.6 > 3 * control["previous_best"] - 0.1
