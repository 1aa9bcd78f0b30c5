from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tracemend.circuits.sae import SparseAutoencoder, top_of
from tracemend.circuits.sae_training import SaeTraining
from tracemend.circuits.superposition import Superposition, ToyModel, principal_directions, random_directions
from tracemend.errors import CircuitError


def drawn(kind: str = "topk", *, latents: int = 12, width: int = 5) -> SparseAutoencoder:
    random = torch.Generator().manual_seed(0)
    shapes = ((width, latents), (latents,), (latents, width), (width,))
    w_enc, b_enc, w_dec, b_dec = (torch.randn(shape, generator=random) for shape in shapes)
    k = 3 if kind == "topk" else 0
    return SparseAutoencoder(kind, w_enc, b_enc, w_dec, b_dec, k, "blocks.0.hook_resid_post", "tiny")


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.integers(0, 1000))
def test_only_the_largest_are_kept(k: int, seed: int) -> None:
    values = torch.randn((3, 8), generator=torch.Generator().manual_seed(seed))
    found = top_of(values, k)
    assert ((found > 0).sum(-1) <= k).all()
    kept = found > 0
    assert torch.equal(found[kept], values[kept])
    assert all(float(values[i][~kept[i]].max()) <= float(values[i][kept[i]].min())
               for i in range(3) if kept[i].any() and (~kept[i]).any())  # fmt: skip


@pytest.mark.parametrize("kind", ["l1", "topk"])
def test_it_comes_back_from_its_files(tmp_path, kind: str) -> None:
    sae = drawn(kind)
    again = SparseAutoencoder.read(sae.save(tmp_path))
    x = torch.randn(7, 5)
    assert torch.equal(again(x), sae(x))
    assert (again.kind, again.k, again.site, again.model) == (kind, sae.k, sae.site, sae.model)


def test_the_files_are_those_of_saelens(tmp_path) -> None:
    """Names, shapes and configuration as SAELens 6 writes them for its standard and topk architectures."""
    sae = drawn("topk")
    sae.save(tmp_path)
    facts, tensors = json.loads((tmp_path / "cfg.json").read_text()), load_file(tmp_path / "sae_weights.safetensors")
    assert {n: tuple(t.shape) for n, t in tensors.items()} == {
        "W_enc": (5, 12), "b_enc": (12,), "W_dec": (12, 5), "b_dec": (5,)
    }  # fmt: skip
    assert facts["architecture"] == "topk" and facts["k"] == 3 and (facts["d_in"], facts["d_sae"]) == (5, 12)
    assert facts["normalize_activations"] == "none" and facts["metadata"]["hook_name"] == sae.site
    x = torch.randn(4, 5)
    hidden = (x - tensors["b_dec"]) @ tensors["W_enc"] + tensors["b_enc"]
    kept = hidden.topk(3)
    features = torch.zeros_like(hidden).scatter(-1, kept.indices, kept.values.relu())
    assert torch.allclose(features @ tensors["W_dec"] + tensors["b_dec"], sae(x), atol=1e-6)


def test_heads_side_by_side_are_written_as_saelens_reads_them(tmp_path) -> None:
    """SAELens takes [..., head, d_head] at a hook_z and lays heads side by side; at no other site."""
    for name, reshaped in (("attn.hook_z", "hook_z"), ("attn.hook_q", "none"), ("hook_resid_post", "none")):
        sae = replace(drawn(), site=f"blocks.1.{name}")
        again = SparseAutoencoder.read(sae.save(tmp_path))
        assert json.loads((tmp_path / "cfg.json").read_text())["reshape_activations"] == reshaped
        assert again.site == sae.site


def test_options_of_saelens_are_folded_in(tmp_path) -> None:
    sae = drawn("topk")
    sae.save(tmp_path)
    facts = json.loads((tmp_path / "cfg.json").read_text())
    x = torch.randn(6, 5)
    (tmp_path / "cfg.json").write_text(json.dumps({**facts, "rescale_acts_by_decoder_norm": True}))
    length = sae.w_dec.norm(dim=-1)
    features = top_of(sae.before(x) * length, 3)
    assert torch.allclose(SparseAutoencoder.read(tmp_path)(x), features / length @ sae.w_dec + sae.b_dec, atol=1e-5)
    (tmp_path / "cfg.json").write_text(json.dumps({**facts, "apply_b_dec_to_input": False}))
    features = top_of(x @ sae.w_enc + sae.b_enc, 3)
    assert torch.allclose(SparseAutoencoder.read(tmp_path)(x), features @ sae.w_dec + sae.b_dec, atol=1e-5)


def test_without_an_architecture_it_is_the_standard_one(tmp_path) -> None:
    """Older files of SAELens do not name it."""
    sae = drawn("l1")
    facts = json.loads((sae.save(tmp_path) / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps({n: v for n, v in facts.items() if n != "architecture"}))
    assert SparseAutoencoder.read(tmp_path).kind == "l1"


def test_files_that_do_not_fit_are_refused(tmp_path) -> None:
    with pytest.raises(CircuitError, match="holds no sparse autoencoder"):
        SparseAutoencoder.read(tmp_path)
    drawn().save(tmp_path)
    facts = json.loads((tmp_path / "cfg.json").read_text())
    for changed, words in (
        ({"architecture": "jumprelu"}, "not one of: standard, topk"),
        ({"d_sae": 13}, "it should be"),
        ({"k": 0}, "expected 1 to 12"),
        ({"normalize_activations": "layer_norm"}, "only 'none' can be read"),
        ({"reshape_activations": "hook_q"}, "reshaped by 'hook_q'"),
        ({"d_in": "five"}, "cfg.json holds a value"),
    ):
        (tmp_path / "cfg.json").write_text(json.dumps({**facts, **changed}))
        with pytest.raises(CircuitError, match=words):
            SparseAutoencoder.read(tmp_path)
    (tmp_path / "cfg.json").write_text("[]")
    with pytest.raises(CircuitError, match="holds a list"):
        SparseAutoencoder.read(tmp_path)
    (tmp_path / "cfg.json").write_text(json.dumps(facts))
    tensors = load_file(tmp_path / "sae_weights.safetensors")
    save_file({n: t for n, t in tensors.items() if n != "b_enc"}, tmp_path / "sae_weights.safetensors")
    with pytest.raises(CircuitError, match="has no b_enc"):
        SparseAutoencoder.read(tmp_path)
    (tmp_path / "sae_weights.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CircuitError, match="holds no sparse autoencoder"):
        SparseAutoencoder.read(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "l1"), [("topk", 0.0), ("l1", 2.0)])
def test_planted_features_are_found_where_pca_finds_none(kind: str, l1: float) -> None:
    """Few features, so that it takes a second; the benchmark does it at full size."""
    truth = Superposition.draw(features=24, width=12, active=1.5)
    x, _ = truth.sample(20000)
    how = SaeTraining(kind=kind, latents=48, k=3, l1=l1, steps=800, batch=256, rate=4e-3)
    sae = how.fit(x)
    share, _ = truth.recovered(sae.w_dec)
    assert share > 0.9
    for control in (principal_directions(x, 48), random_directions(12, 48)):
        assert truth.recovered(control)[0] < 0.5
    assert torch.allclose(sae.w_dec.norm(dim=-1), torch.ones(48), atol=1e-4)
    held, _ = truth.sample(1000, seed=1)
    assert float((held - sae(held)).square().sum() / (held - held.mean(0)).square().sum()) < 0.3


def test_training_does_not_begin_at_the_truth() -> None:
    """The same seed everywhere: what is planted, where the autoencoder begins, and the control are all different."""
    truth = Superposition.draw(features=24, width=12, active=1.5, seed=0)
    x, _ = truth.sample(2000, seed=0)
    begun = SaeTraining(latents=24, k=3, steps=1, batch=8, rate=1e-9, seed=0).fit(x).w_dec
    assert truth.recovered(begun)[0] < 0.5
    assert truth.recovered(random_directions(12, 24, seed=0))[0] < 0.5


def test_the_scale_of_the_activations_does_not_matter() -> None:
    truth = Superposition.draw(features=16, width=8, active=1.5)
    x, _ = truth.sample(2000)
    how = SaeTraining(kind="l1", latents=16, l1=1.0, steps=50, batch=64)
    one, other = how.fit(x), how.fit(100 * x)
    assert torch.allclose(100 * one(x), other(100 * x), atol=1e-2)


@pytest.mark.slow
def test_features_of_a_toy_model_share_dimensions_when_they_are_sparse() -> None:
    dense = ToyModel.fit(features=6, width=2, sparsity=0.0, steps=300, decay=0.7)
    sparse = ToyModel.fit(features=6, width=2, sparsity=0.97, steps=300, decay=1.0)
    held = [int((model.weights.norm(dim=-1) > 0.5).sum()) for model in (dense, sparse)]
    assert held[0] == 2 and held[1] > 2
    # Dimensions cannot be given out twice.
    assert float(sparse.dimensionality.sum()) <= 2.01


def test_bad_input_is_refused() -> None:
    x = torch.randn(200, 4)
    small = {"latents": 16, "k": 2, "steps": 2, "batch": 8}
    for bad, changed, words in (
        (x[:100], {}, "too few for 16 latents"),
        (x, {"k": 17}, "k is 17"),
        (x, {"steps": 0}, "steps is 0"),
        (torch.ones(200, 4), {}, "all activations are the same"),
        (x.where(x < 1, torch.nan), {}, "no finite numbers"),
    ):
        with pytest.raises(CircuitError, match=words):
            SaeTraining(**{**small, **changed}).fit(bad)
    with pytest.raises(CircuitError, match="more features than"):
        Superposition.draw(features=4, width=4)
    with pytest.raises(CircuitError, match="sparsity is 1"):
        ToyModel.fit(sparsity=1.0)
