"""Log-probabilities of texts, against the network called by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import BertForMaskedLM

from tracemend.errors import ModelError
from tracemend.models import load, tiny
from tracemend.models.likelihood import contextless, keeps_logits, likelihoods, logits_at
from tracemend.models.representations import padded

TEXTS = ["you love this movie", "no", "what is xyz then ?"]


def masked_bert():
    """A tiny encoder with its masked language model head."""
    model = tiny("bert")
    torch.manual_seed(1)
    return replace(model, network=BertForMaskedLM(model.network.config).eval())


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_decoder_scores_every_token_after_bos(architecture):
    model = tiny(architecture)
    found = likelihoods(model, TEXTS, batch_size=2)
    for text, one in zip(TEXTS, found, strict=True):
        ids = [model.tokenizer.bos_token_id, *model.tokenizer(text, add_special_tokens=False).input_ids]
        with torch.inference_mode():
            said = model.network(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
        expected = [said[t, ids[t + 1]].item() for t in range(len(ids) - 1)]
        assert one.tokens == ids[1:]
        torch.testing.assert_close(one.log_probabilities, torch.tensor(expected), atol=1e-4, rtol=1e-4)
        assert one.total == pytest.approx(sum(expected), abs=1e-3)
        assert one.mean == pytest.approx(one.total / len(expected))


def test_a_masked_model_hides_the_token_and_the_rest_of_its_word():
    model = masked_bert()
    text = "you love xyz"  # the last word falls into x ##y ##z
    (found,) = likelihoods(model, [text], batch_size=3)
    ids = model.tokenizer(text).input_ids
    mask = model.tokenizer.mask_token_id
    hidden = {1: [1], 2: [2], 3: [3, 4, 5], 4: [4, 5], 5: [5]}
    for t, places in hidden.items():
        row = torch.tensor([ids])
        row[0, places] = mask
        with torch.inference_mode():
            expected = model.network(input_ids=row).logits[0, t].log_softmax(-1)[ids[t]]
        assert found.log_probabilities[t - 1].item() == pytest.approx(expected.item(), abs=1e-4)
    assert found.tokens == ids[1:-1]


def test_without_context():
    model = tiny("llama")
    (one,) = likelihoods(model, ["no"])
    assert contextless(model)[one.tokens[0]].item() == pytest.approx(one.log_probabilities[0].item(), abs=1e-5)
    assert contextless(masked_bert()).exp().sum().item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("made", [lambda: tiny("gpt2"), lambda: tiny("llama"), masked_bert])
def test_logits_at_some_places_are_those_of_the_whole_pass(made):
    model = made()
    ids, mask = padded(model, [[5, 6, 7, 8], [9, 5]])
    row, place = torch.tensor([0, 1, 0, 1]), torch.tensor([3, 1, 0, 0])
    with torch.no_grad():
        whole = model.network(input_ids=ids, attention_mask=mask).logits
        for keeps in {False, keeps_logits(model.network)}:
            found = logits_at(model.network, row, place, keeps=keeps, input_ids=ids, attention_mask=mask)
            torch.testing.assert_close(found, whole[row, place])


def without_bos():
    model = tiny("gpt2")
    model.tokenizer.bos_token = None
    return model


@pytest.mark.parametrize(
    ("model", "word"),
    [
        (lambda: tiny("bert"), "without a language model head"),
        (lambda: tiny("t5"), "encoder-decoder"),
        (without_bos, "no bos token"),
    ],
)
def test_a_model_without_probabilities_is_refused(model, word):
    with pytest.raises(ModelError, match=word):
        likelihoods(model(), TEXTS)


@pytest.mark.parametrize(("text", "word"), [("", "no token"), ("a " * 80, "window")])
def test_a_text_without_tokens_and_one_too_long(text, word):
    for model in (tiny("gpt2"), masked_bert()):
        with pytest.raises(ModelError, match=word):
            likelihoods(model, ["fine", text])


def test_a_text_may_fill_the_window():
    for model in (tiny("gpt2"), masked_bert()):
        room = model.window - (1 if model.family == "decoder" else 2)
        found = likelihoods(model, [" nice" * room])
        assert len(found[0].tokens) == room
        with pytest.raises(ModelError, match=f"has {model.window + 1} tokens with the special ones"):
            likelihoods(model, [" nice" * (room + 1)])


def test_a_masked_model_is_loaded_with_its_head(tmp_path):
    model = masked_bert()
    model.network.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    found = load(tmp_path, masked=True)
    assert found.family == "encoder"
    assert likelihoods(found, TEXTS)[0].total == pytest.approx(likelihoods(model, TEXTS)[0].total, abs=1e-4)
    with pytest.raises(ModelError, match="without a language model head"):
        likelihoods(load(tmp_path), TEXTS)


def test_what_has_no_such_head_is_not_loaded_with_one(tmp_path):
    for architecture, word in (("bert", "lack"), ("gpt2", "no masked words")):
        folder = tmp_path / architecture
        tiny(architecture).network.save_pretrained(folder)
        tiny(architecture).tokenizer.save_pretrained(folder)
        with pytest.raises(ModelError, match=word):
            load(folder, masked=True)
