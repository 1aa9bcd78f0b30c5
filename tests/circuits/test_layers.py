from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.families import DECODERS, decoder
from tracemend.circuits import Layers
from tracemend.circuits.tokens import ids_of
from tracemend.data.prompts import Texts
from tracemend.errors import CircuitError
from tracemend.models import tiny
from tracemend.models.sites import site, trunk

TEXTS = Texts.make([{"text": "the people love this nice movie so"}, {"text": "we hate that terrible film"}])


@torch.no_grad()
@pytest.mark.parametrize("name", DECODERS)
def test_a_layer_left_out_is_a_network_without_it(name: str) -> None:
    model = decoder(name)
    found = Layers().run(model, TEXTS)
    assert found.controls["nothing"]["loss"] == pytest.approx(found.metrics["loss"], abs=1e-6)
    # The same by taking the block out of the network's own list, where all else is the same.
    bare = trunk(model)
    path = site(model, "blocks.0.hook_resid_post").module.rpartition(".")[0]
    blocks: Any = bare.get_submodule(path)
    losses, count = 0.0, 0
    kept = list(blocks)
    try:
        layers, bare.config.num_hidden_layers = bare.config.num_hidden_layers, 1
        parent, _, last = path.rpartition(".")
        setattr(bare.get_submodule(parent) if parent else bare, last, torch.nn.ModuleList([kept[1]]))
        for text in TEXTS.frame["text"]:
            ids = ids_of(model, text)
            logits = model.network(ids, use_cache=False).logits[0, :-1]
            losses += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
            count += ids.shape[1] - 1
    finally:
        bare.config.num_hidden_layers = layers
        setattr(bare.get_submodule(parent) if parent else bare, last, blocks)
    assert found.table()["removed"][0] == pytest.approx(losses / count - found.metrics["loss"], abs=1e-4)


def test_the_last_layer_cannot_be_made_up_for() -> None:
    """Nothing comes after it, so total and direct effect differ by the scale of the final norm alone."""
    model = tiny("gpt2")
    rows = Layers().run(model, TEXTS).table()
    assert np.isnan(rows["swapped"].iloc[-1]) and np.isfinite(rows["swapped"].iloc[0])
    assert np.sign(rows["direct"].iloc[-1]) == np.sign(rows["total"].iloc[-1])
    assert rows["agreement"].between(0, 1).all()


def test_a_block_that_writes_nothing_costs_nothing() -> None:
    model = tiny("llama")
    layer = model.network.model.layers[1]
    with torch.no_grad():
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    rows = Layers().run(model, TEXTS).table()
    assert rows["removed"][1] == pytest.approx(0, abs=1e-6)
    assert rows["agreement"][1] == 1
    assert rows["direct"][1] == rows["total"][1] == pytest.approx(0, abs=1e-6)
    assert np.isnan(rows["compensation"][1])


def test_bad_input_is_refused() -> None:
    with pytest.raises(CircuitError, match="is not defined for"):
        Layers().run(tiny("bert"), TEXTS)
    with pytest.raises(CircuitError, match="tokens is 1"):
        Layers(tokens=1).run(tiny("llama"), TEXTS)
    with pytest.raises(CircuitError, match="read fewer tokens"):
        replace(Layers(), max_memory=1e-6).run(tiny("llama"), TEXTS)
    with pytest.raises(CircuitError, match="fewer than two tokens"):
        Layers().run(tiny("gpt2"), Texts.make([{"text": "!"}]))
