from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
import torch

from tests.models.families import DECODERS, decoder
from tracemend.circuits import Memories
from tracemend.circuits.activations import activations, windows
from tracemend.circuits.memories import _by_chance, _composed
from tracemend.circuits.vocabulary import Vocabulary
from tracemend.circuits.weights import values
from tracemend.errors import CircuitError
from tracemend.models import LanguageModel, tiny

SMALL, _, DATA = Memories.tiny()


def planted(neuron: int = 5) -> tuple[LanguageModel, int]:
    """A decoder with a memory in layer 0: its key is the word " movie", its value says " film"."""
    model = tiny("llama")
    movie, film = (model.tokenizer(f" {w}", add_special_tokens=False).input_ids[0] for w in ("movie", "film"))
    block = model.network.model.layers[0]
    with torch.no_grad():
        block.self_attn.o_proj.weight.zero_()
        word = model.network.get_input_embeddings().weight[movie]
        word = word / word.norm()
        block.mlp.gate_proj.weight[neuron] = 3 * word
        block.mlp.up_proj.weight[neuron] = 3 * word
        block.mlp.down_proj.weight[:, neuron] = 5 * Vocabulary.of(model, remove=0).rows[film]
    return model, film


@pytest.mark.slow
def test_a_planted_memory_is_read() -> None:
    model, film = planted()
    found = replace(SMALL, keys=64, context=6).run(model, DATA)
    own = found.examples.query("layer == 0 and key == 5")
    assert own["text"].str.endswith(" movie").all()
    assert own["value"].iloc[0].startswith("film")
    highest, _ = Vocabulary.of(model).extremes(values(model, 0))
    assert int(highest[5]) == film


@pytest.mark.slow
def test_without_the_last_word_a_memory_of_words_is_gone() -> None:
    model, _ = planted()
    # The other keys of the layer are silenced, so that the layer's figure is the planted one's.
    with torch.no_grad():
        for part in ("gate_proj", "up_proj"):
            weight = getattr(model.network.model.layers[0].mlp, part).weight
            weight[torch.arange(64) != 5] = 0
    found = replace(SMALL, keys=64, triggers=25).run(model, DATA)
    row = found.rows.iloc[0]
    assert row["kept_last"] < 0.3
    # Without attention nothing but the last word counts.
    assert row["kept_first"] == pytest.approx(1, abs=1e-3) == row["kept_random"]
    assert found.metrics["kept_lower"] < found.controls["first token"]["kept_lower"]


@pytest.mark.parametrize("name", DECODERS)
def test_triggers_are_the_largest_coefficients(name: str) -> None:
    model = decoder(name)
    found = SMALL.run(model, DATA)
    ids = windows(model, DATA.frame["text"].tolist(), tokens=SMALL.tokens, length=SMALL.length)
    for layer in (0, 1):
        every = activations(model, f"blocks.{layer}.mlp.hook_post", ids)[:, 1:-1].flatten(0, 1)
        for key, own in found.examples.query("layer == @layer").groupby("key"):
            most = every[:, int(key)].topk(SMALL.triggers).values
            assert torch.allclose(torch.tensor(own["coefficient"].to_numpy()).float(), most, atol=1e-5)
    assert found.rows["agreement"].between(0, 1).all() and found.rows["composed"].between(0, 1).all()


def test_chance_agreement_is_the_mean_over_all_pairings() -> None:
    said, following = torch.tensor([3, 1, 1, 2]), torch.tensor([1, 1, 3, 4])
    every = [float((said[list(p)] == following).float().mean()) for p in permutations(range(4))]
    assert _by_chance(said, following) == pytest.approx(sum(every) / len(every))


def test_one_memory_alone_is_not_composed() -> None:
    model = tiny("llama")
    vocabulary = Vocabulary.of(model)
    said = vocabulary.extremes(values(model, 0))
    alone = torch.diag(torch.tensor([1.0, -1.0] * 32))
    assert _composed(model, 0, vocabulary, said, alone, 0)["composed"] == 0
    many = torch.randn((40, 64), generator=torch.Generator().manual_seed(0))
    assert _composed(model, 0, vocabulary, said, many, 0)["composed"] > 0.1


def test_bad_input_is_refused() -> None:
    model = tiny("llama")
    for changed, words in (
        ({"keys": 65}, "have 64 keys each"),
        ({"tokens": 999}, "at least 1000"),
        ({"tokens": 10**6}, "Give more of them"),
        ({"stride": 0}, "stride is 0"),
        ({"context": 3}, "context is 3"),
        ({"length": 8}, "rows of at least twice"),
        ({"remove": 32}, "remove is 32"),
        ({"max_memory": 1e-6}, "look at fewer layers"),
    ):
        with pytest.raises(CircuitError, match=words):
            replace(SMALL, **changed).run(model, DATA)
    with pytest.raises(CircuitError, match="takes Texts"):
        SMALL.run(model, ["text"])
    with pytest.raises(CircuitError, match="is not defined for"):
        SMALL.run(tiny("bert"), DATA)
