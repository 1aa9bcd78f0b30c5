"""Integrated gradients: they add up, they raise their own steps, and they are captum's."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
import torch

from tests.saliency.conftest import ARCHITECTURES, PAIRS
from tracemend.errors import ModelError, TraceError
from tracemend.saliency import IntegratedGradients, encoded
from tracemend.saliency.inputs import OfVectors, absent_token, batches
from tracemend.tuning import TextClassifier


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "absent"), [("block", "pad"), ("block", "zero"), ("embedding", "pad")])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_add_up_to_the_change_of_the_output(make, architecture: str, entry: str, absent: str) -> None:
    classifier = make(architecture)
    # T5's ReLUs bend the path, and its norm has no derivative at the zero vector.
    tolerance = 0.05 if architecture == "t5" else 1e-3
    method = IntegratedGradients(entry=entry, absent=absent, tolerance=tolerance, checked=1, orders=1)
    result = method.run(classifier, PAIRS)
    examples = result.examples
    assert (examples["gap"] <= tolerance).all() and result.metrics["over_tolerance"] == 0.0
    # No token here is of the text and of no word, so the words have it all.
    added = result.rows.groupby("example")["weight"].sum()
    allowed = tolerance * examples["change"].abs().clip(lower=0.1)
    assert ((added - examples["change"]).abs() <= allowed + 1e-5).all()
    assert examples["elsewhere"].max() < 1e-6
    # The change is from the text without its words, which a plain call of the classifier knows too.
    _, token = absent_token(classifier.language_model, absent)
    if token is not None:
        ids = [[token if of else i for i, of in zip(e.ids, e.of_text, strict=True)] for e in encoded(classifier, PAIRS)]
        with torch.inference_mode():
            logits = classifier.logits(classifier.batch(ids)).numpy()
        own = np.array([classifier.labels.index(label) for label in examples["label"]])
        rows = np.arange(len(own))
        nothing = logits[rows, own] - logits[rows, 1 - own]
        np.testing.assert_allclose(examples["output"] - examples["change"], nothing, atol=1e-4)


def test_steps_are_raised_until_the_gap_is_small_and_no_further(make) -> None:
    classifier = make("gpt2")
    coarse = IntegratedGradients(steps=1, max_steps=1, checked=1, orders=1).run(classifier, PAIRS)
    assert coarse.metrics["over_tolerance"] > 0 and coarse.metrics["most_steps"] == 1
    fine = IntegratedGradients(steps=1, tolerance=0.01, checked=1, orders=1).run(classifier, PAIRS)
    assert fine.metrics["completeness_gap"] <= 0.01 and fine.metrics["over_tolerance"] == 0
    # Each text for itself: the steps are powers of two, not all the same, and not more than needed.
    steps = fine.examples["steps"]
    assert set(steps) <= {float(2**k) for k in range(10)} and steps.max() > 1
    halved = IntegratedGradients(steps=int(steps.max()) // 2, max_steps=int(steps.max()) // 2, checked=1, orders=1)
    assert halved.run(classifier, PAIRS).metrics["completeness_gap"] > 0.01


def test_the_limit_of_steps_is_kept_and_told(make) -> None:
    result = IntegratedGradients(steps=2, max_steps=3, tolerance=1e-9, checked=1, orders=1).run(make("bert"), PAIRS)
    assert result.metrics["most_steps"] == 3 and result.metrics["over_tolerance"] == 1.0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"absent": "nothing"}, "mask, pad, zero"),
        ({"entry": "top"}, "block, embedding"),
        ({"steps": 0}, "1 <= steps"),
        ({"steps": 8, "max_steps": 4}, "max_steps 4"),
        ({"tolerance": 0.0}, "above 0"),
    ],
)
def test_bad_choices_are_told(make, options: dict[str, object], said: str) -> None:
    with pytest.raises(TraceError, match=said):
        IntegratedGradients(**options).run(make("bert"), PAIRS)


def of_captum(
    classifier: TextClassifier, pair: tuple[str, str | None], target: int, *, entry: str, steps: int
) -> np.ndarray:
    """Captum's own call on a layer of the model, one text at a time, summed over width and tokens."""
    from captum.attr import LayerIntegratedGradients

    (example,) = encoded(classifier, [pair])
    ids = torch.tensor([example.ids])
    _, token = absent_token(classifier.language_model, "auto")
    absent = torch.where(torch.from_numpy(example.of_text), torch.tensor(token), ids[0])[None]
    layer = classifier.network.get_base_model().get_input_embeddings()
    if entry == "block":
        # Behind position embeddings and layer norm.
        layer = classifier.network.get_base_model().encoder.embeddings
    engine = LayerIntegratedGradients(
        lambda given, mask: classifier.logits({"input_ids": given, "attention_mask": mask}).log_softmax(1), layer
    )
    mask = torch.ones_like(ids)
    options = {"additional_forward_args": (mask,), "n_steps": steps}
    found = [engine.attribute(ids, absent, target=c, **options) for c in (target, 1 - target)]
    tokens = (found[0] - found[1]).sum(-1)[0].detach().double().numpy()
    # Virtual tokens, which are the same with and without the text, come first.
    assert np.abs(tokens[: -len(example.ids)]).max(initial=0.0) < 1e-6
    return example.of_words(tokens[-len(example.ids) :])


@pytest.mark.parametrize(
    ("architecture", "entry"), [("bert", "block"), ("bert", "embedding"), ("gpt2", "embedding"), ("llama", "embedding")]
)
@pytest.mark.parametrize("kind", ["prompt", "lora"])
def test_they_are_captums(make, architecture: str, entry: str, kind: str) -> None:
    classifier = make(architecture, kind)
    method = IntegratedGradients(steps=32, max_steps=32, entry=entry)
    _, weights = method.weights(classifier, PAIRS, [1] * len(PAIRS))
    for pair, found in zip(PAIRS, weights, strict=True):
        np.testing.assert_allclose(found, of_captum(classifier, pair, 1, entry=entry, steps=32), atol=1e-4)


def test_llamas_first_block_is_entered_by_the_embeddings_themselves(make) -> None:
    classifier = make("llama")
    block, embedding = (
        IntegratedGradients(entry=entry).weights(classifier, PAIRS, [1] * len(PAIRS))[1]
        for entry in ("block", "embedding")
    )
    for one, other in zip(block, embedding, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("entry", ["block", "embedding"])
def test_they_are_captums_on_minilm(entry: str) -> None:
    from tracemend.models import load

    classifier = TextClassifier(load("minilm"), ("safe", "unsafe"), kind="lora")
    pairs = [("What an unwatchable, awful film!", None), ("I'd see it again", "so would I")]
    method = IntegratedGradients(steps=50, max_steps=50, entry=entry)
    _, weights = method.weights(classifier, pairs, [0, 0])
    for pair, found in zip(pairs, weights, strict=True):
        expected = of_captum(classifier, pair, 0, entry=entry, steps=50)
        assert np.abs(expected).max() > 1e-3
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("entry", ["block", "embedding"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_only_the_text_is_taken_away(make, architecture: str, entry: str) -> None:
    classifier = make(architecture)
    (batch,) = batches(classifier, encoded(classifier, PAIRS), [0] * len(PAIRS), 8)
    function = OfVectors(classifier, "logit", entry)
    vectors = function.vectors(batch.ids, batch.mask)
    nothing = function.absent(batch, vectors, "pad")
    assert torch.equal((nothing != vectors).any(-1), batch.of_text)
    # What is put back in gives what the model says of the text.
    with torch.no_grad():
        found = function(vectors, batch.ids, batch.mask, batch.targets)
        expected = classifier.logits({"input_ids": batch.ids, "attention_mask": batch.mask})[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_an_architecture_whose_blocks_are_not_known_has_its_embeddings(make, monkeypatch) -> None:
    # The package has a function of the module's name.
    monkeypatch.delitem(import_module("tracemend.models.sites").ARCHITECTURES, "bert")
    with pytest.raises(ModelError, match="no sites are known"):
        IntegratedGradients().run(make("bert"), PAIRS)
    assert len(IntegratedGradients(entry="embedding", checked=1, orders=1).run(make("bert"), PAIRS)) == len(PAIRS)
