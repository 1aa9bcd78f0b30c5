"""Features of an autoencoder as units: read, changed through the decoder, and told from those of another one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tracemend.circuits import SparseAutoencoder
from tracemend.errors import ModelError
from tracemend.models import LanguageModel, capture, edit, random_weights, site, tiny
from tracemend.models.features import register_features

STREAM = "blocks.0.hook_resid_post"


def autoencoder(width: int = 32, latents: int = 48, *, kind: str = "l1", seed: int = 0) -> SparseAutoencoder:
    draw = torch.Generator().manual_seed(seed)
    w_dec = torch.nn.functional.normalize(torch.randn((latents, width), generator=draw), dim=-1)
    b_dec = torch.randn(width, generator=draw) / 10
    return SparseAutoencoder(kind, w_dec.T.clone(), torch.zeros(latents), w_dec, b_dec, 4 if kind == "topk" else 0)


def output(model: LanguageModel) -> torch.Tensor:
    made: torch.Tensor = model.network(**model.tokenizer("so it goes", return_tensors="pt"))[0]
    return made


@pytest.mark.parametrize("kind", ["l1", "topk"])
@pytest.mark.parametrize("architecture", ["gpt2", "bert", "llama"])
@torch.no_grad()
def test_features_are_read_and_changed_with_the_error_kept(architecture: str, kind: str) -> None:
    model, code = tiny(architecture), autoencoder(kind=kind)
    name = register_features(model, STREAM, code)
    before = output(model)
    with capture(model, [STREAM, name]) as seen:
        output(model)
    features = seen[name]
    torch.testing.assert_close(features, code.encode(seen[STREAM]))
    with edit(model, {name: lambda f: f}):
        assert torch.equal(output(model), before)
    strongest = int(features[0, -1].argmax())
    taken = {name: lambda f: f.index_fill(-1, torch.tensor([strongest]), 0.0)}
    with edit(model, taken), capture(model, [STREAM]) as changed:
        after = output(model)
    # Nothing but the feature's own direction is gone, although the autoencoder reconstructs badly.
    expected = seen[STREAM] - features[..., strongest, None] * code.w_dec[strongest]
    torch.testing.assert_close(changed[STREAM], expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(after, before) and torch.equal(output(model), before)


def test_a_feature_has_the_gradient_of_its_direction() -> None:
    model, code = tiny("gpt2"), autoencoder()
    name = register_features(model, STREAM, code)
    with capture(model, [STREAM], grad=True) as stream:
        output(model).square().sum().backward()
    with capture(model, [name], grad=True) as seen:
        output(model).square().sum().backward()
    slope = stream[STREAM].grad
    assert slope is not None and slope.abs().sum() > 0
    torch.testing.assert_close(seen[name].grad, slope @ code.w_dec.T, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_heads_lie_side_by_side() -> None:
    model = tiny("gpt2")
    name = register_features(model, "blocks.1.attn.hook_z", autoencoder())
    before = output(model)
    with edit(model, {name: lambda f: f}):
        assert torch.equal(output(model), before)
    with edit(model, {name: torch.zeros_like}):
        assert not torch.equal(output(model), before)


def test_two_autoencoders_have_two_names_and_the_same_one_has_one() -> None:
    model, code = tiny("bert"), autoencoder()
    name = register_features(model, STREAM, code)
    assert name.startswith(f"{STREAM}.features.") and register_features(model, STREAM, autoencoder()) == name
    others = {
        register_features(model, STREAM, other)
        for other in (autoencoder(seed=1), autoencoder(kind="topk"), replace(autoencoder(kind="topk"), k=5))
    }
    assert len(others | {name}) == 4
    # The untrained network has the same sites.
    assert site(random_weights(model), name).shape == "[batch, pos, feature]"


@torch.no_grad()
def test_an_autoencoder_of_another_width_or_site_is_refused() -> None:
    model = tiny("bert")
    name = register_features(model, STREAM, autoencoder(width=16))
    with pytest.raises(ModelError, match=r"16 numbers and blocks.0.hook_resid_post has 32"), capture(model, [name]):
        output(model)
    with pytest.raises(ModelError, match="no vector for each token"):
        register_features(model, "blocks.0.attn.hook_pattern", autoencoder())
    with pytest.raises(ModelError, match="not one of"):
        register_features(model, "blocks.0.nothing", autoencoder())
