"""Attention as saliency: traced from where each classifier reads its answer; and occlusion, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.saliency.conftest import ARCHITECTURES, PAIRS
from tracemend.errors import ModelError, TraceError
from tracemend.saliency import AttentionWeights, Occlusion, Rollout, encoded

ALL = [AttentionWeights(), AttentionWeights(back=True), Rollout()]


@pytest.mark.parametrize("method", ALL, ids=["last", "back", "rollout"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_virtual_tokens_the_answers_attention_is_shared_out_whole(make, method, architecture: str) -> None:
    classifier = make(architecture, "lora")
    examples, weights = method.weights(classifier, PAIRS, [0] * len(PAIRS))
    for example, weight in zip(examples, weights, strict=True):
        assert (weight >= 0).all() and 0 < weight.sum() <= 1 + 1e-5
        assert len(weight) == len(example.words)
    # With the tokens that are of no word, it is all there.
    result = type(method)(checked=1, orders=1, **_of(method)).run(classifier, PAIRS)
    words = result.rows.groupby("example")["weight"].sum()
    np.testing.assert_allclose(words / (1 - result.examples["elsewhere"]), 1.0, rtol=1e-4)


def _of(method) -> dict[str, object]:
    return {"back": method.back} if isinstance(method, AttentionWeights) else {}


def test_the_last_layers_attention_of_a_pooled_encoder_is_the_mean_over_its_positions(make) -> None:
    classifier = make("bert", "lora")
    examples, weights = AttentionWeights().weights(classifier, PAIRS, [0] * len(PAIRS))
    for example, weight in zip(examples, weights, strict=True):
        encoder = classifier.network.get_base_model().encoder
        with torch.no_grad():
            out = encoder(torch.tensor([example.ids]), output_attentions=True).attentions[-1][0]
        expected = example.of_words(out.mean(0).mean(0).double().numpy())
        np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-6)


def test_a_decoder_is_read_at_its_last_token(make) -> None:
    classifier = make("gpt2", "lora")
    examples, weights = AttentionWeights().weights(classifier, PAIRS, [0] * len(PAIRS))
    for example, weight in zip(examples, weights, strict=True):
        with torch.no_grad():
            out = classifier.network(torch.tensor([example.ids]), output_attentions=True).attentions[-1][0]
        expected = example.of_words(out.mean(0)[-1].double().numpy())
        np.testing.assert_allclose(weight, expected, rtol=1e-4, atol=1e-6)


def test_attention_says_the_same_for_every_label(make) -> None:
    classifier = make("bert")
    one, other = (AttentionWeights().weights(classifier, PAIRS, [y] * len(PAIRS))[1] for y in (0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_sdpa_is_refused(make) -> None:
    classifier = make("bert", "lora")
    classifier.network.get_base_model().encoder.set_attn_implementation("sdpa")
    with pytest.raises(ModelError, match="keeps no patterns"):
        Rollout().run(classifier, PAIRS)


def test_residual_must_leave_something_to_attention(make) -> None:
    with pytest.raises(TraceError, match="below 1"):
        Rollout(residual=1.0).run(make("bert"), PAIRS)


@pytest.mark.parametrize("deletion", ["mask", "remove"])
def test_occlusion_is_the_fall_of_the_output(make, deletion: str) -> None:
    classifier = make("bert")
    examples, weights = Occlusion(deletion=deletion).weights(classifier, PAIRS, [1] * len(PAIRS))
    mask = classifier.language_model.tokenizer.mask_token_id

    def output(ids: list[int]) -> float:
        with torch.inference_mode():
            logits = classifier.logits(classifier.batch([ids]))[0]
        return float(logits[1] - logits[0])

    for example, weight in zip(encoded(classifier, PAIRS), weights, strict=True):
        whole = output(example.ids)
        for word, found in enumerate(weight):
            ids = [mask if of == word else i for i, of in zip(example.ids, example.owner, strict=True)]
            if deletion == "remove":
                ids = [i for i, of in zip(example.ids, example.owner, strict=True) if of != word]
            assert found == pytest.approx(whole - output(ids), abs=1e-5)
    assert len(examples) == len(PAIRS)
