"""Structural probes: trees that are there are found; the rest is what the controls say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracemend.data import Sentence, Treebank, available_folder, read_conllu
from tracemend.errors import ProbeError
from tracemend.models import load, tiny
from tracemend.probing import StructuralProbe
from tracemend.probing.geometry import TreeProbe, Trees
from tracemend.probing.jabberwocky import OPEN, jabberwocky
from tracemend.probing.made_up import tiny_treebank
from tracemend.probing.structural import StructuralResult
from tracemend.probing.tasks import depths
from tracemend.probing.trees import (
    chain_distances,
    counted,
    first_verb,
    root_hits,
    shared_edges,
    spanning_tree,
    spearman_by_length,
    tree_distances,
)


@st.composite
def heads(draw, most=9):
    """A random tree: each word but one hangs on an earlier one of a random order."""
    n = draw(st.integers(2, most))
    order = draw(st.permutations(range(n)))
    found = [-1] * n
    for place in range(1, n):
        found[order[place]] = order[draw(st.integers(0, place - 1))]
    return found


@given(heads())
def test_the_spanning_tree_of_a_trees_distances_is_the_tree(tree):
    distances = tree_distances(tree)
    kept = np.ones(len(tree), dtype=bool)
    expected = {(min(i, head), max(i, head)) for i, head in enumerate(tree) if head >= 0}
    assert spanning_tree(distances, kept) == expected
    np.testing.assert_array_equal(distances, distances.T)
    root = tree.index(-1)
    np.testing.assert_array_equal(distances[root], depths(tree))


def test_punctuation_is_left_out_of_the_tree():
    sentence = Sentence(words=("a", ",", "b", "."), tags={"xpos": ("NN", ",", "NN", ".")}, heads=(-1, 2, 0, 0))
    assert counted(sentence).tolist() == [True, False, True, False]
    assert spanning_tree(tree_distances(sentence.heads), counted(sentence)) == {(0, 2)}
    assert counted(Sentence(words=("a", "."), tags={"upos": ("X", "PUNCT")})).tolist() == [True, False]
    assert spanning_tree(np.zeros((1, 1)), np.array([True])) == set()


def test_shared_edges_and_the_chain():
    found = shared_edges([{(0, 1), (1, 2)}, {(0, 1)}], [{(0, 1), (0, 2)}, {(0, 1)}])
    assert found.tolist() == [[1, 1], [2, 1]]
    assert spanning_tree(chain_distances(4), np.ones(4, bool)) == {(0, 1), (1, 2), (2, 3)}


def test_spearman_is_scipys_averaged_over_lengths():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    gold = [rng.permutation(n).astype(float) for n in (5, 5, 7, 3, 60)]
    said = [rng.random(len(g)) for g in gold]
    each = [spearmanr(g, s).statistic for g, s in zip(gold, said, strict=True)]
    assert spearman_by_length(gold, said) == pytest.approx(((each[0] + each[1]) / 2 + each[2]) / 2)
    assert spearman_by_length(gold[:1], [np.ones(5)]) == 0


def test_the_first_verb_as_root():
    sentence = Sentence(words=("Yes", "go", "on"), tags={"upos": ("INTJ", "VERB", "ADV")}, heads=(1, -1, 1))
    assert first_verb(sentence).argmin() == 1
    assert root_hits([first_verb(sentence)], [sentence]).tolist() == [1.0]


def embedded_trees(seed=0, sentences=60, width=24):
    """Trees whose steps are dimensions: each word is its head's vector with one more coordinate set."""
    rng = np.random.default_rng(seed)
    hidden, lengths, distances, found = [], [], [], []
    for _ in range(sentences):
        n = int(rng.integers(3, 8))
        tree = [-1] + [int(rng.integers(i)) for i in range(1, n)]
        x = np.zeros((n, width))
        axes = rng.permutation(width)
        for i in range(1, n):
            x[i] = x[tree[i]]
            x[i, axes[i]] = 1
        hidden.append(x)
        lengths.append(n)
        distances.append(tree_distances(tree))
        found.append(np.array(depths(tree), dtype=float))
    rotation = np.linalg.qr(rng.normal(size=(width, width)))[0]
    good = torch.tensor(np.concatenate(hidden) @ rotation, dtype=torch.float32)
    noise = torch.randn(good.shape, generator=torch.Generator().manual_seed(1))
    return Trees(torch.stack([good, noise]), np.array(lengths), distances, found)


@pytest.mark.slow
@pytest.mark.parametrize("geometry", ["euclidean", "poincare"])
def test_trees_that_are_there_are_found_and_not_in_noise(geometry):
    train, dev, test = (embedded_trees(seed, n) for seed, n in ((0, 200), (0, 40), (0, 40)))
    probe = TreeProbe(rank=24, geometry=geometry, epochs=30, lr=1e-2)
    said = probe.fit(train, dev)(test)
    kept = [np.ones(len(d), bool) for d in test.distances]
    gold = [spanning_tree(d, k) for d, k in zip(test.distances, kept, strict=True)]
    shares = []
    for layer in range(2):
        hit, of = shared_edges(gold, [spanning_tree(d[layer], k) for d, k in zip(said, kept, strict=True)])
        shares.append(hit.sum() / of.sum())
    assert shares[0] > 0.9 and shares[1] < 0.7
    depth = replace(probe, kind="depth").fit(train, dev)(test)
    assert spearman_by_length(test.depths, [d[0] for d in depth]) > 0.8
    assert all(np.isfinite(d).all() for d in [*said, *depth])


def test_layers_do_not_touch_one_another():
    trees = embedded_trees(sentences=30)
    alone = Trees(trees.hidden[:1], trees.lengths, trees.distances, trees.depths)
    probe = TreeProbe(rank=4, epochs=2)
    both, one = probe.fit(trees, trees)(trees), probe.fit(alone, alone)(alone)
    assert both[0].shape[0] == 2 and one[0].shape[0] == 1


def test_points_far_out_do_not_break_the_ball():
    trees = embedded_trees(sentences=20)
    far = Trees(trees.hidden * 1e4, trees.lengths, trees.distances, trees.depths)
    said = TreeProbe(rank=4, geometry="poincare", epochs=2).fit(far, far)(far)
    assert all(np.isfinite(d).all() for d in said)


def test_vectors_that_are_not_finite_and_sentences_of_one_word_are_refused():
    trees = embedded_trees(sentences=5)
    with pytest.raises(ProbeError, match="not finite"):
        TreeProbe().fit(Trees(trees.hidden * torch.nan, trees.lengths, trees.distances, trees.depths), trees)
    one = Trees(torch.zeros(2, 3, 24), np.array([1, 1, 1]), [np.zeros((1, 1))] * 3, [np.zeros(1)] * 3)
    with pytest.raises(ProbeError, match="two words"):
        TreeProbe().fit(one, one)


@pytest.fixture(scope="module")
def found():
    method, model, data = StructuralProbe.tiny()
    return method.run(model, data)


def test_every_control_is_there(found):
    assert set(found.controls) == {"random_weights", "chain", "first_verb", "layer_0", "jabberwocky"}
    assert list(found.table()["layer"]) == [0, 1, 2]
    # det and amod hang on the next word, so the chain is right about most edges.
    assert 0.5 < found.controls["chain"]["uuas"] < 1
    assert found.controls["first_verb"]["root_accuracy"] == 1
    assert any("root accuracy shows nothing here" in sentence for sentence in found.findings)
    assert (found.table()["low"] <= found.table()["uuas"]).all()
    assert {"jabberwocky", "random_jabberwocky"} <= set(found.table())


def test_the_figure_draws_trees_and_the_result_comes_back(found, tmp_path):
    again = StructuralResult.load(found.save(tmp_path))
    curve, drawn = again.figure().axes
    assert len(curve.lines) >= 3
    tree = again.facts["trees"][0]
    assert len(drawn.patches) == len(tree["gold"]) + len(tree["predicted"])
    assert [text.get_text() for text in drawn.texts] == tree["words"]


def test_a_sweep_of_ranks_and_the_ball():
    _, model, data = StructuralProbe.tiny()
    probe = StructuralProbe(ranks=(2, 8), epochs=1, train_sentences=20, test_sentences=8, geometry="poincare")
    found = probe.run(model, data)
    assert found.table()[["rank", "layer"]].to_numpy().tolist() == [[r, k] for r in (2, 8) for k in (0, 1, 2)]
    assert found.facts["best_rank"] in (2, 8)


def test_other_data_and_sentences_without_trees_are_refused():
    bare = Treebank(sentences=tuple(replace(s, heads=None) for s in tiny_treebank().sentences))
    with pytest.raises(ProbeError, match="no tree"):
        StructuralProbe().run(tiny("bert"), bare)
    with pytest.raises(ProbeError, match="no ranks"):
        StructuralProbe(ranks=()).run(tiny("bert"), tiny_treebank())


def test_made_up_words_keep_what_syntax_shows():
    bank = tiny_treebank()
    cats = Sentence(words=("The", "Cats", "WALKED", "quickly", "to", "cats", "."), id="s", document="x", tags={
        "upos": ("DET", "NOUN", "VERB", "ADV", "ADP", "NOUN", "PUNCT")})  # fmt: skip
    made = jabberwocky(replace(bank, sentences=(*bank.sentences, cats)), seed=1)
    words = made.sentences[-1].words
    assert (words[0], words[4], words[6]) == ("The", "to", ".")
    assert words[1].istitle() and words[1].endswith("s") and words[1].lower() == words[5]
    assert words[2].isupper() and words[2].endswith("ED") and words[3].endswith("ly")
    old = {w.lower() for s in bank.sentences for w in s.words}
    for before, after in zip(bank.sentences, made.sentences, strict=False):
        for i, tag in enumerate(before.tags["upos"]):
            assert (after.words[i].lower() not in old) if tag in OPEN else after.words[i] == before.words[i]
        assert after.heads == before.heads
    assert jabberwocky(bank, seed=1).words == jabberwocky(bank, seed=1).words != jabberwocky(bank, seed=2).words
    with pytest.raises(ProbeError, match="no part-of-speech"):
        jabberwocky(Treebank(sentences=(Sentence(words=("a",)),)))


@pytest.mark.slow
def test_trees_in_minilm():
    folder = available_folder("ud_ewt")
    if folder is None:
        pytest.skip("ud_ewt is not here; set TRACEMEND_DATA")
    bank = read_conllu(folder)
    # Reading them is what takes long, and long ones have most of the words.
    bank = bank.take([i for i, sentence in enumerate(bank.sentences) if 4 <= len(sentence) <= 15])
    found = StructuralProbe(layers=(0, 3), train_sentences=500, test_sentences=120).run(load("minilm"), bank)
    assert found.facts["best_layer"] == 3
    assert found.metrics["uuas"] > found.controls["chain"]["uuas"] + 0.1
    assert found.metrics["uuas"] > found.controls["random_weights"]["uuas"] + 0.1


def test_sentences_beyond_the_window_are_left_out_and_counted() -> None:
    probe, _, data = StructuralProbe.tiny()
    probe = replace(probe, train_sentences=200)
    short = replace(tiny("bert"), window=7)
    found = probe.run(short, data)
    assert any("texts have more tokens than the window" in said for said in found.findings)
    assert 0 < found.facts["n_test"] < probe.run(tiny("bert"), data).facts["n_test"]
    with pytest.raises(ProbeError, match="no text of train fits the window"):
        probe.run(replace(tiny("bert"), window=3), data)
