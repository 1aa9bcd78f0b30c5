"""One interface over three families: the same logits whatever stands beside an example in its batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.trace.conftest import shaken
from tests.tuning.conftest import CASES, PAIRS
from tracemend.errors import TuningError
from tracemend.models import tiny
from tracemend.tuning import TextClassifier

LABELS = ("safe", "unsafe")


def build(architecture: str, kind: str, **options: Any) -> TextClassifier:
    options = {"virtual_tokens": 3, "rank": 2, "max_length": 32, **options}
    return shaken(TextClassifier(tiny(architecture), LABELS, kind=kind, **options))


@pytest.mark.parametrize(("architecture", "kind"), CASES)
def test_the_batch_changes_nothing(architecture: str, kind: str) -> None:
    classifier = build(architecture, kind)
    together = classifier.predict(PAIRS, batch_size=len(PAIRS))
    assert together.dtype == np.float32 and together.shape == (len(PAIRS), 2)
    assert np.ptp(together, axis=0).min() > 1e-3  # the texts are told apart
    np.testing.assert_allclose(classifier.predict(PAIRS, batch_size=1), together, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(classifier.predict(PAIRS[::-1], batch_size=2)[::-1], together, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("architecture", "kind"), CASES)
def test_logits_are_those_of_the_text_alone_without_padding(architecture: str, kind: str) -> None:
    """A right-padded decoder must answer at each row's last real token, and an encoder pool real tokens only."""
    classifier = build(architecture, kind)
    rows, _ = classifier.encode(PAIRS)
    assert len({len(row) for row in rows}) > 1
    found = classifier.logits(classifier.batch(rows))
    for row, logits in zip(rows, found, strict=True):
        inputs = {"input_ids": torch.tensor([row]), "attention_mask": torch.ones(1, len(row), dtype=torch.long)}
        if architecture == "t5":
            inputs["decoder_input_ids"] = torch.tensor([[classifier.language_model.config.decoder_start_token_id]])
        out = classifier.network(**inputs).logits
        alone = out[0] if classifier.verbaliser is None else out[0, -1, list(classifier.verbaliser.tokens)]
        torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "t5"])
def test_text_and_reply_are_two_things(architecture: str) -> None:
    classifier = build(architecture, "lora")
    pairs = [("good movie", "stop"), ("stop", "good movie"), ("good movie", None), ("good movie stop", None)]
    found = classifier.probabilities(pairs)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    for one in range(len(pairs)):
        for other in range(one):
            assert not np.allclose(found[one], found[other], atol=1e-6), (pairs[one], pairs[other])


@pytest.mark.parametrize(("architecture", "kind"), [("bert", "prompt"), ("gpt2", "prefix"), ("llama", "p-tuning")])
def test_virtual_tokens_take_of_the_window_and_the_longest_text_still_runs(architecture: str, kind: str) -> None:
    classifier = build(architecture, kind, virtual_tokens=5, max_length=1000)
    assert classifier.max_length == 64 - 5
    endless = ("movie " * 500, None)
    rows, cut = classifier.encode([endless, ("nice", None), ("film " * 500, "bad " * 500)])
    assert cut == 2
    assert [len(rows[0]), len(rows[2])] == [59, 59]
    assert np.isfinite(classifier.predict([endless])).all()


def test_a_text_that_just_fits_is_not_cut() -> None:
    classifier = build("bert", "lora", max_length=8)
    fits, over = "you love the happy people please", "you love the happy people very please"
    assert classifier.encode([(fits, None)])[1] == 0
    rows, cut = classifier.encode([(fits, None), (over, None), ("love " * 3, "hate " * 3)])
    assert cut == 2
    assert [len(row) for row in rows] == [8, 8, 8]


def test_no_room_for_text_is_an_error() -> None:
    with pytest.raises(TuningError, match=r"takes 64 tokens and 62 of them are virtual.*--virtual-tokens"):
        build("bert", "prompt", virtual_tokens=62)


@pytest.mark.parametrize(
    ("architecture", "kind"), [("bert", "lora"), ("gpt2", "ia3"), ("t5", "lora"), ("bert", "head")]
)
def test_the_language_model_stays_as_it_was(architecture: str, kind: str) -> None:
    model = tiny(architecture)
    inputs = dict(model.tokenizer([t for t, _ in PAIRS], padding=True, return_tensors="pt"))
    if architecture == "t5":
        inputs["decoder_input_ids"] = torch.zeros(len(PAIRS), 1, dtype=torch.long)
    modules = [(name, type(module)) for name, module in model.network.named_modules()]
    weights = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    with torch.no_grad():
        before = model.network(**inputs)[0]
    classifier = TextClassifier(model, LABELS, kind=kind, rank=2)
    classifier.logits(classifier.batch(classifier.encode(PAIRS)[0])).sum().backward()
    torch.optim.SGD(classifier.trainable().values(), lr=1.0).step()
    assert [(name, type(module)) for name, module in model.network.named_modules()] == modules
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.network.state_dict().items())
    with torch.no_grad():
        assert torch.equal(model.network(**inputs)[0], before)


def test_classifiers_on_one_model_do_not_see_each_other() -> None:
    model = tiny("bert")
    first = shaken(TextClassifier(model, LABELS, kind="lora", rank=2))
    alone = first.predict(PAIRS)
    shaken(TextClassifier(model, LABELS, kind="lora", rank=4), seed=7)
    np.testing.assert_array_equal(first.predict(PAIRS), alone)


def test_a_state_comes_back_and_one_of_another_adapter_is_refused() -> None:
    classifier = build("bert", "prompt")
    state, before = classifier.state(), classifier.predict(PAIRS)
    shaken(classifier, seed=3)
    assert not np.allclose(classifier.predict(PAIRS), before)
    classifier.restore(state)  # a copy: the second shake left it alone
    np.testing.assert_array_equal(classifier.predict(PAIRS), before)
    for other in (build("bert", "lora"), build("bert", "prompt", virtual_tokens=4)):
        with pytest.raises(TuningError, match="of another adapter"):
            classifier.restore(other.state())


@pytest.mark.parametrize(
    ("architecture", "kind", "said"),
    [
        ("bert", "Lora", r"adapter 'Lora' is not one of: .*did you mean 'lora'\?"),
        ("gpt2", "head", "classifies by words, so it has no head"),
    ],
)
def test_a_wrong_adapter_is_answered_with_what_works(architecture: str, kind: str, said: str) -> None:
    with pytest.raises(TuningError, match=said):
        build(architecture, kind)


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "t5"])
def test_places_are_those_of_the_tokens_that_encode_gives(architecture: str) -> None:
    """Encoding and places take two ways; they must agree, also where a text is cut."""
    classifier = build(architecture, "prompt", max_length=48)
    pairs = [*PAIRS, ("unusualword " * 40, "and so on " * 20), ("  spaced   out ", None), ("Don't!", "3.50 Café")]
    tokenizer = classifier.language_model.tokenizer
    for pair, ids, places in zip(pairs, classifier.encode(pairs)[0], classifier.places(pairs), strict=True):
        assert len(ids) == len(places)
        assert {place[0] for place in places if place is not None} == ({0} if pair[1] is None else {0, 1})
        for token, place in zip(ids, places, strict=True):
            if place is None:
                continue
            part, start, end = place
            said, written = tokenizer.decode([token]).replace("##", "").strip(), (pair[part] or "")[start:end].strip()
            # Half a letter's bytes are no letter; BERT drops accents.
            assert said.lower() == written.lower() or "\ufffd" in said or not written.isascii()


@torch.no_grad()
@pytest.mark.parametrize(("architecture", "kind"), CASES)
def test_embeddings_may_stand_for_token_ids(architecture: str, kind: str) -> None:
    classifier = build(architecture, kind)
    batch = classifier.batch(classifier.encode(PAIRS)[0])
    embedded = classifier.language_model.network.get_input_embeddings()(batch["input_ids"])
    found = classifier.logits({"inputs_embeds": embedded, "attention_mask": batch["attention_mask"]})
    torch.testing.assert_close(found, classifier.logits(batch), rtol=1e-4, atol=1e-4)


def test_the_sites_of_a_pooled_classifier_are_those_of_its_encoder() -> None:
    from tracemend.models import sites

    classifier = build("bert", "lora")
    assert [s.name for s in sites(classifier.network)] == [s.name for s in sites(classifier.language_model)] != []
