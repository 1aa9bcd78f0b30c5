from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import MistralConfig

from tests.models.families import DECODERS, decoder
from tracemend.circuits import Induction, Repeats, composition
from tracemend.circuits.circuit import generator
from tracemend.circuits.composition import composition_of, random_composition
from tracemend.circuits.weights import embedding, gain, module_at, reads, unembedding, writes
from tracemend.errors import CircuitError, ModelError
from tracemend.models import LanguageModel, load, tiny

SMALL = Induction(silence=(1, 2), draws=2)


def test_repeats_are_what_they_say() -> None:
    model = tiny("llama")
    data = Repeats.draw(model, length=10, count=6, seed=3)
    assert data.start == 1 and data.ids.shape == data.plain.shape == (6, 21)
    assert torch.equal(data.ids[:, 1:11], data.ids[:, 11:])
    assert all(len(set(row.tolist())) == 21 for row in data.plain)
    assert not set(data.ids[:, 1:].flatten().tolist()) & set(model.tokenizer.all_special_ids)
    assert torch.equal(Repeats.draw(model, length=10, count=6, seed=3).ids, data.ids)
    assert not torch.equal(Repeats.draw(model, length=10, count=6, seed=4).ids, data.ids)
    assert len({tuple(row) for row in data.ids.tolist()}) == 6


def test_without_a_token_that_begins_a_text_repeats_begin_at_once() -> None:
    model = tiny("gpt2")
    model.tokenizer.bos_token = None
    data = Repeats.draw(model, length=10, count=2)
    assert data.start == 0 and data.ids.shape == (2, 20) and torch.equal(data.ids[:, :10], data.ids[:, 10:])
    found = SMALL.run(model, data)
    assert found.metrics["loss_repeat"] > 0 and "no token that begins a text" in found.findings[0]
    assert not SMALL.run(tiny("gpt2"), Repeats.draw(tiny("gpt2"), length=10, count=2)).findings


@torch.no_grad()
@pytest.mark.parametrize("name", DECODERS)
def test_scores_are_means_of_the_network_s_own_attention(name: str) -> None:
    model = decoder(name)
    data = Repeats.draw(model, length=8, count=6)
    rows = SMALL.run(model, data).table()
    output = model.network(data.ids, output_attentions=True)
    pattern = torch.stack(output.attentions).mean(1)  # layers, heads, query, key
    r, start = 8, data.start
    row: Any
    for row in rows.itertuples(index=False):
        own = pattern[row.layer, row.head]
        second = range(start + r, start + 2 * r)
        assert row.induction == pytest.approx(sum(float(own[i, i - r + 1]) for i in second) / r, abs=1e-5)
        assert row.duplicate == pytest.approx(sum(float(own[i, i - r]) for i in second) / r, abs=1e-5)
        assert row.first == pytest.approx(sum(float(own[i, 0]) for i in second) / r, abs=1e-5)
        every = range(1, start + 2 * r)
        assert row.previous == pytest.approx(sum(float(own[i, i - 1]) for i in every) / len(every), abs=1e-5)
    assert len(rows) == 8 and rows["induction"].is_monotonic_decreasing


@torch.no_grad()
def test_losses_are_those_of_the_second_copy() -> None:
    model = tiny("gpt2")
    data = Repeats.draw(model, length=8, count=3)
    found = SMALL.run(model, data)
    logits = model.network(data.ids).logits.log_softmax(-1)
    r, start = 8, data.start
    second = [-logits[b, i - 1, data.ids[b, i]] for b in range(3) for i in range(start + r + 1, start + 2 * r)]
    assert found.metrics["loss_repeat"] == pytest.approx(float(torch.stack(second).mean()), abs=1e-5)
    assert found.metrics["in_context"] == pytest.approx(found.metrics["loss_repeat"] - found.metrics["loss_first"])
    assert found.metrics["loss_without_1"] != found.metrics["loss_repeat"]


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "llama", "neox", "gemma"])
def test_composition_and_copying_are_those_of_the_whole_matrices(name: str) -> None:
    model = decoder(name)

    width = model.hidden_size
    # A layer norm takes the mean of the stream away, so no product of weights may hang on it.
    centred = isinstance(module_at(model, "ln_final.hook_normalized"), torch.nn.LayerNorm)
    centre = torch.eye(width) - (1 / width if centred else 0)

    def whole(layer: int, head: int, circuit: str) -> torch.Tensor:
        scale = centre @ torch.diag(gain(module_at(model, f"blocks.{layer}.ln1.hook_normalized")))
        if circuit == "ov":
            return scale @ reads(model, layer, "v")[head] @ writes(model, layer)[head] @ centre
        return scale @ reads(model, layer, "q")[head] @ reads(model, layer, "k")[head].T @ scale.T

    ov, qk, later = whole(0, 1, "ov"), whole(1, 3, "qk"), whole(1, 3, "ov")
    for kind, product, reader in (("q", ov @ qk, qk), ("k", qk @ ov.T, qk), ("v", ov @ later, later)):
        expected = float(product.norm() / (ov.norm() * reader.norm()))
        assert composition(model, (0, 1), (1, 3), kind) == pytest.approx(expected, rel=1e-4)
    final = centre @ torch.diag(gain(module_at(model, "ln_final.hook_normalized")))
    values = torch.linalg.eigvals((embedding(model) @ ov @ final @ unembedding(model).T).double())
    rows = SMALL.run(model, Repeats.draw(model, length=8, count=2)).table()
    found = rows[(rows["layer"] == 0) & (rows["head"] == 1)]["copying"].item()
    assert found == pytest.approx(float(values.real.sum() / values.abs().sum()), abs=5e-3)


def test_composition_reaches_its_ends() -> None:
    """1 where a head reads just what the other writes, 0 where it reads the rest."""
    eye = torch.eye(8)
    one, rest = (eye[:, :1], eye[:1]), (eye[:, 1:2], eye[1:2])
    assert composition_of(one, one, "q") == pytest.approx(1.0)
    assert composition_of(one, rest, "k") == 0.0
    with pytest.raises(CircuitError, match="not in a later layer"):
        composition(tiny("gpt2"), (1, 0), (1, 1))


@torch.no_grad()
def test_all_three_kinds_of_composition_stand_beside_both_controls() -> None:
    model = tiny("llama")
    found = SMALL.run(model, Repeats.draw(model, length=8, count=2))
    rows = found.table()
    writer: Any = rows[rows["layer"] == 0].sort_values("previous", ascending=False).iloc[0]
    readers = [(1, int(row.head)) for row in rows.head(5).itertuples() if row.layer == 1]
    for kind in ("q", "k", "v"):
        name, pairs = f"{kind}_composition", [((0, int(writer["head"])), reader) for reader in readers]
        expected = sum(composition(model, one, other, kind) for one, other in pairs) / len(pairs)
        assert found.metrics[name] == pytest.approx(expected, rel=1e-5)
        random, matrices = random_composition(model, pairs=20, kind=kind, random=generator(0))
        assert found.controls["random heads"][name] == pytest.approx(float(random.mean()))
        assert found.controls["random matrices"][name] == pytest.approx(float(matrices.mean()))
    assert len({found.metrics[f"{kind}_composition"] for kind in "qkv"}) == 3


def test_norms_of_queries_and_keys_leave_value_composition_alone() -> None:
    model = decoder("qwen3")
    found = SMALL.run(model, Repeats.draw(model, length=8, count=2))
    assert found.metrics["v_composition"] > 0 and "normalises queries and keys" in found.findings[0]
    for kind in ("q", "k"):
        assert math.isnan(found.metrics[f"{kind}_composition"])
        with pytest.raises(CircuitError, match="normalises queries and keys"):
            composition(model, (0, 0), (1, 0), kind)


def test_what_cannot_be_scored_is_refused() -> None:
    model = tiny("llama")
    data = Repeats.draw(model, length=8, count=2)
    with pytest.raises(CircuitError, match="take length 31 or less"):
        Repeats.draw(model, length=40)
    with pytest.raises(CircuitError, match="expected at least 2 and 1"):
        Repeats.draw(model, length=1)
    with pytest.raises(CircuitError, match="is not defined for"):
        SMALL.run(tiny("bert"), data)
    with pytest.raises(CircuitError, match="from 1 to 4"):
        replace(SMALL, silence=(5,)).run(model, data)
    found = replace(SMALL, silence=(2, 5, 20)).run(model, data)
    assert "5, 20 heads are more than half of the 8" in found.findings[0]
    assert [name for name in found.metrics if name.startswith("loss_without")] == ["loss_without_2"]
    with pytest.raises(CircuitError, match="draw shorter repeats"):
        replace(SMALL, max_memory=1e-6).run(model, data)


def test_a_window_of_sliding_attention_counts() -> None:
    model = decoder("mistral")
    config: Any = MistralConfig(**{**model.config.to_dict(), "sliding_window": 12})
    model.network.config = config
    with pytest.raises(CircuitError, match="12 that"):
        Repeats.draw(model, length=8)


def test_without_patterns_the_remedy_is_named() -> None:
    model = tiny("llama")
    data = Repeats.draw(model, length=8, count=2)
    model.network.set_attn_implementation("sdpa")
    with pytest.raises(ModelError, match="eager"):
        SMALL.run(model, data)


@pytest.fixture(scope="module")
def smollm2() -> LanguageModel:
    return load("smollm2")


@pytest.mark.slow
def test_smollm2_has_the_induction_heads_that_it_is_known_to_have(smollm2: LanguageModel) -> None:
    found = Induction(silence=(5,), draws=1).run(smollm2, Repeats.draw(smollm2, length=50, count=2))
    first = found.table().iloc[0]
    assert (first["layer"], first["head"]) == (18, 6) and first["induction"] > 0.8
    assert found.metrics["median"] < 0.02
    assert found.controls["not repeated"]["best"] < 0.1
    assert found.metrics["loss_without_5"] > found.metrics["loss_repeat"] + 3
    assert found.controls["random heads"]["loss_without_5"] < found.metrics["loss_repeat"] + 2
