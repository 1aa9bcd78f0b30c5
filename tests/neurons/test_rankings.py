"""Rankings of units: right on planted units, compared fairly, with bad settings refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.neurons.planted import SITE, UNIT, planted_unit
from tracemend.data import Treebank
from tracemend.errors import NeuronError
from tracemend.neurons import GaussianRanking, LinearRanking, ProbelessRanking
from tracemend.neurons.orders import ORDERS, by_mass, first_masses, mean_differences
from tracemend.neurons.units import Units, activations


@pytest.fixture(scope="module")
def planted():
    return planted_unit()


@pytest.mark.parametrize("name", ORDERS)
def test_a_planted_neuron_is_first_in_every_ranking(planted, name):
    model, _, words = planted
    units = Units.of(activations(model, words, SITE))
    order = ORDERS[name](units, words.parts["train"].y, words.classes, 0)
    assert order[0] == UNIT
    assert sorted(order.tolist()) == units.alive.tolist()


def test_the_planted_neuron_is_worth_more_than_random_and_last_ones(planted):
    model, bank, _ = planted
    method = replace(ProbelessRanking.tiny()[0], site=SITE, sizes=(1,), at=1)
    found = method.run(model, bank)
    assert found.facts["order"][0] == UNIT
    assert found.metrics["accuracy"] > 0.9
    assert found.metrics["accuracy"] > found.controls["bottom"]["accuracy"] + 0.1
    assert any("beat the last units" in said for said in found.findings)
    gaussian = replace(GaussianRanking.tiny()[0], site=SITE, at=1).run(model, bank)
    assert gaussian.table()["unit"][0] == UNIT and gaussian.metrics["nmi"] > 0.4


@pytest.mark.slow
def test_labels_of_test_that_training_lacks_count_as_errors(planted):
    model, bank, _ = planted
    parts = ["train"] * 36 + ["dev"] * 12 + ["test"] * 12
    given = Treebank(sentences=tuple(replace(s, part=p) for s, p in zip(bank.sentences, parts, strict=True)))
    strange = [
        replace(s, tags={"upos": ("STRANGE", *s.tags["upos"][1:])}) if s.part == "test" else s for s in given.sentences
    ]
    less = replace(given, sentences=tuple(strange))
    for method in (replace(ProbelessRanking.tiny()[0], site=SITE, sizes=(1,), at=1),
                   replace(GaussianRanking.tiny()[0], site=SITE, at=1)):  # fmt: skip
        method = replace(method, train_items=500, test_items=500)
        before, found = method.run(model, given), method.run(model, less)
        right = before.metrics["accuracy"] * 60
        assert right - 12 <= found.metrics["accuracy"] * 60 + 1e-6 <= min(right, 48) + 2e-6
        assert found.controls["majority"]["accuracy"] < before.controls["majority"]["accuracy"]
        assert any(said.startswith("12 test words have labels that training lacks") for said in found.findings)


@given(st.integers(2, 6), st.integers(1, 8), st.integers(0, 50))
@settings(max_examples=20, deadline=None)
def test_mean_differences_are_the_sum_over_pairs(classes, d, seed):
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(classes), rng.integers(classes, size=20)])
    x = rng.normal(size=(len(y), d)).astype(np.float32)
    means = [x[y == c].mean(0) for c in range(classes)]
    pairs = [abs(means[a] - means[b]) for a in range(classes) for b in range(a)]
    np.testing.assert_allclose(mean_differences(x, y, classes), np.sum(pairs, axis=0), rtol=1e-4)


def test_units_come_in_by_the_share_of_larger_weights():
    weights = np.array([[3.0, 0.0], [-1.0, 1.0], [0.0, 4.0]])
    np.testing.assert_allclose(first_masses(weights), [[0.0, 1.0], [0.75, 0.8], [1.0, 0.0]])
    assert by_mass(weights).tolist() == [2, 0, 1]


def test_the_table_has_every_ranking_and_the_label_units_hold_their_mass():
    method, model, data = LinearRanking.tiny()
    found = method.run(model, data)
    assert found.table()["ranking"].tolist() == ["linear", "linear", "probeless", "probeless"]
    assert {"top", "random", "bottom", "selectivity", "random_weights"} <= set(found.table())
    assert set(found.facts["label_units"]) == {"DET", "NOUN", "VERB"}
    assert all(1 <= len(of) < 32 for of in found.facts["label_units"].values())


@pytest.mark.parametrize(
    "options", [{"sizes": ()}, {"at": 3}, {"sizes": (2, 99)}, {"against": ("lineal",)}, {"mass": 0.0}], ids=str
)
def test_bad_settings_are_refused(options):
    method, model, data = LinearRanking.tiny()
    with pytest.raises(NeuronError) as caught:
        replace(method, **options).run(model, data)
    assert len(str(caught.value)) > 40


def test_fewer_words_than_units_are_said():
    method, model, data = LinearRanking.tiny()
    assert any("for 32 units: take more words" in said for said in method.run(model, data).findings)


def test_a_site_where_nothing_varies_has_nothing_to_rank():
    constant = torch.full((50, 8), 0.3)
    with pytest.raises(NeuronError, match="0 of 8 units vary"):
        Units.of({"train": constant})
    constant[:, 2] = torch.arange(50.0)
    with pytest.raises(NeuronError, match="1 of 8 units vary"):
        Units.of({"train": constant})
    broken = torch.randn(50, 8)
    broken[3, 3] = torch.inf
    with pytest.raises(NeuronError, match="not finite"):
        Units.of({"train": torch.randn(50, 8), "test": broken})
