from __future__ import annotations

import pytest
import torch

from tests.models.families import DECODERS, decoder
from tracemend.errors import ModelError
from tracemend.models import Replay, edit, tiny
from tracemend.models.edits import zero

TEXT = "we love this movie so please go"


def ids_of(model) -> torch.Tensor:
    return model.tokenizer(TEXT, return_tensors="pt").input_ids


@torch.no_grad()
@pytest.mark.parametrize("name", DECODERS)
def test_going_on_from_any_block_gives_the_network_s_own_answer(name: str) -> None:
    model = decoder(name)
    ids = ids_of(model)
    plain = model.network(ids, use_cache=False).logits
    clean = Replay(model, ids)
    assert torch.equal(clean.logits, plain)
    assert len(clean.streams) == 3
    for layer in range(3):
        found = clean.run(layer, clean.streams[layer].repeat(2, 1, 1), positions=slice(None))
        torch.testing.assert_close(found, plain.repeat(2, 1, 1), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(clean.run(layer, clean.streams[layer]), plain[:, -1], rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_change_on_the_way_is_the_same_change_in_a_whole_run() -> None:
    model = tiny("llama")
    ids = ids_of(model)
    clean = Replay(model, ids)
    stream = clean.streams[1].clone()
    stream[:, 2] += 1.0

    def nudge(old: torch.Tensor) -> torch.Tensor:
        old[:, 2] += 1.0
        return old

    with edit(model, {"blocks.1.hook_resid_pre": nudge}):
        whole = model.network(ids).logits[:, -1]
    torch.testing.assert_close(clean.run(1, stream), whole, rtol=1e-5, atol=1e-5)
    with edit(model, {"blocks.1.attn.hook_z": zero(heads=[0])}):
        assert not torch.allclose(clean.run(1, stream), whole)


def test_other_families_and_several_texts_are_refused() -> None:
    with pytest.raises(ModelError, match="only a decoder"):
        Replay(tiny("bert"), torch.tensor([[1, 2]]))
    with pytest.raises(ModelError, match="expected one text"):
        Replay(tiny("gpt2"), torch.tensor([[1, 2], [3, 4]]))
