from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.models.families import DECODERS, decoder
from tracemend.circuits import Subupdates
from tracemend.circuits.tokens import shown
from tracemend.circuits.vocabulary import Vocabulary, like
from tracemend.circuits.weights import FrozenNorm, module_at, unembedding, values
from tracemend.errors import CircuitError
from tracemend.models import LanguageModel, capture, edit, tiny
from tracemend.models.hooks import Edit

SMALL, _, DATA = Subupdates.tiny()


@pytest.mark.parametrize("name", DECODERS)
def test_raw_rows_are_what_a_direction_adds_to_the_logits(name: str) -> None:
    """Through the final norm at a fixed scale, in every family."""
    model = decoder(name)
    vectors = values(model, 1)[:4].float()
    frozen = FrozenNorm.at(module_at(model, "ln_final.hook_normalized"), torch.randn(1, 32))
    direct = vectors @ frozen.direction(unembedding(model)).T / frozen.inverse
    assert torch.allclose(Vocabulary.raw(model).scores(vectors), direct, atol=1e-4)


def test_cleaned_rows_have_neither_mean_nor_cone() -> None:
    model = tiny("gpt2")
    raw, clean = Vocabulary.raw(model).rows, Vocabulary.of(model, remove=2).rows
    assert clean.mean(0).abs().max() < 1e-5
    centred = raw - raw.mean(0)
    largest = torch.linalg.svd(centred, full_matrices=False)
    assert (clean @ largest.Vh[:2].T).abs().max() < 1e-3
    assert torch.linalg.matrix_norm(clean) ** 2 == pytest.approx(float((largest.S[2:] ** 2).sum()), rel=1e-3)


def test_tokens_that_were_never_trained_are_not_named() -> None:
    model = tiny("llama")
    with torch.no_grad():
        model.network.get_output_embeddings().weight[20:26] = 1e-3 * torch.randn(32)
    clean = Vocabulary.of(model, remove=0)
    assert clean.used.sum() == len(clean.used) - 6 and not clean.used[20:26].any()
    vector = clean.rows[20][None]
    assert not set(range(20, 26)) & set(clean.concepts(vector, 10)[0].tolist())
    highest, lowest = clean.extremes(torch.cat([vector, -vector]))
    assert not set(range(20, 26)) & {*highest.tolist(), *lowest.tolist()}


def test_coherence_is_the_mean_cosine_of_pairs() -> None:
    clean = Vocabulary.of(tiny("llama"))
    tokens = torch.tensor([[1, 5, 9], [2, 3, 4]])
    for row, found in zip(tokens, clean.coherence(tokens), strict=True):
        unit = torch.nn.functional.normalize(clean.rows[row], dim=-1)
        pairs = [float(unit[i] @ unit[j]) for i in range(3) for j in range(i)]
        assert float(found) == pytest.approx(sum(pairs) / 3, abs=1e-5)


def test_random_vectors_are_like_the_given_ones() -> None:
    given = torch.randn((50, 4), generator=torch.Generator().manual_seed(0)) @ torch.diag(
        torch.tensor([1.0, 2, 3, 4])
    ) + torch.tensor([1.0, 0, 0, 5])
    found = like(given, 20000, 0)
    assert torch.allclose(found.mean(0), given.mean(0), atol=0.15)
    assert torch.allclose(found.T.cov(), given.T.cov(correction=0), atol=0.5)


def test_a_planted_concept_is_found_and_steers() -> None:
    model = tiny("llama")
    clean = Vocabulary.of(model)
    words = [model.tokenizer(f" {w}", add_special_tokens=False).input_ids[0] for w in ("happy", "nice", "good")]
    near = torch.nn.functional.normalize(clean.rows[words], dim=-1)
    with torch.no_grad():
        # Words of one concept have rows that are alike.
        shared = clean.rows[words].mean(0)
        model.network.get_output_embeddings().weight[words] = 20 * shared / shared.norm() + clean.rows[words]
        model.network.model.layers[1].mlp.down_proj.weight[:, 7] = near.mean(0)
    found = replace(SMALL, neurons=64, top=3, remove=0, steered=5).run(model, DATA)
    best = found.table().query("layer == 1 and neuron == 7").iloc[0]
    assert set(best["tokens"].split(" | ")) == {"happy", "nice", "good"}
    assert best["coherence"] > 0.8 and best["steered"]
    assert abs(best["own"]) > 1


def test_the_control_of_steering_moves_the_stream_as_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """By prompt: what the blocks write with and without each edit, side by side."""
    model, written = tiny("llama"), []
    said = Subupdates._said

    def watched(self: Subupdates, model: LanguageModel, prompts: torch.Tensor, edits: dict[str, Edit]) -> torch.Tensor:
        names = [f"blocks.{i}.hook_mlp_out" for i in range(2)]
        # After the edits, so that it sees what they did.
        with edit(model, edits), capture(model, names) as seen:
            found = said(self, model, prompts, {})
        written.append((edits, [seen[name][:, -1].clone() for name in names]))
        return found

    monkeypatch.setattr(Subupdates, "_said", watched)
    # Small, so that the coefficient before is no small part of the change.
    replace(SMALL, coefficient=0.5).run(model, DATA)
    plain = written[0][1]
    pairs = list(zip(written[1::2], written[2::2], strict=True))
    assert len(pairs) == SMALL.steered
    for (_, steered), (edits, noised) in pairs:
        layer = int(next(iter(edits)).split(".")[1])
        moved, control = ((found[layer] - plain[layer]).norm(dim=-1) for found in (steered, noised))
        assert torch.allclose(moved, control, rtol=1e-4)
        assert moved.std() > 0


def test_whoever_stays_to_the_end_agrees() -> None:
    found = replace(SMALL, patience=10).run(tiny("llama"), DATA)
    assert found.metrics["exit_saved"] == 0 and found.metrics["exit_agreement"] == 1
    early = SMALL.run(tiny("llama"), DATA)
    assert early.metrics["exit_saved"] >= 0 and early.metrics["exit_agreement"] <= 1


def test_parts_of_letters_are_told_apart() -> None:
    model = tiny("gpt2")
    parts = model.tokenizer("你").input_ids
    said = [shown(model, token) for token in parts]
    assert len(parts) > 1 and len(set(said)) == len(set(parts)) and "\ufffd" not in "".join(said)
    assert shown(model, model.tokenizer(" film").input_ids[0]) == " film"


def test_bad_input_is_refused() -> None:
    model = tiny("llama")
    for changed, words in (
        ({"neurons": 65}, "have 64 neurons each"),
        ({"tokens": 10**4}, "Give more of them"),
        ({"top": 1}, "top is 1; it must be at least 2"),
        ({"remove": -1}, "remove is -1"),
        ({"steered": 0}, "steered is 0"),
        ({"max_memory": 1e-6}, "read fewer tokens"),
    ):
        with pytest.raises(CircuitError, match=words):
            replace(SMALL, **changed).run(model, DATA)
    with pytest.raises(CircuitError, match="is not defined for"):
        SMALL.run(tiny("t5"), DATA)
