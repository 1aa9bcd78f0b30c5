"""SASC: names what planted functions respond to, says nothing of those without meaning, refuses what is no function."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.concepts import LabelOdds, Sasc, SascResult, UnitOfSite
from tracemend.concepts.modules import checked, module_of
from tracemend.concepts.sasc import _findings, tiny_corpus
from tracemend.concepts.themes import drivers, grams, held_out, sentences
from tracemend.errors import ConceptError
from tracemend.models import capture, load, tiny
from tracemend.neurons.classifier import fit
from tracemend.neurons.units import vectors
from tracemend.tuning import TextClassifier

TEXTS = ["you love this movie", "no", "i hate the film so very much"]


@given(st.lists(st.text("ab ,.", max_size=20), max_size=8), st.integers(1, 4), st.integers(10, 60))
@settings(max_examples=40, deadline=None)
def test_grams_stand_in_the_texts_and_never_cross_punctuation(corpus, longest, most):
    made = grams(corpus, longest=longest, most=most, seed=0)
    assert len(set(made.texts)) == len(made.texts) <= most
    assert made.texts[: len(made.vocabulary)] == made.vocabulary
    for text, words in zip(made.texts, made.words, strict=True):
        assert len(text.split()) == len(words) <= longest
        runs = [" ".join(run.split()) for one in corpus for run in one.replace(".", ",").split(",")]
        assert any(text in run for run in runs)


def test_a_word_drives_by_what_holds_it_and_hidden_words_have_no_part():
    made = grams(["good bread", "good road", "bad bread", "bad road", "old road"], longest=2, most=40, seed=0)
    values = np.array([2.0 * text.count("good") + text.count("old") for text in made.texts])
    z = (values - values.mean()) / values.std()
    nothing = np.zeros(len(made.vocabulary), dtype=bool)
    found, lift = drivers(made, z, nothing, 2)
    assert made.vocabulary[found[0]] == "good" and lift[0] == lift.max()
    hidden = np.array([word == "good" for word in made.vocabulary])
    assert made.vocabulary[drivers(made, z, hidden, 2)[0][0]] == "old"


def test_forms_of_one_word_are_hidden_together():
    words = [f"{stem}{end}" for stem in ("animal", "kitchen", "railway", "teacher") for end in ("", "s", "x")]
    for seed in range(10):
        kept = held_out(words, share=0.5, seed=seed).reshape(4, 3)
        assert (kept.all(1) | ~kept.any(1)).all()


def test_sentences_hold_their_words_in_the_same_frames():
    one, other = sentences(["bread", "soup"], 6), sentences(["road"], 6)
    assert [text.replace("road", "") for text in other] == [
        text.replace("bread", "").replace("soup", "") for text in one
    ]
    assert sum("soup" in text for text in one) == 3


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "t5"])
@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_a_unit_is_read_over_the_tokens_of_the_text(architecture, pooling):
    model = tiny(architecture)
    found = checked(UnitOfSite(model, "blocks.1.mlp.hook_post", 3, pooling), TEXTS)
    for text, value in zip(TEXTS, found, strict=True):
        made = model.tokenizer(text, return_special_tokens_mask=True)
        inputs = {"input_ids": torch.tensor([made["input_ids"]])}
        network = model.network.get_encoder() if architecture == "t5" else model.network.base_model
        with torch.no_grad(), capture(model, ["blocks.1.mlp.hook_post"]) as seen:
            network(**inputs)
        own = seen["blocks.1.mlp.hook_post"][0, torch.tensor(made["special_tokens_mask"]) == 0, 3]
        expected = own.max() if pooling == "max" else own.mean()
        assert value == pytest.approx(float(expected), rel=1e-4, abs=1e-5)


def test_the_odds_of_a_label_are_those_of_its_probability():
    classifier = TextClassifier(tiny("bert"), ("bad", "good", "so so"), kind="head", max_length=24)
    p = classifier.probabilities([(text, None) for text in TEXTS]).astype(np.float64)[:, 1]
    np.testing.assert_allclose(checked(LabelOdds(classifier, "good"), TEXTS), np.log(p / (1 - p)), rtol=1e-3, atol=1e-4)
    with pytest.raises(ConceptError, match="did you mean 'good'"):
        checked(LabelOdds(classifier, "goood"), TEXTS)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda text: float("nan"), "nan"),
        (lambda text: np.inf, "inf"),
        (lambda text: "much", "returned str"),
        (lambda text: True, "returned bool"),
        (lambda text: None, "returned NoneType"),
        (lambda text: np.zeros(3), "returned ndarray"),
        (lambda text: 4.2, "constant"),
        (3, "int is no function"),
    ],
    ids=["nan", "inf", "text", "truth", "none", "vector", "constant", "number"],
)
def test_what_is_no_number_is_refused(function, said):
    with pytest.raises(ConceptError, match=said):
        Sasc.tiny()[0].run(function, tiny_corpus())


@pytest.mark.parametrize("value", [1, 2.5, np.float32(3), torch.tensor(2.0)], ids=repr)
def test_every_kind_of_number_is_taken(value):
    assert checked(module_of(lambda text: value), ["a", "b"]).tolist() == [float(value)] * 2


@pytest.mark.parametrize(
    ("options", "data", "said"),
    [({}, ["too few words"], "6 different n-grams"), ({"texts": 1}, None, "texts is 1"),
     ({"directions": 0}, None, "directions is 0"),
     ({"grams": 100}, None, "grams is"),
     ({}, "a text", "takes a list of texts, not str")],
    ids=str,
)  # fmt: skip
def test_bad_settings_are_refused(options, data, said):
    method, module, corpus = Sasc.tiny()
    with pytest.raises(ConceptError, match=said):
        replace(method, **options).run(module, data or corpus)


def test_a_result_says_what_was_tested(tmp_path):
    method, module, corpus = Sasc.tiny()
    found = method.run(module, corpus)
    assert SascResult.load(found.save(tmp_path)).rows.equals(found.rows)
    for row in found.rows.to_dict("records"):
        assert not set(row["drivers"].split(", ")) & set(row["tested"].split(", "))
    assert found.metrics["score"] == found.rows["score"][0]
    assert found.rows["chosen_by"].is_monotonic_decreasing


def test_an_explanation_must_beat_shuffles_and_random_directions():
    first = pd.Series({"explanation": "food", "score": 1.5, "low": 1.1, "high": 1.9})
    assert _findings(first, [0.1, 0.3], [0.9, 1.4])[0].startswith("The best explanation is 'food'")
    for lower in ({"score": 0.9}, {"low": -0.1}):
        assert _findings(pd.Series({**first, **lower}), [0.1], [0.2])[0].startswith("No explanation is shown")
    for arms in (([0.1, 1.6], [0.2]), ([0.1], [0.2, 1.5])):
        assert "at most" in _findings(first, *arms)[0] and _findings(first, *arms)[0].startswith("No explanation")


_PRAISE = """
love great nice happy wonderful beautiful kind lovely joyful gentle pleasant good charming sweet cheerful delightful
splendid superb excellent marvellous gorgeous friendly graceful adorable fantastic brilliant glad merry perfect fabulous
elegant admirable magnificent enjoyable amazing awesome
"""
_THINGS = """
road bridge engine wheel travel station ticket bus teacher school paper lesson pupil exam letter page river stone hill
snow wind cloud field doctor nurse fever hospital wound bone money bank price market trade tax coin debt window door
kitchen table lamp chair floor roof wall brick nail hammer rope
"""


@pytest.mark.slow
def test_a_planted_unit_is_found():
    """A neuron of minilm that fires along a probe's direction of praise; a third of the words is never asked about."""
    model, site = load("minilm"), "blocks.2.mlp.hook_post"
    praise, things = _PRAISE.split(), _THINGS.split()
    said = [(word,) for word in (*praise, *things)]
    x = torch.cat(vectors(model, said, "blocks.2.hook_resid_mid"))
    y = torch.tensor([1] * len(praise) + [0] * len(things))
    mean, scale = x.mean(0), x.std(0)
    weight, bias = fit(((x - mean) / scale)[None], y[None], 2)
    direction = (weight[0, 0, :, 1] - weight[0, 0, :, 0]) / scale
    dense: Any = model.network.get_submodule("encoder.layer.2.intermediate.dense")
    with torch.no_grad():
        dense.weight[5] = direction
        dense.bias[5] = bias[0, 0, 0, 1] - bias[0, 0, 0, 0] - direction @ mean
    rng = np.random.default_rng(0)
    corpus = [" ".join(rng.choice([*praise, *things], 5).tolist()) for _ in range(120)]
    method = Sasc.tiny()[0]
    found = method.run(UnitOfSite(model, site, 5), corpus)
    assert set(found.facts["explanation"].split(", ")) <= set(praise)
    # Two topics are a small world: the best of several themes about anything is often praise, so that shuffled answers
    # are no control here; random directions are.
    assert found.metrics["low"] > 1 > max(found.facts["direction_scores"])


@pytest.mark.slow
def test_random_directions_are_scored_beside_and_do_not_hang_on_the_function():
    method, module, corpus = Sasc.tiny()
    found = replace(method, directions=2).run(module, corpus)
    scores = found.facts["direction_scores"]
    assert len(set(scores)) == 2 and found.controls["random_direction"]["score"] == pytest.approx(
        np.mean(scores), abs=1e-4
    )
    other = replace(method, directions=2).run(lambda text: len(text), corpus)
    assert other.facts["direction_scores"] == scores
