from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest
import torch

from tracemend.circuits import FeatureEdges, FeatureTexts
from tracemend.circuits.planted import planted, planted_features
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError
from tracemend.models import capture, tiny

SMALL, MODEL, DATA = FeatureEdges.tiny()
LOWER, UPPER = DATA.lower, DATA.upper


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_features_are_found_and_confirmed_by_ablation(seed: int) -> None:
    model, texts, _ = planted("and", seed=seed)
    found = SMALL.run(model, FeatureTexts.of(texts, *planted_features(model)))
    assert set(found.table()["feature"]) == {0, 1}
    m, random = found.metrics, found.controls["random features"]
    # Other neurons write a little to the same directions, of which the features at the other ends tell.
    assert m["share"] > 0.8 and m["lost"] > 0.7 and m["alone"] > 0.6
    assert abs(random["share"]) < 0.1 and random["lost"] < 0.3
    assert found.controls["nothing"]["lost"] < 1e-6
    assert found.pairs["best"].iloc[0] == "and" and m["and"] > max(m["linear"], m["or"])


def test_features_whose_weight_is_nothing_are_no_sources() -> None:
    """Feature 1 reads a direction of its own: only one feature, at either end, writes there."""
    found = replace(SMALL, feature=1).run(MODEL, DATA)
    rows = found.table()
    assert set(rows["feature"]) == {2, 34}
    assert rows.set_index("feature")["weight"].to_dict() == pytest.approx({2: 1.0, 34: -1.0}, abs=1e-4)


def test_edges_add_up_to_what_the_later_feature_reads() -> None:
    found = replace(SMALL, edges=32).run(MODEL, DATA)
    # Between the sites heads write nothing, and the earlier autoencoder has no error.
    assert found.metrics["units"] == pytest.approx(1, abs=1e-3)


def test_the_input_is_that_of_the_autoencoder() -> None:
    ids = torch.tensor([MODEL.tokenizer(DATA.frame["text"][0]).input_ids])
    with torch.no_grad(), capture(MODEL, [UPPER.site]) as seen:
        MODEL.network(ids)
    active = UPPER.encode(seen[UPPER.site][0, 1:])[:, 0]
    assert float(active.max()) > 0 and float((active > 0).float().mean()) < 0.6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"feature": 2}, "has 0 to 1"),
        ({"edges": 33}, "combined <= edges <= 32"),
        ({"combined": 1}, "2 <= combined"),
        ({"draws": 0}, "draws is 0"),
        ({"max_memory": 1e-9}, "give fewer texts"),
    ],
)
def test_bad_settings(change: dict[str, float], words: str) -> None:
    with pytest.raises(CircuitError, match=words):
        replace(SMALL, **change).run(MODEL, DATA)


def test_bad_data() -> None:
    texts = Texts.make([{"text": "you love this film"}])
    for data, words in (
        (texts, "made with FeatureTexts.of; it was given Texts"),
        (FeatureTexts.of(texts, LOWER, UPPER), "tokens after their first ones; 20"),
        (FeatureTexts.of(DATA, UPPER, LOWER), "give the earlier site as lower"),
        (FeatureTexts.of(DATA, replace(LOWER, site="blocks.0.mlp.hook_post"), UPPER), "expected a site of the stream"),
        (FeatureTexts.of(Texts.make([{"text": "!" * 30}]), LOWER, UPPER), "the same on every token"),
    ):
        with pytest.raises(CircuitError, match=words):
            SMALL.run(MODEL, data)
    with pytest.raises(CircuitError, match="is not defined for"):
        SMALL.run(tiny("bert"), DATA)


def test_other_weights_are_another_fingerprint() -> None:
    other = FeatureTexts.of(DATA, replace(LOWER, w_dec=2 * LOWER.w_dec), UPPER)
    for changed in ({"b_dec": LOWER.b_dec + 1}, {"k": 3}, {"kind": "topk"}, {"site": UPPER.site}):
        assert FeatureTexts.of(DATA, replace(LOWER, **changed), UPPER).fingerprint != DATA.fingerprint, changed
    assert other.fingerprint != DATA.fingerprint == FeatureTexts.of(DATA, LOWER, UPPER).fingerprint
    turned = replace(LOWER, w_dec=LOWER.w_dec.T.contiguous().T)  # as it lies in memory plays no part
    assert FeatureTexts.of(DATA, turned, UPPER).fingerprint == DATA.fingerprint


def test_a_fingerprint_holds_no_copy_of_the_weights() -> None:
    large = replace(LOWER, w_enc=torch.zeros(512, 4096), w_dec=torch.zeros(4096, 512))
    data = FeatureTexts.of(DATA, large, UPPER)
    tracemalloc.start()
    assert data.fingerprint != DATA.fingerprint
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < large.w_enc.nbytes / 4
