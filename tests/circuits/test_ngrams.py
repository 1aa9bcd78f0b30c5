from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models.families import decoder
from tracemend.circuits import AttentionOnly, MarkovSource, Ngrams
from tracemend.circuits.attention_only import has_feed_forward, kept_model, loss_of
from tracemend.circuits.skips import END, lift, said, scrambled
from tracemend.circuits.token_circuits import TokenCircuits, compare
from tracemend.circuits.tokens import ids_of
from tracemend.circuits.weights import FrozenNorm, module_at
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError, RunError
from tracemend.models import capture, load, tiny

SOURCE = MarkovSource.draw(symbols=24, rules=3)
TEXTS = SOURCE.texts(400)
SMALL = AttentionOnly(width=16, heads=2, steps=3, batch=4)
LINE = "the people love this nice movie so we hate that terrible film"


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "gemma", "neox", "neox-sequential"])
def test_tables_of_the_first_layer_give_the_patterns(name: str) -> None:
    """Exactly, with rotation (also of a part of each head), grouped keys and biases: to rounding."""
    model = decoder(name)
    gap, scale = compare(model, 0, ids_of(model, LINE))
    assert gap < 1e-5 and scale > 0
    assert compare(model, 1, ids_of(model, LINE))[0] > 0.01


@torch.no_grad()
def test_bigrams_and_heads_are_all_there_is_in_one_layer() -> None:
    """The logits are the bigram table and what heads add, attention times OV, at the scale of the final norm."""
    model = SMALL.fit(TEXTS)
    assert not has_feed_forward(model) and has_feed_forward(tiny("llama"))
    ids = ids_of(model, TEXTS.frame["text"][0])
    circuits = TokenCircuits(model, 0, ids[0], 1.0)
    with capture(model, ["blocks.0.attn.hook_pattern", "blocks.0.hook_resid_post"]) as seen:
        logits = model.network(ids, use_cache=False).logits[0][:, ids[0]]
    pattern = seen["blocks.0.attn.hook_pattern"][0]
    summed = circuits.bigrams() + sum(pattern[head] @ circuits.ov(head) for head in range(len(pattern)))
    norm = FrozenNorm.at(module_at(model, "ln_final.hook_normalized"), seen["blocks.0.hook_resid_post"])
    torch.testing.assert_close(summed * norm.inverse[0], logits, rtol=1e-4, atol=1e-4)


def test_scores_by_distance_are_means_of_the_qk_circuit() -> None:
    model = decoder("llama")
    tokens = torch.arange(10, 30)
    circuits = TokenCircuits(model, 0, tokens, 1.0)
    weights = torch.full((20,), 1 / 20)
    distances = torch.arange(1, 6)
    tables = torch.stack([circuits.qk(2, distance[None]) for distance in distances])
    torch.testing.assert_close(circuits.qk(2, distances), tables.mean(0))
    means, share = circuits.by_distance(2, distances, weights)
    torch.testing.assert_close(means, tables.mean((1, 2)))
    between = tables.mean(2).var(0, correction=0).mean()
    within = tables.var(2, correction=0).mean()
    assert share == pytest.approx(float(between / (between + within)), rel=1e-4)


def test_a_source_says_what_was_planted() -> None:
    a, b, c = SOURCE.rules[0]
    rows = SOURCE.sample(3000).numpy()
    # A segment that is said again goes on as it went, whatever stands before it now.
    with_it, without, seen = said([(a, b, c)], rows)[0]
    assert 0.75 < with_it < 0.95 and without < 0.1 and seen > 100
    assert lift([(a, b, (c + 1) % 24)], rows)[0] < 0.1
    assert abs(lift([(a, b, c)], scrambled(rows, torch.Generator().manual_seed(0)))[0]) < 0.1
    follows = np.bincount(rows[:, 1:][rows[:, :-1] == c], minlength=24)
    assert int(follows.argmax()) == int(SOURCE.transitions[c].argmax())
    assert np.array_equal(rows, SOURCE.sample(3000).numpy())
    assert not np.array_equal(rows[:5], SOURCE.sample(5, seed=1).numpy())


def test_counting_by_hand() -> None:
    # 0 before 1 twenty times, followed by 2 in fifteen of them; 1 without 0 ten times, never followed by 2.
    rows = np.array([[0, 3, 1, 2]] * 15 + [[0, 1, 3, 3]] * 5 + [[3, 1, 3, END]] * 10)
    assert said([(0, 1, 2)], rows)[0].tolist() == [0.75, 0.0, 20.0]
    assert lift([(0, 1, 2), (3, 0, 1)], rows) == (0.75, 1)
    assert np.isnan(lift([(3, 0, 1)], rows)[0])
    mixed = scrambled(rows, torch.Generator().manual_seed(0))
    assert (mixed[20:, -1] == END).all() and not np.array_equal(mixed, rows)
    assert np.array_equal(np.sort(mixed, axis=1), np.sort(rows, axis=1))


@pytest.mark.slow
def test_planted_skip_trigrams_are_found() -> None:
    texts = SOURCE.texts(1000)
    model = AttentionOnly(steps=400).fit(texts)
    found = Ngrams().run(model, texts)
    words = SOURCE.words
    rows = {tuple(row) for row in found.table()[["source", "destination", "output"]].itertuples(index=False)}
    assert {tuple(words[i] for i in rule) for rule in SOURCE.rules} <= rows
    m, c = found.metrics, found.controls
    assert m["attention_gap"] < 1e-4
    assert m["bigram_agreement"] > 0.3 > c["shuffled rows"]["bigram_agreement"]
    assert m["bigram_correlation"] > 0.4 > abs(c["untrained"]["bigram_correlation"])
    assert m["skip_lift"] > 0.1
    for arm in ("untrained", "shuffled text", "other outputs"):
        assert abs(c[arm]["skip_lift"]) < m["skip_lift"] / 3, arm
    assert loss_of(model, texts) < loss_of(SMALL.fit(texts), texts) - 1


def test_training_is_the_same_again_and_leaves_torch_alone() -> None:
    steps: list[int] = []
    state = torch.random.get_rng_state()
    one = SMALL.fit(TEXTS, watch=lambda step, model: steps.append(step), every=2)
    assert torch.equal(state, torch.random.get_rng_state())
    assert steps == [0, 2, 3]
    assert one.fingerprint == SMALL.fit(TEXTS).fingerprint != replace(SMALL, seed=1).fit(TEXTS).fingerprint


def test_a_model_is_kept_and_read_back(tmp_path: Path) -> None:
    one = kept_model(SMALL, TEXTS, tmp_path / "small")
    assert kept_model(SMALL, TEXTS, tmp_path / "small").fingerprint == one.fingerprint
    again = load(tmp_path / "small" / "model")
    assert again.fingerprint == one.fingerprint
    text = TEXTS.frame["text"][0]
    assert again.tokenizer(text).input_ids == SMALL.fit(TEXTS).tokenizer(text).input_ids
    with pytest.raises(RunError, match="belongs to another run"):
        kept_model(replace(SMALL, seed=1), TEXTS, tmp_path / "small")


@pytest.mark.slow
def test_other_models_are_told_apart() -> None:
    _, _, texts = Ngrams.tiny()
    assert any("does not rotate" in said for said in Ngrams(quantile=0.5).run(decoder("gpt2"), texts).findings)
    later = Ngrams(layer=1, quantile=0.5).run(decoder("llama"), texts)
    assert any("Layer 1" in said for said in later.findings) and later.metrics["attention_gap"] > 0.01
    assert any("has feed-forward layers" in said for said in later.findings)
    with pytest.raises(CircuitError, match="is not defined for"):
        Ngrams().run(tiny("bert"), texts)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer": 2}, "layers 0 to 1"),
        ({"quantile": 1.0}, "expected 0 to below 1"),
        ({"reach": 64}, "below 64"),
        ({"tokens": 0}, "tokens is 0"),
        ({"seen": 1000}, "tables need 10"),
        ({"max_memory": 0.0}, "GiB"),
    ],
)
def test_bad_settings(change: dict[str, float], words: str) -> None:
    method, model, texts = Ngrams.tiny()
    with pytest.raises(CircuitError, match=words):
        replace(method, **change).run(model, texts)


def test_attention_of_another_kind_is_refused() -> None:
    """Norms on queries and keys, which the tables do not know of."""
    method, _, texts = Ngrams.tiny()
    for layer in (0, 1):
        with pytest.raises(CircuitError, match="normalises queries and keys"):
            replace(method, layer=layer).run(decoder("qwen3"), texts)


@pytest.mark.parametrize(
    ("how", "texts", "words"),
    [
        (SMALL, Texts.make([{"text": "too few"}]), "1000 at least"),
        (SMALL, [], "not list"),
        (replace(SMALL, heads=3), TEXTS, "twice the heads"),
        (replace(SMALL, layers=0), TEXTS, "layers 0"),
    ],
)
def test_bad_training(how: AttentionOnly, texts: Texts, words: str) -> None:
    with pytest.raises(CircuitError, match=words):
        how.fit(texts)


@pytest.mark.parametrize("given", [{"symbols": 5, "rules": 3}, {"symbols": 100}])
def test_bad_sources(given: dict[str, int]) -> None:
    with pytest.raises(CircuitError, match="symbols"):
        MarkovSource.draw(**given)
