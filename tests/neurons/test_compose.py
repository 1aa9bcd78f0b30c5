"""Formulas of units: planted ones are found, chance is measured, and bad input is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom, spearmanr

from tests.neurons.planted import SITE, UNIT, planted_unit
from tracemend.data import Labelled, Sentence
from tracemend.errors import NeuronError
from tracemend.models import tiny
from tracemend.models.sites import trunk
from tracemend.neurons import ClassifierComposition, Composition, compose, texts
from tracemend.neurons import edits as room
from tracemend.neurons.features import Features
from tracemend.neurons.formulas import OPERATORS, Formula, by_chance, iou, search
from tracemend.neurons.rightness import rightness
from tracemend.neurons.text_features import atoms, is_word, with_word
from tracemend.tuning import TextClassifier

NAMES = ("a", "b", "c", "d")


def masks(seed, features=4, n=60):
    return np.random.default_rng(seed).random((features, n)) < 0.4


@given(st.integers(0, 60), st.sampled_from(OPERATORS), st.permutations(range(4)))
@settings(max_examples=25, deadline=None)
def test_a_planted_formula_is_found(seed, operator, order):
    features = masks(seed)
    planted = Formula(tuple(order[:2]), (operator,))
    fires = planted.mask(features)
    if not fires.any():
        return
    found = search(fires, features, length=2, beam=4)
    assert iou(fires, found[-1].mask(features)) == 1.0


@given(st.integers(0, 40))
@settings(max_examples=15, deadline=None)
def test_the_search_scores_what_the_formula_scores(seed):
    features, fires = masks(seed, n=40), masks(seed + 1, 1, 40)[0]
    found = search(fires, features, length=3, beam=20)
    scores = [float(iou(fires, one.mask(features))) for one in found]
    assert scores == sorted(scores)
    every = [Formula((i, j), (op,)) for i in range(4) for j in range(4) for op in OPERATORS if i != j]
    every += [Formula((i,)) for i in range(4)]
    assert scores[1] == pytest.approx(max(float(iou(fires, one.mask(features))) for one in every))


def test_a_penalty_keeps_formulas_short():
    features = masks(0, n=200)
    fires = features[0].copy()
    fires[:3] |= features[1, :3]
    assert len(search(fires, features, length=3, beam=4, penalty=0.5)[-1].features) == 1


def test_formulas_are_said_with_brackets():
    assert Formula((0, 1, 2), ("OR", "OR")).text(NAMES) == "a OR b OR c"
    assert Formula((0, 1, 2), ("OR", "AND NOT")).text(NAMES) == "(a OR b) AND NOT c"
    assert Formula((0, 1), ("AND NOT",)).signs() == [(0, True), (1, False)]


def test_iou_of_nothing_is_nothing():
    empty = np.zeros(3, dtype=bool)
    assert iou(empty, empty) == 0.0
    assert iou(np.array([True, True, False]), np.array([False, True, True])) == pytest.approx(1 / 3)


def test_chance_is_high_for_what_always_holds():
    rng = np.random.default_rng(0)
    fires = rng.random(400) < 0.1
    _, p = by_chance(fires, fires, draws=99, rng=rng)
    assert p == 0.01
    level, p = by_chance(fires, np.ones(400, dtype=bool), draws=99, rng=rng)
    assert p == 1.0 and level == pytest.approx(fires.mean())


def test_features_are_tags_forms_lemmas_and_neighbours():
    tags = {
        "upos": ("DET", "NOUN"),
        "lemma": ("the", "movie"),
        "feats": ("", "Number=Sing"),
        "deprel": ("det", "obj:x"),
    }
    rows = [
        Sentence(words=("The", "movie"), tags=tags),
        Sentence(words=("a", "7th"), tags={"upos": ("DET", "NOUN")}),
    ] * 5
    found = Features.of_words(rows, rows[:1], fewest=1, most=10)
    assert {"upos=NOUN", "Number=Sing", "capital", "word=a", "digit"} <= set(found.names)
    # What holds of the same words as a feature before is left out.
    assert not {"lemma=movie", "word=movie", "deprel=obj", "word=the"} & set(found.names)
    assert found.test[found.names.index("upos=NOUN")].tolist() == [False, True]
    many = [
        Sentence(words=(w,), tags={"lemma": (w,)}) for w in ("good", "bad", "movie", "film", "love", "hate", "stop")
    ]
    near = Features.of_words(many * 3, many, fewest=2, most=10, model=tiny("bert"))
    centres = [i for i, name in enumerate(near.names) if name.startswith("near=")]
    assert centres and all(near.test[i].sum() == 6 for i in centres)


def test_the_planted_unit_is_explained_as_nouns():
    model, bank, _ = planted_unit()
    method = replace(Composition.tiny()[0], site=SITE, units=(UNIT,), top=0.4, length=1)
    found = method.run(model, bank)
    first = found.table().iloc[0]
    assert first["formula"] == "upos=NOUN" and first["iou"] > 0.6
    assert first["iou"] > first["chance"] + 0.3
    assert found.metrics["explained"] == 1.0 and found.controls["shuffled"]["iou"] < 0.5


def test_longer_formulas_are_no_worse_in_training():
    method, model, bank = Composition.tiny()
    found = replace(method, length=3).run(model, bank)
    train = found.facts["by_length"]["train"]
    assert train == sorted(train) and len(train) == 3
    assert len(found.table()) == 4 and found.table()["iou"].is_monotonic_decreasing


@pytest.mark.parametrize(
    "options",
    [
        {"length": 0},
        {"top": 0.7},
        {"penalty": 0.0},
        {"units": (64,)},
        {"top": 0.001},
        {"fewest": 10_000},
        {"site": "blocks.0.attn.hook_pattern"},
        {"units": (2, 3, 2)},
    ],
    ids=str,
)
def test_bad_settings_are_refused(options):
    method, model, bank = Composition.tiny()
    with pytest.raises(NeuronError) as caught:
        replace(method, **options).run(model, bank)
    assert len(str(caught.value)) > 30


def test_a_dead_unit_is_named():
    method, model, bank = Composition.tiny()
    dense = model.network.encoder.layer[1].intermediate.dense
    with torch.no_grad():
        dense.weight[3], dense.bias[3] = 0.0, 0.0
    with pytest.raises(NeuronError, match="unit 3 fires on 0"):
        replace(method, units=(3,)).run(model, bank)


def test_two_networks_are_told_apart_by_the_spread_of_both():
    """Own units that vary little and stand above the untrained mean, which is itself uncertain."""
    method = Composition.tiny()[0]
    formula = [Formula((0,))] * 4
    rows = pd.DataFrame({"unit": [1], "formula": ["a"], "iou": [0.3], "train_iou": [0.3], "chance": [0.1], "p": [0.5]})

    def searched(values: list[float]) -> Any:
        return compose._Searched(formula, np.array([values]).T, np.array([values]).T)

    own, shuffled = searched([0.30, 0.31, 0.32, 0.33]), searched([0.0] * 4)
    spread, tight = searched([0.0, 0.6, 0.1, 0.3]), searched([0.1, 0.11, 0.12, 0.13])
    for fresh, verb in ((spread, "is not shown to be above"), (tight, "is above")):
        said = method._findings(rows, {"held_out": own, "random_weights": fresh, "shuffled": shuffled})
        assert any(f"0.315, {verb} that of the untrained network" in line for line in said), said


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_only_the_texts_own_tokens_count(architecture):
    classifier = TextClassifier(tiny(architecture), ("bad", "good"), rank=2, max_length=64)
    pairs = [("love this movie", None), ("hate", "go on then"), ("the people and the film", None)]
    site = "blocks.1.mlp.hook_post"
    high, said = texts.peaks(classifier, pairs, site)
    own = np.stack([h.max(0) for h, _ in texts.on_tokens(classifier, pairs, site)])
    np.testing.assert_allclose(high, own, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(said.sum(1), 1.0, rtol=1e-6)
    # The words of a prompt and special tokens are there, and would have been the highest of some units.
    rows, places = classifier.encode(pairs)[0], classifier.places(pairs)
    assert all(len(row) > sum(place is not None for place in of) for row, of in zip(rows, places, strict=True))


def test_a_text_without_a_token_is_named():
    classifier = TextClassifier(tiny("bert"), ("bad", "good"), rank=2, max_length=64)
    with pytest.raises(NeuronError, match="leave the text out"):
        texts.peaks(classifier, [("fine", None), ("", None)], "blocks.1.mlp.hook_post")


def test_a_classifiers_unit_is_put_into_words_and_judged():
    method, classifier, data = ClassifierComposition.tiny()
    found = replace(method, neurons=64).run(classifier, data)
    rows = found.table()
    # A unit may fire on no measured text.
    assert set(rows["label"]) <= {"good", "bad"} and rows["right"].dropna().between(0, 1).all()
    assert rows["right"].notna().mean() > 0.9
    # Every text is there twice, so that a formula that fits training fits the rest as well.
    assert found.metrics["iou"] > found.controls["shuffled"]["iou"]
    assert found.metrics["train_iou"] >= found.metrics["iou_1"] and np.isfinite(found.metrics["link"])
    assert found.metrics["edit"] == pytest.approx(rows["edit"].mean())
    for figure in ("edit", "fired", "flipped"):
        random = found.controls["random_word"][figure]
        assert random == pytest.approx(rows[f"{figure}_random"].mean(), nan_ok=True)
    assert rows["fired"].dropna().between(0, 1).all() and rows["fired"].notna().any()
    assert found.figure().axes


def test_units_on_the_same_texts_are_no_independent_cases():
    """Twenty units fire on the same half of the texts, twenty on the other: it is one gap between two halves."""
    rng = np.random.default_rng(0)
    half, fit = np.arange(60) < 30, np.repeat([0.1, 0.9], 20) + rng.normal(0, 0.01, 40)
    fires = np.stack([half] * 20 + [~half] * 20) & (rng.random((40, 60)) < 0.95)
    hit = np.arange(60) % 10 > 0
    hit[[5, 15]] = False
    right = [hit[mask].mean() for mask in fires]
    assert spearmanr(fit, right).pvalue < 0.001
    found = rightness(fires, hit, fit, list(range(60)), draws=500, seed=0)
    assert found.link > 0.1 and found.less.min() > 0.1
    # Where the halves do differ it is shown, and of the half where it errs alone.
    found = rightness(fires, ~half | (np.arange(60) % 2 == 0), fit, list(range(60)), draws=500, seed=0)
    assert found.link < 0.05 and found.less[:20].max() < 0.05 < found.less[20:].min()
    assert (found.low[:20] < 0.5).all() and (found.low <= found.high).all()


@pytest.mark.slow
def test_the_lowest_of_many_units_is_held_against_the_lowest_by_chance():
    rng = np.random.default_rng(0)
    shown = {"of many": 0, "alone": 0}
    for _ in range(20):
        hit, fires = rng.random(100) < 0.8, rng.random((60, 100)) < 0.1
        shown["of many"] += rightness(fires, hit, rng.random(60), list(range(100)), draws=99, seed=0).less.min() <= 0.05
        shown["alone"] += min(hypergeom.cdf(hit[of].sum(), 100, hit.sum(), of.sum()) for of in fires) <= 0.05
    assert shown["of many"] <= 3 and shown["alone"] >= 15


def test_a_groups_answers_stay_together():
    """Ten groups of which one is wrong throughout: one case, however many texts it has."""
    groups = np.repeat(np.arange(10), 12)
    hit, fires = groups > 0, np.stack([groups == 0, groups > 4])
    assert rightness(fires, hit, np.zeros(2), list(range(120)), draws=200, seed=0).less[0] < 0.01
    assert rightness(fires, hit, np.zeros(2), groups.tolist(), draws=200, seed=0).less[0] > 0.05
    silent = rightness(np.zeros((2, 120), dtype=bool), hit, np.zeros(2), groups.tolist(), draws=9, seed=0)
    assert np.isnan([silent.link, *silent.low, *silent.less]).all()
    never_wrong = rightness(fires, np.ones(120, dtype=bool), np.zeros(2), list(range(120)), draws=9, seed=0)
    assert np.isnan(never_wrong.less).all()


def test_what_is_not_shown_of_right_answers_is_not_said():
    method, classifier, data = ClassifierComposition.tiny()
    found = method.run(classifier, data)
    assert found.table()["right_p"].min() > 0.05 and found.facts["link_p"] > 0.05
    assert not any("right less often where unit" in said for said in found.findings)
    assert any(said.startswith("A link of IoU with being right is not shown") for said in found.findings)


def test_words_that_drive_a_classifier_are_found_and_move_it():
    """A head that answers to one unit of the embeddings' sum: what drives the unit drives the answer."""
    method, classifier, data = ClassifierComposition.tiny()
    site, unit = "blocks.1.hook_resid_post", 7
    with torch.no_grad():
        weight = classifier.network.base_model.model.classifier.modules_to_save["default"].weight
        weight.zero_()
        weight[0, unit], weight[1, unit] = -3.0, 3.0
    found = replace(method, site=site, units=(unit,), length=1).run(classifier, data)
    row = found.table().iloc[0]
    assert row["formula"].startswith("word=") and np.isfinite(row["edit"]) and np.isfinite(row["edit_random"])


@pytest.mark.parametrize(
    "options",
    [
        {"top": 0.0},
        {"units": (64,)},
        {"units": (2, 2)},
        {"top": 0.001},
        {"fewest": 99},
        {"edited": 0},
        {"penalty": 2.0},
    ],
    ids=str,
)
def test_bad_settings_of_texts_are_refused(options):
    method, classifier, data = ClassifierComposition.tiny()
    with pytest.raises(NeuronError) as caught:
        replace(method, **options).run(classifier, data)
    assert len(str(caught.value)) > 30


def test_a_dead_unit_of_a_classifier_is_named():
    method, classifier, data = ClassifierComposition.tiny()
    site = "blocks.1.mlp.hook_post"
    dense: Any = trunk(classifier.network).get_submodule("encoder.layer.1.intermediate.dense")
    with torch.no_grad():
        dense.weight[3], dense.bias[3] = 0.0, 0.0
    with pytest.raises(NeuronError, match="unit 3 fires on 0"):
        replace(method, site=site, units=(3,)).run(classifier, data)


def test_texts_are_words_and_shapes():
    assert atoms(("STOP it, don't!", None)) == ["word=stop", "word=it", "word=don't", "exclamation", "capitals"]
    assert atoms(("@you", "7?")) == ["word=you", "word=7", "question", "digit", "mention"]
    # A word of no side goes before the reply.
    assert with_word(("a b", None), "word=c") == ("c a b", None) and with_word(("a", "b"), "word=c") == ("a", "c b")


def test_sides_are_features_of_their_own_with_their_overlap():
    found = atoms(("A dog runs.", "no dog?"), sides=True)
    assert found == ["text:word=a", "text:word=dog", "text:word=runs", "reply:word=no", "reply:word=dog",
                     "reply:question", "overlap>=25", "overlap>=50"]  # fmt: skip
    assert atoms(("a b", None), sides=True) == ["word=a", "word=b"]
    assert [name for name in atoms(("a b", "B b a"), sides=True) if "overlap" in name][-1] == "overlap>=100"
    assert not [name for name in atoms(("", ""), sides=True) if "overlap" in name]
    assert with_word(("a", "b"), "text:word=c") == ("c a", "b")
    assert with_word(("a", "b"), "reply:word=c") == ("a", "c b")
    assert [is_word(name) for name in ("word=a", "reply:word=a", "overlap>=50", "reply:question")] == [
        True, True, False, False,
    ]  # fmt: skip


@given(st.text(max_size=30), st.text(max_size=30))
@settings(max_examples=50, deadline=None)
def test_overlap_only_grows_with_its_levels_and_is_whole_with_itself(text, reply):
    held = [name for name in atoms((text, reply), sides=True) if name.startswith("overlap")]
    assert held == ["overlap>=25", "overlap>=50", "overlap>=75", "overlap>=100"][: len(held)]
    itself = atoms((text, text), sides=True)
    assert ("overlap>=100" in itself) == any(is_word(name) for name in itself)


def test_edits_put_the_formulas_word_on_its_side_and_count_what_changes(monkeypatch):
    """A stand-in for a classifier that answers to one word of the reply, and whose unit 1 fires on it."""
    seen: list[tuple[str, str | None]] = []

    def peaks(classifier, pairs, site, *, batch_size):
        seen.extend(pairs)
        said = np.array([float("hate" in (reply or "").split()) for _, reply in pairs])
        return np.stack([np.zeros(len(pairs)), said], axis=1), np.stack([0.9 - 0.7 * said, 0.1 + 0.7 * said], axis=1)

    monkeypatch.setattr(room, "peaks", peaks)
    # The last of them is wrong before anything is added, and the first two are where the unit fires already.
    texts, replies = [f"text {i}" for i in range(6)], ["hate this", "I hate it", "go", "stop", "go on", "no"]
    data = Labelled.make(
        texts, ["bad", "bad", "good", "good", "good", "bad"], replies=replies, label_names=["good", "bad"]
    )
    names = ("reply:word=hate", "reply:word=go", "overlap>=50")
    known = Features(names, np.zeros((3, 6), dtype=bool), np.zeros((3, 6), dtype=bool))
    before = peaks(None, data.pairs, "", batch_size=1)[1]
    seen.clear()
    edits = room.Edits(None, "", data, before, known, Counter(dict.fromkeys(names, 2)), 10, 4)
    fires = np.array([True, True, False, False, False, False])
    found = edits.measure(1, 0.5, fires, 1, Formula((0,)), np.random.default_rng(0))
    assert {pair for pair in seen if "hate" in (pair[1] or "")} == {
        (f"text {i}", f"hate {replies[i]}") for i in range(2, 6)
    }
    assert found["edit"] == pytest.approx(0.7) and found["edit_random"] == 0.0
    assert (found["fired"], found["fired_random"]) == (1.0, 0.0)
    assert (found["flipped"], found["flipped_random"]) == (1.0, 0.0)
    # The label that the wrong one has is no error to be made.
    other = edits.measure(1, 0.5, fires, 0, Formula((0,)), np.random.default_rng(0))
    assert np.isnan(other["flipped"]) and other["edit"] == pytest.approx(-0.7)
    for formula in (Formula((2,)), Formula((2, 0), ("AND NOT",))):
        assert all(
            np.isnan(value) for value in edits.measure(1, 0.5, fires, 1, formula, np.random.default_rng(0)).values()
        )
    assert np.isnan(edits.measure(1, 0.5, ~fires | fires, 1, Formula((0,)), np.random.default_rng(0))["edit"])
