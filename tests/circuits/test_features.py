from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.models.families import DECODERS, decoder
from tracemend.circuits import Features, SparseAutoencoder
from tracemend.circuits.activation_store import ActivationStore, site_activations
from tracemend.circuits.activations import token_losses, windows
from tracemend.circuits.features import _best_of, _loss_with, _projection, _putting
from tracemend.circuits.superposition import principal_directions, random_directions
from tracemend.circuits.vocabulary import Vocabulary
from tracemend.circuits.vocabulary import words as named
from tracemend.circuits.weights import writes
from tracemend.errors import CircuitError, ModelError
from tracemend.models import capture, edit, tiny

SMALL, _, DATA = Features.tiny()
TEXTS = DATA.frame["text"].tolist()
SITE = SMALL.site


@pytest.mark.parametrize("name", DECODERS)
def test_the_activation_itself_in_its_place_changes_nothing(name: str) -> None:
    model = decoder(name)
    ids = windows(model, TEXTS, tokens=100, length=24)
    clean = float(token_losses(model, ids).mean())
    for where in (SITE, "blocks.1.attn.hook_z", "blocks.0.mlp.hook_post"):
        assert _loss_with(model, where, ids, lambda x: x) == pytest.approx(clean, abs=1e-5)
        assert _loss_with(model, where, ids, torch.zeros_like) != pytest.approx(clean, abs=1e-5)


def test_all_components_reconstruct_everything() -> None:
    model = tiny("llama")
    x = site_activations(model, SITE, windows(model, TEXTS, tokens=400, length=24))
    whole = _projection(principal_directions(x, 32), x.mean(0))
    assert torch.allclose(whole(x), x, atol=1e-3)
    some = x[:40]
    errors = [float((_best_of(random_directions(32, 200), x.mean(0), n)(some) - some).norm()) for n in (1, 4, 16)]
    assert float((some - x.mean(0)).norm()) > errors[0] > errors[1] > errors[2]


def test_figures_are_those_of_the_autoencoder() -> None:
    model = tiny("llama")
    found = SMALL.run(model, DATA)
    m, c = found.metrics, found.controls
    assert 0 < m["l0"] <= SMALL.k and 0 <= m["dead"] < 1
    assert 0 < m["fvu"] < 1
    lost = c["mean"]["loss"] - c["clean"]["loss"]
    assert m["ce_recovered"] == pytest.approx((c["mean"]["loss"] - m["loss"]) / lost)
    rows = found.table()
    assert float((rows["density"]).sum()) == pytest.approx(m["l0"], rel=1e-5)
    assert rows["explained"].is_monotonic_decreasing
    cards = rows[rows["examples"] != ""]
    assert len(cards) == SMALL.cards and cards["raises"].ne("").all() and cards["ablation"].notna().all()


def test_the_first_position_is_left_alone() -> None:
    """Its stream is many times longer than any other's: it is neither learnt from nor replaced."""
    model = tiny("llama")
    ids = windows(model, TEXTS, tokens=100, length=24)
    seen: list[torch.Size] = []

    def arm(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.shape)
        return x + 1

    with capture(model, [SITE]) as before, torch.no_grad():
        model.network(ids)
    known = site_activations(model, SITE, ids)
    assert torch.allclose(known, before[SITE][:, 1:].flatten(0, 1), atol=1e-5)
    with edit(model, {SITE: _putting(arm)}), capture(model, [SITE]) as after, torch.no_grad():
        model.network(ids)
    assert torch.equal(after[SITE][:, 0], before[SITE][:, 0]) and seen[0][1] == ids.shape[1] - 1
    assert not torch.allclose(after[SITE][:, 1:], before[SITE][:, 1:])


def test_another_kind_and_another_site() -> None:
    model = tiny("gpt2")
    found = replace(SMALL, kind="l1", l1=1.0, site="blocks.1.mlp.hook_post").run(model, DATA)
    assert found.sae.kind == "l1" and found.sae.site == "blocks.1.mlp.hook_post"
    assert found.sae.w_dec.shape == (64, 64)
    # Neurons are not directions of the stream: they have no tokens.
    assert found.rows["raises"].eq("").all()


@pytest.mark.slow
def test_tokens_are_of_directions_of_the_stream_alone() -> None:
    """Heads side by side are as wide as the stream, but only W_O makes directions of it of them."""
    model = tiny("llama")
    how = replace(SMALL, steps=3, cards=2)
    found = replace(how, site="blocks.1.attn.hook_z").run(model, DATA)
    assert found.sae.w_dec.shape[1] == model.hidden_size
    row = found.rows.iloc[0]
    direction = found.sae.w_dec[int(row["feature"])]
    written = (direction.view(4, 8)[:, :, None] * writes(model, 1)).sum((0, 1))
    vocabulary = Vocabulary.of(model)
    for column, sign in (("raises", 1), ("lowers", -1)):
        assert row[column] == named(model, vocabulary.concepts(sign * written[None], 8)[0])
    assert row["raises"] != named(model, vocabulary.concepts(direction[None], 8)[0])
    for name in ("attn.hook_q", "ln1.hook_normalized", "mlp.hook_pre"):
        rows = replace(how, site=f"blocks.1.{name}").run(model, DATA).rows
        assert rows["raises"].eq("").all() and rows["lowers"].eq("").all(), name
    for name in ("hook_attn_out", "hook_mlp_out"):
        assert replace(how, site=f"blocks.1.{name}").run(model, DATA).rows["raises"].ne("").any(), name


def test_collecting_goes_on_where_it_stopped(tmp_path) -> None:
    model = tiny("llama")
    ids = windows(model, TEXTS, tokens=900, length=24)
    store = ActivationStore(tmp_path / "acts")
    whole = store.collect(model, SITE, ids)
    assert torch.equal(whole, site_activations(model, SITE, ids))
    shards = sorted((tmp_path / "acts").glob("shard-*"))
    assert len(shards) == 3
    shards[1].unlink()
    kept = {path: path.stat().st_mtime_ns for path in (shards[0], shards[2])}
    assert torch.equal(store.collect(model, SITE, ids), whole)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    for other, words in (
        ((tiny("llama", seed=1), SITE, ids), "another model"),
        ((model, "blocks.1.hook_resid_post", ids), "another site"),
        ((model, SITE, ids[:2]), "another corpus"),
    ):
        with pytest.raises(CircuitError, match=words):
            store.collect(*other)
    raw = bytearray(shards[0].read_bytes())
    raw[-1] ^= 1
    shards[0].write_bytes(raw)
    with pytest.raises(CircuitError, match="is damaged"):
        store.collect(model, SITE, ids)


def test_the_store_makes_no_difference(tmp_path) -> None:
    model = tiny("llama")
    method = replace(SMALL, steps=5)
    one = replace(method, store=str(tmp_path / "acts")).run(model, DATA)
    assert dict(one.metrics) == pytest.approx(dict(method.run(model, DATA).metrics), nan_ok=True)
    again = type(one).load(one.save(tmp_path / "run"))
    assert torch.equal(again.sae.w_dec, one.sae.w_dec)
    assert SparseAutoencoder.read(tmp_path / "run" / "sae").site == SITE


def test_bad_input_is_refused() -> None:
    model = tiny("llama")
    for changed, words in (
        ({"latents": 400}, "too few for 400 latents"),
        ({"kind": "relu"}, "not one of: l1, topk"),
        ({"k": 65}, "k is 65"),
        ({"tokens": 10**6}, "Give more of them"),
        ({"held_out": 0}, "held_out is 0"),
        ({"site": "blocks.0.attn.hook_pattern"}, "can only be read"),
        ({"max_memory": 1e-6}, "take fewer latents"),
    ):
        with pytest.raises(CircuitError, match=words):
            replace(SMALL, **changed).run(model, DATA)
    with pytest.raises(ModelError, match="blocks 0 to 1"):
        replace(SMALL, site="blocks.2.hook_resid_post").run(model, DATA)
    with pytest.raises(CircuitError, match="is not defined for"):
        SMALL.run(tiny("bert"), DATA)
