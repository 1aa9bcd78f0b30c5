from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.models.families import DECODERS, decoder
from tracemend.circuits import AttentionOnly, MarkovSource, Units
from tracemend.circuits.planted import planted
from tracemend.circuits.units import KINDS, combined, judged
from tracemend.circuits.weights import FrozenNorm, matrix, module_at
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError
from tracemend.models import capture, tiny

METHOD, MODEL, TEXTS = Units.tiny()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_planted_circuit_is_recovered_and_confirmed_by_ablation(kind: str, seed: int) -> None:
    model, texts, truth = planted(kind, seed=seed)
    found = METHOD.run(model, texts)
    rows = found.table()
    assert {(row.layer, row.neuron) for row in rows.itertuples()} == set(truth["sources"])
    assert found.pairs.loc[0, "best"] == kind, found.pairs
    m, random = found.metrics, found.controls["random units"]
    assert min(m["share"], m["alone"], m["lost"]) > 0.7
    assert abs(random["share"]) < 0.05 and random["lost"] < 0.05 and random["alone"] < 0.1
    assert m[kind] > random[kind] + 0.1 and m["units"] == pytest.approx(1, abs=0.01)
    assert found.controls["nothing"]["lost"] == 0


@torch.no_grad()
@pytest.mark.parametrize("name", DECODERS)
def test_edges_add_up_to_what_the_layer_writes(name: str) -> None:
    model = decoder(name)
    target = replace(METHOD, neuron=7)._target(model)
    ids = torch.randint(10, 100, (1, 12), generator=torch.Generator().manual_seed(0))
    activations, weights, y, f = target.look(ids)
    with capture(model, ["blocks.0.hook_mlp_out", target.stream]) as seen:
        model.network(ids, use_cache=False)
    stream = seen[target.stream][0, 1:]
    norm = FrozenNorm.at(module_at(model, "blocks.1.ln2.hook_normalized"), stream)
    direction = norm.direction(matrix(module_at(model, "blocks.1.mlp.hook_pre"))[:, 7])
    bias = getattr(module_at(model, "blocks.0.mlp.hook_post"), "bias", None)
    written = seen["blocks.0.hook_mlp_out"][0, 1:] - (0 if bias is None else bias)
    torch.testing.assert_close((activations * weights)[0].sum(-1), (written * direction).sum(-1), rtol=1e-3, atol=1e-4)
    # What is left of the input beside the stream is the same at every position: biases.
    rest = y - (stream * direction).sum(-1)
    assert float(rest.max() - rest.min()) < 1e-3
    assert f.shape == y.shape == (11,)


def test_combinations_by_hand() -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.random(400) < 0.5).astype(float), (rng.random(400) < 0.5).astype(float)
    for kind, f in (("and", a * b), ("or", np.maximum(a, b)), ("linear", a + 2 * b)):
        r2 = combined(a, b, f)
        assert r2[kind] == pytest.approx(1) and max(r2, key=lambda each: r2[each]) == kind
        assert sorted(r2.values())[-2] < 0.9
    noise = combined(a, b, rng.standard_normal(400))
    assert max(noise.values()) < 0.05


@pytest.mark.slow
def test_pairs_are_chosen_on_the_half_that_does_not_judge_them() -> None:
    """On noise the best of many pairs has nothing on the other half, and the control is chosen in the same way."""
    rng = np.random.default_rng(1)
    a, b, f = (rng.standard_normal(60) for _ in range(3))
    first, second = judged(a, b, f), judged(a, b, np.concatenate([f[:30], rng.standard_normal(30)]))
    assert first["best"] == second["best"] and first["fitted"] == second["fitted"]
    assert {kind: first[kind] for kind in KINDS} == combined(a, b, f) != combined(a, b, -f[::-1])
    assert first["fitted"] >= 0 > min(first[kind] for kind in KINDS)
    found = replace(METHOD, edges=6, combined=4).run(MODEL, TEXTS)
    assert len(found.pairs) == 6 and found.pairs["fitted"].is_monotonic_decreasing
    for kind in KINDS:
        assert found.metrics[kind] == found.pairs[kind][0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer": 0}, "expected 1 to 1"),
        ({"layer": 2}, "expected 1 to 1"),
        ({"neuron": 64}, "0 to 63"),
        ({"edges": 1}, "2 <= combined"),
        ({"edges": 40}, "<= 32"),
        ({"draws": 0}, "draws is 0"),
        ({"max_memory": 0.0}, "GiB"),
    ],
)
def test_bad_settings(change: dict[str, float], words: str) -> None:
    with pytest.raises(CircuitError, match=words):
        replace(METHOD, **change).run(MODEL, TEXTS)


def test_bad_data() -> None:
    with pytest.raises(CircuitError, match="20 are needed"):
        METHOD.run(MODEL, Texts.make([{"text": "the movie"}]))
    with pytest.raises(CircuitError, match="is not defined for"):
        METHOD.run(tiny("bert"), TEXTS)
    with pytest.raises(CircuitError, match="not one of"):
        planted("xor")
    texts = MarkovSource.draw(symbols=24, rules=0).texts(20)
    with pytest.raises(CircuitError, match="no feed-forward neurons"):
        METHOD.run(AttentionOnly(layers=2, width=16, heads=2, steps=1, batch=2).fit(texts), texts)
