"""Activations of our sites are those that nnsight reads from the same modules."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tracemend.models import capture, load, tiny

nnsight = pytest.importorskip("nnsight", reason="nnsight is the oracle here")


@pytest.mark.parametrize("name", ["llama", pytest.param("smollm2", marks=pytest.mark.slow)])
@torch.no_grad()
def test_activations(name: str) -> None:
    model = load("smollm2") if name == "smollm2" else tiny(name)
    ids = torch.tensor([model.tokenizer("you love this good movie and that film").input_ids])
    layers: Any = model.network.config.num_hidden_layers
    kept: dict[str, Any] = {}
    theirs = nnsight.NNsight(model.network)
    # In the order of the forward pass, which nnsight insists on.
    with theirs.trace(ids, use_cache=False):
        for i in range(layers):
            block = theirs.model.layers[i]
            kept[f"blocks.{i}.hook_attn_out"] = block.self_attn.o_proj.output.save()
            kept[f"blocks.{i}.mlp.hook_post"] = block.mlp.down_proj.input.save()
            kept[f"blocks.{i}.hook_mlp_out"] = block.mlp.down_proj.output.save()
            kept[f"blocks.{i}.hook_resid_post"] = block.output.save()
    with capture(model, list(kept)) as seen:
        model.network(ids, use_cache=False)
    assert len(kept) == 4 * layers
    for where, value in kept.items():
        expected = value[0] if isinstance(value, tuple) else value
        torch.testing.assert_close(seen[where], expected.reshape(seen[where].shape), rtol=1e-5, atol=1e-5)
