"""Heads as parsers: maps from word to word by hand, guesses by hand, and a probe that learns what is there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import ttest_1samp

from tracemend.data import Sentence, Treebank, available_folder, read_conllu
from tracemend.errors import ModelError, ProbeError
from tracemend.models import load, tiny
from tracemend.models.attention import read_attention
from tracemend.probing import HeadProbe
from tracemend.probing.arcs import both_ways, fit_arcs, offsets
from tracemend.probing.head_maps import head_name, word_attention
from tracemend.probing.heads import _Guesses, _hits, _p, _relations
from tracemend.probing.made_up import tiny_treebank


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "t5"])
def test_attention_to_a_word_is_the_sum_over_its_tokens_and_from_it_the_mean(architecture):
    model = tiny(architecture)
    words = ["the", "xq", "film"]
    (found,) = word_attention(model, [words])
    row = model.tokenizer(" ".join(words), return_tensors="pt")
    given = {name: row[name] for name in ("input_ids", "attention_mask")}
    if architecture == "t5":
        given["decoder_input_ids"] = torch.zeros(1, 1, dtype=torch.long)
    with torch.no_grad():
        seen = torch.cat([layer[0] for layer in read_attention(model, lambda: model.network(**given)).layers])
    offsets_of = model.tokenizer(" ".join(words), return_offsets_mapping=True).offset_mapping
    ends = [3, 6, 11]
    owner = [next((w for w, end in enumerate(ends) if b > a and a < end), -1) for a, b in offsets_of]
    if architecture == "bert":
        assert owner.count(1) == 2 and owner[0] == owner[-1] == -1
    for i in range(3):
        for j in range(3):
            rows, columns = [t for t, w in enumerate(owner) if w == i], [t for t, w in enumerate(owner) if w == j]
            expected = seen[:, rows][:, :, columns].sum(2).mean(1)
            torch.testing.assert_close(found[:, i, j], expected)


def test_maps_do_not_depend_on_the_batch():
    model = tiny("bert")
    sentences = [s.words for s in tiny_treebank().sentences[:9]]
    for one, other in zip(
        word_attention(model, sentences), word_attention(model, sentences, batch_size=2), strict=True
    ):
        torch.testing.assert_close(one, other)


def sentence(heads, relations):
    return Sentence(words=tuple("abcdef"[: len(heads)]), tags={"deprel": relations}, heads=heads)


def test_guesses_by_hand():
    one = sentence((1, -1, 1, 1), ("det", "root", "obj", "punct"))
    maps = torch.zeros(1, 4, 4)
    # The first word attends most to itself, which is no guess, then to its head; the third to the first.
    maps[0, 0] = torch.tensor([0.6, 0.3, 0.1, 0.0])
    maps[0, 2] = torch.tensor([0.5, 0.4, 0.1, 0.0])
    # Root and punctuation are left out: det and obj remain, both ways.
    assert _hits([maps], [one]).tolist() == [[1.0, 0.0], [0.0, 0.0]]
    # Head to dependent: the second word attends to the third alone.
    maps[0, 1] = torch.tensor([0.0, 0.0, 1.0, 0.0])
    assert _hits([maps], [one]).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_a_word_that_nothing_attends_to_has_no_guess():
    one = sentence((-1, 0), ("root", "obj"))
    assert _hits([torch.zeros(1, 2, 2)], [one]).tolist() == [[0.0], [0.0]]


def test_the_probe_finds_the_head_that_knows():
    rng = np.random.default_rng(0)
    trees, maps = [], []
    for _ in range(40):
        n = int(rng.integers(3, 9))
        heads = [-1, *(int(rng.integers(i)) for i in range(1, n))]
        seen = torch.rand(3, n, n)
        # The second head points from a word's head to the word.
        for i, head in enumerate(heads):
            if head >= 0:
                seen[1, head, i] += 2
        trees.append(heads)
        maps.append(seen)
    probe = fit_arcs([both_ways(x) for x in maps[:30]], trees[:30])
    assert int(probe.weights.argmax()) == 3 + 1
    said = probe.heads([both_ways(x) for x in maps[30:]])
    right = [a == b for of, tree in zip(said, trees[30:], strict=True) for a, b in zip(of, tree, strict=True) if b >= 0]
    assert np.mean(right) > 0.9


def test_the_control_that_knows_offsets_alone():
    trees = [[1, 2, 3, -1]] * 5
    probe = fit_arcs([offsets(4) for _ in trees], trees, epochs=40)
    assert probe.heads([offsets(5)])[0].tolist()[:4] == [1, 2, 3, 4]
    with pytest.raises(ProbeError, match="no sentence has two words"):
        fit_arcs([offsets(1)], [[-1]])


@pytest.fixture(scope="module")
def found():
    method, model, data = HeadProbe.tiny()
    return method.run(model, data)


def test_every_relation_has_its_controls(found):
    assert set(found.controls) == {"offset", "random_weights"}
    for figures in (found.metrics, *found.controls.values()):
        assert set(figures) == {"by_relation", "best_head", "attention_probe"}
    table = found.table().set_index("relation")
    # In the made-up grammar the subject stands right before its verb, and a fixed offset knows it.
    assert table.loc["nsubj", "offset_accuracy"] == 1.0 and table.loc["nsubj", "offset"] == 1
    lost = next(s for s in found.findings if s.startswith("No head is shown"))
    assert "nsubj" in lost


def told(monkeypatch, hits):
    """A run on five relations whose heads lie anywhere, with made-up hits of a head: a share by relation and half."""
    rng = np.random.default_rng(0)
    names = ("a", "b", "c", "d", "e")
    trees = [
        Sentence(words=("the",) * 11, heads=(-1, *(int(rng.integers(i)) for i in range(1, 11))),
                 tags={"deprel": ("root", *rng.choice(names, 10).tolist())}, id=str(k), document=str(k))
        for k in range(100)
    ]  # fmt: skip

    def read(self, model, choosing, test, progress):
        drawn = np.random.default_rng(1)
        ours, others = (
            np.array([drawn.random(2) < (hits[half][r], 0.0) for r in _relations(part)], dtype=float).T
            for half, part in enumerate((choosing, test))
        )
        return _Guesses(ours, others, np.zeros(others.shape[1]), 1)

    monkeypatch.setattr(HeadProbe, "_read", read)
    return HeadProbe(least=5, random_models=1).run(tiny("bert"), Treebank(sentences=tuple(trees)))


def test_the_first_relation_is_that_of_the_half_that_chose(monkeypatch):
    result = told(monkeypatch, ({"a": 1, "b": 0.9, "c": 0.6, "d": 0.6, "e": 0.6},
                               {"a": 0.5, "b": 1, "c": 0.6, "d": 0.6, "e": 0.6}))  # fmt: skip
    table = result.table().set_index("relation")
    assert table.index[:2].tolist() == ["a", "b"] and table["accuracy"]["b"] > table["accuracy"]["a"] + 0.3
    assert table["choosing_lead"].is_monotonic_decreasing


def test_what_one_relation_alone_would_show_is_not_shown_among_five(monkeypatch):
    monkeypatch.setattr("tracemend.probing.heads._p", lambda *_: 0.02)
    result = told(monkeypatch, (dict.fromkeys("abcde", 0.9), dict.fromkeys("abcde", 0.9)))
    assert result.table()["p_holm"].tolist() == pytest.approx([0.1] * 5)
    (lost,) = (said for said in result.findings if said.startswith("No head is shown"))
    assert all(f" {name}" in lost for name in "abcde")


def test_p_counts_a_sentence_as_one_and_names_what_is_lost(found):
    rng = np.random.default_rng(0)
    gaps, sentences = rng.choice([-1.0, 0.0, 1.0], 90), np.repeat(np.arange(30), 3)
    assert _p(gaps, sentences) == pytest.approx(ttest_1samp(gaps.reshape(30, 3).sum(1), 0).pvalue)
    table = found.table()
    lost = next(s for s in found.findings if s.startswith("No head is shown"))
    assert f"by Holm over {len(table)} relations" in lost
    shown = (table["p_holm"] < 0.05) & (table["accuracy"] > table["offset_accuracy"])
    assert lost.rpartition(": ")[2].rstrip(".").split(", ") == table["relation"][~shown].tolist()


def test_head_names():
    assert head_name(0, 12) == "0-0" and head_name(35, 12) == "2-11"


def test_bad_input():
    method, model, data = HeadProbe.tiny()
    with pytest.raises(ProbeError, match="no relation has 900 words"):
        replace(method, least=900).run(model, data)
    bare = Treebank(sentences=tuple(replace(s, heads=None) for s in data.sentences))
    with pytest.raises(ProbeError, match="no tree"):
        method.run(model, bare)
    with pytest.raises(ProbeError, match="must be at least 1"):
        replace(method, least=0).run(model, data)
    other = tiny("bert")
    other.network.set_attn_implementation("sdpa")
    with pytest.raises(ModelError, match="keeps no patterns"):
        method.run(other, data)


@pytest.mark.slow
def test_a_head_of_minilm_finds_objects():
    folder = available_folder("ud_ewt")
    if folder is None:
        pytest.skip("ud_ewt is not here; set TRACEMEND_DATA")
    bank = read_conllu(folder)
    bank = bank.take([i for i, sentence in enumerate(bank.sentences) if 5 <= len(sentence) <= 15])
    found = HeadProbe(choosing_sentences=200, test_sentences=200).run(load("minilm"), bank)
    row = found.table().set_index("relation").loc["obj"]
    assert row["accuracy"] >= 0.6 and row["accuracy"] > row["offset_accuracy"] + 0.2
    assert found.table()["random_weights"].max() < 0.6
