from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.models.families import DECODERS, decoder
from tracemend.circuits import Logits
from tracemend.circuits.tokens import ids_of, token_of
from tracemend.data.prompts import Contrasts
from tracemend.errors import CircuitError, DataError
from tracemend.models import capture, edit, load, tiny
from tracemend.models.edits import zero

ROWS = [
    {"prompt": "you are so", "answer": "nice", "foil": "bad"},
    {"prompt": "we love this", "answer": "movie", "foil": "film"},
]


@pytest.mark.parametrize("name", DECODERS)
def test_the_parts_add_up_to_the_logits(name: str) -> None:
    found = Logits(neurons=3).run(decoder(name), Contrasts.make(ROWS))
    rows = found.table()
    parts = rows[rows["part"].isin(["embedding", "head", "mlp", "bias"])]
    assert len(parts) == 2 + 2 * (4 + 1)
    assert parts["value"].sum() == pytest.approx(found.metrics["logit_difference"], abs=1e-3)
    assert found.metrics["sum_gap"] < 1e-4


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma"])
def test_neurons_divide_their_mlp(name: str) -> None:
    model = decoder(name)
    found = Logits(neurons=10_000).run(model, Contrasts.make(ROWS))
    by_layer = found.parts("neuron").groupby("layer")["value"].sum()
    mlps = found.parts("mlp").set_index("layer")["value"].sort_index()
    assert len(found.parts("neuron")) == 2 * 64
    # These architectures have no bias there, or a zero one.
    assert by_layer.to_numpy() == pytest.approx(mlps.to_numpy(), abs=1e-4)


@torch.no_grad()
def test_a_head_s_share_is_what_its_silence_takes_away_directly() -> None:
    """In the last block nothing is left to react, so with σ held the direct effect is the whole effect."""
    model = tiny("gpt2")
    row = ROWS[0]
    ids = ids_of(model, row["prompt"])
    found = Logits().run(model, Contrasts.make([row])).parts("head")
    share = found[(found["layer"] == 1) & (found["index"] == 2)]["value"].item()
    # The MLP of that block reads the head too: hold it still as well.
    from tracemend.circuits.weights import FrozenNorm, module_at, unembedding

    names = ["blocks.1.hook_resid_post", "blocks.1.hook_attn_out"]
    with capture(model, names) as before:
        model.network(ids)
    with edit(model, {"blocks.1.attn.hook_z": zero(heads=[2])}), capture(model, names) as after:
        model.network(ids)
    written = (before[names[1]] - after[names[1]])[0, -1]
    answer, foil = (token_of(model, row["prompt"], row[word]) for word in ("answer", "foil"))
    frozen = FrozenNorm.at(module_at(model, "ln_final.hook_normalized"), before[names[0]][0, -1])
    direction = frozen.direction(unembedding(model)[answer] - unembedding(model)[foil])
    assert float(written @ direction) == pytest.approx(share, abs=1e-4)


@torch.no_grad()
def test_the_lens_after_the_last_block_is_the_network() -> None:
    model = tiny("llama")
    found = Logits().run(model, Contrasts.make(ROWS[:1]))
    lens = found.parts("lens").sort_values("layer")
    assert list(lens["layer"]) == [0, 1, 2]
    assert lens["value"].iloc[-1] == pytest.approx(found.metrics["logit_difference"], abs=1e-4)
    p = model.network(ids_of(model, "you are so")).logits[0, -1].softmax(-1)
    answer = token_of(model, "you are so", "nice")
    assert lens["p_answer"].iloc[-1] == pytest.approx(float(p[answer]), abs=1e-5)
    assert lens["rank_answer"].iloc[-1] == int((p > p[answer]).sum()) + 1


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "you are", "answer": "extraordinary", "foil": "bad"}, "expected one. Choose a shorter word"),
        ({"prompt": "you are", "answer": "bad", "foil": "bad"}, "the same token"),
        ({"prompt": "you are " * 60, "answer": "bad", "foil": "good"}, "reads 64 at most"),
    ],
)
def test_prompts_that_cannot_be_divided_are_refused(row: dict[str, str], words: str) -> None:
    with pytest.raises(CircuitError, match=words):
        Logits().run(tiny("llama"), Contrasts.make([row]))


def test_other_models_and_too_little_memory_are_refused() -> None:
    data = Contrasts.make(ROWS)
    for architecture in ("bert", "t5"):
        with pytest.raises(CircuitError, match="is not defined for"):
            Logits().run(tiny(architecture), data)
    with pytest.raises(CircuitError, match=r"would hold .* of activations.*give shorter prompts"):
        replace(Logits(), max_memory=1e-6).run(tiny("llama"), data)
    with pytest.raises(CircuitError, match="draws is 0"):
        Logits(draws=0).run(tiny("llama"), data)
    with pytest.raises(DataError, match="needs the columns prompt, answer, foil"):
        Contrasts.make([{"prompt": "you"}])


@pytest.mark.slow
def test_smollm2_writes_the_indirect_object_with_few_heads() -> None:
    row = {
        "prompt": "Then, Mary and John went to the store. John gave a drink to", "answer": "Mary", "foil": "John",
    }  # fmt: skip
    found = Logits().run(load("smollm2"), Contrasts.make([row]))
    assert found.metrics["sum_gap"] < 1e-3
    assert found.metrics["logit_difference"] == pytest.approx(5.05, abs=0.1)
    first = found.parts("head").iloc[:2]
    assert first[["layer", "index"]].to_numpy().tolist() == [[23, 3], [29, 1]]
