"""Ablation scores: one for the truth, nought for the mean, and the model is left as it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.neurons.planted import SITE, UNIT, planted_unit
from tracemend.errors import NeuronError
from tracemend.models import align, tiny
from tracemend.neurons import Explain
from tracemend.neurons.substitution import Substitution, calibrated
from tracemend.neurons.units import vectors

WORDS = [("the", "movie", "stop", "my", "people"), ("a", "film", "go"), ("this", "reply", "love", "the", "movie")]


@given(st.integers(0, 50), st.floats(-3, 3), st.floats(-5, 5))
@settings(max_examples=30, deadline=None)
def test_a_simulation_on_another_scale_is_put_on_the_units(seed, slope, offset):
    known = np.random.default_rng(seed).normal(size=30)
    np.testing.assert_allclose(calibrated(known, known, slope * known + offset), slope * known + offset, atol=1e-8)


def test_a_constant_simulation_says_the_mean():
    assert calibrated(np.ones(2), np.ones(4), np.array([0.0, 1, 2, 5])).tolist() == [2.0, 2.0]


@pytest.mark.parametrize("site", ["blocks.0.mlp.hook_post", "blocks.0.attn.hook_z", "blocks.1.hook_resid_post"])
@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "t5"])
def test_the_truth_changes_nothing_and_the_mean_scores_nought(architecture, site):
    model = tiny(architecture)
    words = [("a", "b", "c", "d"), ("e", "f", "a")]
    true = np.concatenate([of.numpy() for of in vectors(model, words, site)])
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    unit = int(true.std(0).argmax())
    own = true[:, unit]
    put = Substitution(model, site)
    found = put.score(words, unit, {"true": own, "mean": np.full(7, 0.5), "far": own + 5}, 0.5)
    if sum((of >= 0).sum() for of in align(model, words).unit) == 7:
        # One token a word, so that a word's activation is its token's.
        assert found["true"] == pytest.approx(1.0, abs=1e-3)
    assert found["mean"] == pytest.approx(0.0, abs=1e-9) and found["far"] < found["true"]
    assert all(torch.equal(before[name], value) for name, value in model.network.state_dict().items())


def test_of_a_decoder_the_distance_is_jensen_shannon_divergence():
    model = tiny("gpt2")
    put = Substitution(model, "blocks.0.mlp.hook_post")
    rng = np.random.default_rng(0)
    one, other = (torch.from_numpy(rng.dirichlet(np.ones(9), size=(1, 3))) for _ in range(2))
    middle = (one + other) / 2
    expected = 0.5 * ((one * (one / middle).log2()).sum(-1) + (other * (other / middle).log2()).sum(-1))
    torch.testing.assert_close(put._distance(one.log(), other.log()), expected)
    assert float(put._distance(one.log(), one.log()).max()) < 1e-12


def test_batches_make_no_difference():
    model = tiny("bert")
    put = Substitution(model, "blocks.0.mlp.hook_post")
    many = WORDS * 4
    values = np.random.default_rng(0).normal(size=sum(len(words) for words in many))
    whole = put.distances(many, 3, {"x": values})["x"]
    starts, total, tokens = np.cumsum([0, *(len(words) for words in many)]), 0.0, 0
    for i, words in enumerate(many):
        n = len(model.tokenizer(" ".join(words)).input_ids)
        total += n * put.distances([words], 3, {"x": values[starts[i] : starts[i + 1]]})["x"]
        tokens += n
    assert whole == pytest.approx(total / tokens, rel=1e-4)


def test_a_site_that_is_read_only_is_refused():
    with pytest.raises(NeuronError, match="ablated"):
        Substitution(tiny("llama"), "blocks.0.hook_resid_mid")


def test_the_right_explanation_keeps_the_output_and_another_does_not():
    model, bank, _ = planted_unit()
    # A weight so that the network needs the unit.
    with torch.no_grad():
        model.network.encoder.layer[1].output.dense.weight[:, UNIT] *= 20
    method = replace(Explain.tiny()[0], site=SITE, units=(UNIT, 20), parts=6, ablated=1)
    found = method.run(model, bank)
    row = found.table().set_index("unit").loc[UNIT]
    assert row["ablation_true"] > 0.9 and row["ablation"] > 0.5
    assert row["ablation"] > row["ablation_other"] + 0.2 and row["ablation"] > row["ablation_shuffled"] + 0.5
    assert np.isnan(found.table().set_index("unit").loc[20, "ablation"])
    assert found.metrics["ablation"] == pytest.approx(row["ablation"])
    assert found.controls["shuffled"]["ablation"] == pytest.approx(row["ablation_shuffled"])
    none = replace(method, ablated=0).run(model, bank)
    assert "ablation" not in none.metrics and "true_activations" not in none.controls
    assert none.metrics["score"] == pytest.approx(found.metrics["score"])
