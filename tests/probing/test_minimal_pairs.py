"""Minimal pairs: which sentence wins, by the model and by each control."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.test_likelihood import masked_bert
from tracemend.data import MinimalPairs, available_folder, read_pairs
from tracemend.errors import ModelError, ProbeError
from tracemend.models import load, tiny
from tracemend.models.likelihood import likelihoods
from tracemend.probing import MinimalPairsProbe
from tracemend.probing.minimal_pairs import ARMS, MinimalPairsResult


@pytest.fixture(scope="module")
def found():
    method, model, data = MinimalPairsProbe.tiny()
    return method.run(model, data)


def test_the_more_probable_sentence_wins(found):
    _, model, data = MinimalPairsProbe.tiny()
    rows = found.rows
    for i in range(len(data)):
        good, bad = likelihoods(model, [data.good[i], data.bad[i]])
        assert rows["margin"][i] == pytest.approx(good.total - bad.total, abs=1e-3)
        assert rows["correct"][i] == float(good.total > bad.total)
    assert found.metrics["accuracy"] == rows["correct"].mean()
    assert set(found.controls) == set(ARMS)


def test_controls_see_what_they_should(found):
    by = found.rows.groupby("phenomenon")[list(ARMS)].mean()
    # The bad sentences of "agreement" have a token more, those of "order" the same tokens.
    assert by.loc["agreement", "shorter"] == 1 and by.loc["order", "shorter"] == 0.5
    assert by.loc["order", "unigram"] == 0.5 != by.loc["agreement", "unigram"]
    assert found.facts["unequal_tokens"] == 5
    assert any("different numbers of tokens" in sentence for sentence in found.findings)


def test_by_phenomenon_and_the_worst_pairs(found, tmp_path):
    table = found.table()
    assert set(table["phenomenon"]) == {"agreement", "order"} and table["pairs"].tolist() == [5, 5]
    assert (table["low"] <= table["accuracy"]).all() and (table["accuracy"] <= table["high"]).all()
    worst = found.worst(3)
    assert worst["margin"].is_monotonic_increasing and worst["margin"][0] == found.rows["margin"].min()
    again = MinimalPairsResult.load(found.save(tmp_path))
    assert again.worst(3).equals(worst) and list(again.findings) == list(found.findings)


def test_a_masked_model():
    _, _, data = MinimalPairsProbe.tiny()
    result = MinimalPairsProbe().run(masked_bert(), data)
    assert np.isfinite(result.rows["margin"]).all()


def test_an_encoder_without_head_an_encoder_decoder_and_other_data_are_refused():
    _, model, data = MinimalPairsProbe.tiny()
    with pytest.raises(ModelError, match="without a language model head"):
        MinimalPairsProbe().run(tiny("bert"), data)
    with pytest.raises(ModelError, match="encoder-decoder"):
        MinimalPairsProbe().run(tiny("t5"), data)
    with pytest.raises(ProbeError, match="MinimalPairs"):
        MinimalPairsProbe().run(model, ["a", "b"])


@pytest.mark.slow
def test_smollm2_on_a_little_blimp():
    folder = available_folder("blimp")
    if folder is None:
        pytest.skip("blimp is not here; set TRACEMEND_DATA")
    pairs = read_pairs(folder / "blimp-200.jsonl")
    easy = [i for i, kind in enumerate(pairs.paradigm) if kind == "determiner_noun_agreement_1"][:6]
    pairs = MinimalPairs.make([pairs.good[i] for i in easy], [pairs.bad[i] for i in easy])
    found = MinimalPairsProbe().run(load("smollm2"), pairs)
    assert found.metrics["accuracy"] >= 0.8 > found.controls["random_weights"]["accuracy"]
