"""Patterns of heads: drawn maps are what they say, and the classifier names maps it has not seen."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.data import Treebank
from tracemend.errors import ModelError, ProbeError
from tracemend.models import tiny
from tracemend.probing import HeadPatterns
from tracemend.probing.drawn_maps import KINDS, drawn
from tracemend.probing.head_maps import takes_segments
from tracemend.probing.head_patterns import _mixed, features


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), length=st.integers(6, 40), seed=st.integers(0, 99), causal=st.booleans())
def test_rows_of_drawn_maps_sum_to_one(kind, length, seed, causal):
    found = drawn(kind, length, length // 2, np.random.default_rng(seed), causal=causal)
    assert found.shape == (length, length) and (found >= 0).all()
    np.testing.assert_allclose(found.sum(1), 1)
    if causal:
        assert np.triu(found, 1).max() == 0


def test_drawn_maps_are_what_they_are_called():
    rng = np.random.default_rng(0)
    block = np.mean([drawn("block", 20, 8, rng, causal=False)[:8, :8].sum(1).mean() for _ in range(20)])
    column = np.mean([np.sort(drawn("vertical", 20, 8, rng, causal=False).mean(0))[-3:].sum() for _ in range(20)])
    assert block > 0.8 and column > 0.5
    with pytest.raises(ProbeError, match="did you mean 'vertical'"):
        drawn("verticle", 5, 2, rng, causal=False)


@pytest.mark.parametrize("causal", [False, True])
def test_the_classifier_names_maps_it_has_not_seen(causal):
    classifier, certain = HeadPatterns(maps_drawn=120)._classifier([20, 30, 40], causal=causal)
    assert certain >= 0.9
    pure = {
        "vertical": torch.eye(30)[:1].expand(30, 30).clone(),
        "diagonal": torch.eye(30),
        "uniform": torch.tril(torch.ones(30, 30)) if causal else torch.ones(30, 30),
    }
    for kind, pattern in pure.items():
        said = classifier.predict(features((pattern / pattern.sum(1, keepdim=True))[None], 15, causal=causal))
        assert KINDS[said[0]] == kind


def test_even_attention_has_no_features_but_its_entropy():
    for causal in (False, True):
        even = torch.tril(torch.ones(12, 12)) if causal else torch.ones(12, 12)
        (found,) = features((even / even.sum(1, keepdim=True))[None], 6, causal=causal)
        np.testing.assert_allclose(found[:6], 0, atol=1e-7)
        assert found[6] == pytest.approx(1) and found[7] == pytest.approx(0, abs=1e-7)


def test_rows_in_random_order_keep_what_they_hold():
    maps = torch.tril(torch.rand(3, 7, 7))
    mixed = _mixed(maps, np.random.default_rng(0), causal=True)
    assert torch.triu(mixed, 1).abs().max() == 0
    torch.testing.assert_close(mixed.sort(-1).values, maps.sort(-1).values)
    assert not torch.equal(mixed[0], mixed[1])


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "t5"])
def test_every_family(architecture):
    method, _, data = HeadPatterns.tiny()
    found = replace(method, pairs=4).run(tiny(architecture), data)
    assert sum(found.metrics[kind] for kind in KINDS) == pytest.approx(1)
    assert set(found.controls) == {"random_weights", "shuffled_rows", "independent"}
    assert len(found.table()) == 8 and set(found.table()["pattern"]) <= set(KINDS)
    assert replace(method, pairs=4).named(tiny(architecture), data) == found.table()["pattern"].tolist()


def test_heads_without_patterns_of_their_own_agree_as_often_as_dealt_ones(monkeypatch):
    rng = np.random.default_rng(0)
    kinds = rng.choice(6, size=(12, 10), p=[0.15, 0.01, 0.14, 0.01, 0.1, 0.59])
    kinds[:, :2] = rng.choice(6, size=(12, 1))  # a head of its own kind is no longer one once it is dealt out
    monkeypatch.setattr(HeadPatterns, "_read", lambda self, *_: (kinds, kinds))
    method, model, data = HeadPatterns.tiny()
    found = method.run(model, data)
    modal = np.mean([(row == np.bincount(row).argmax()).mean() for row in kinds])
    assert found.metrics["consistency"] == pytest.approx(modal)
    assert abs(found.controls["independent"]["consistency"] - modal) < 0.05
    assert any(said.endswith("hardly the heads' own.") for said in found.findings)
    own = np.repeat(np.arange(12)[:, None] % 6, 10, axis=1)
    monkeypatch.setattr(HeadPatterns, "_read", lambda self, *_: (own, own))
    found = method.run(model, data)
    assert found.metrics["consistency"] == 1 and found.controls["independent"]["consistency"] < 0.5
    assert not any("hardly" in said for said in found.findings)


def test_a_token_before_the_text_moves_the_border():
    method, _, data = HeadPatterns.tiny()

    def tokenizer(text, *, add_special_tokens=True):
        bare = [hash(word) % 1000 + 10 for word in text.split()]
        return SimpleNamespace(input_ids=[1, *bare] if add_special_tokens else bare)

    model = SimpleNamespace(tokenizer=tokenizer, family="decoder", window=100)
    pairs = method._rows(model, data)
    firsts = {tuple(tokenizer(" ".join(words)).input_ids) for words in data.words}
    assert all(pair.ids[0] == 1 and tuple(pair.ids[: pair.border]) in firsts for pair in pairs)


def test_the_second_sentence_of_a_pair_is_read_as_the_second():
    method, model, data = HeadPatterns.tiny()
    seen: list[tuple[list[int], list[int]]] = []

    def watch(_, __, given):
        seen.extend(zip(given["input_ids"].tolist(), given["token_type_ids"].tolist(), strict=True))

    watched = model.network.register_forward_pre_hook(watch, with_kwargs=True)
    replace(method, pairs=4).named(model, data)
    watched.remove()
    assert len(seen) == 4
    for ids, segments in seen:
        length = len(ids) - ids[::-1].index(model.tokenizer.sep_token_id)
        border = ids.index(model.tokenizer.sep_token_id) + 1
        assert segments == [0] * border + [1] * (length - border) + [0] * (len(ids) - length)


def test_what_a_network_does_not_take_it_is_not_given():
    _, _, data = HeadPatterns.tiny()
    model = tiny("bert")
    assert takes_segments(model) and not takes_segments(tiny("gpt2"))
    model.config.type_vocab_size = 1
    assert not takes_segments(model)
    assert all(pair.segments is None for pair in HeadPatterns(pairs=4)._rows(model, data))


def test_bad_input():
    method, model, data = HeadPatterns.tiny()
    with pytest.raises(ProbeError, match="not 1 sentence"):
        method.run(model, data.take([0]))
    with pytest.raises(ProbeError, match="no two consecutive sentences"):
        method.run(model, Treebank(sentences=tuple(replace(s, words=("a",), heads=None) for s in data.sentences)))
    other = tiny("llama")
    other.network.set_attn_implementation("sdpa")
    with pytest.raises(ModelError, match="keeps no patterns"):
        method.run(other, data)
