"""What every saliency method keeps, on every family of models and every adapter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.saliency.conftest import ARCHITECTURES, LABELS, PAIRS, PLANTED, fillers
from tracemend.errors import DataError, TraceError
from tracemend.methods import registry
from tracemend.saliency import Gradient, InputXGradient, IntegratedGradients, Rollout, Saliency
from tracemend.tuning import KINDS

METHODS = {name: method for name, method in registry().items() if issubclass(method, Saliency)}
each = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


def quick(method: type[Saliency], **options: object) -> Saliency:
    few = {"max_steps": 16} if issubclass(method, IntegratedGradients) else {}
    return method(checked=2, orders=1, **few, **options)


# A local gradient may point elsewhere in networks as bent as these; chance is one in eight. What attention does is
# tested against the patterns themselves.
FOUND = {"saliency.integrated-gradients": 0.9, "saliency.occlusion": 0.9, "saliency.gradient": 0.6}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), FOUND.items(), ids=FOUND.keys())
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_word_that_decides_is_ranked_first_and_the_order_is_faithful(
    decided, name: str, least: float, architecture: str
) -> None:
    pairs = fillers(12, planted=True, seed=3)
    # The output of a model as sure as these bends sharply on the way from no text; the order is settled long before.
    coarse = {"max_steps": 32} if name == "saliency.integrated-gradients" else {}
    result = METHODS[name](checked=12, label="unsafe", **coarse).run(decided(architecture), pairs)
    assert (result.examples["predicted"] == "unsafe").all()
    first = result.table().groupby("example").first()
    assert (first["string"] == PLANTED).mean() >= least
    assert result.metrics["comprehensiveness"] > result.controls["comprehensiveness"] + 0.1
    assert result.metrics["sufficiency"] < result.controls["sufficiency"] - 0.1
    assert result.metrics["aopc"] > result.controls["aopc"] + 0.1


@each
def test_a_text_weighs_the_same_in_any_batch(make, method) -> None:
    classifier = make("bert")
    together = quick(method, batch_size=5).run(classifier, PAIRS)
    for i, pair in enumerate(PAIRS):
        alone = quick(method, batch_size=1, label=together.examples["label"][i]).run(classifier, [pair])
        expected = alone.words(0)["weight"]
        np.testing.assert_allclose(together.words(i)["weight"], expected, rtol=1e-3, atol=1e-5 * expected.abs().max())


@each
@pytest.mark.parametrize("architecture", ["bert", "llama", "t5"])
def test_the_model_is_left_as_it_was(make, method, architecture: str) -> None:
    classifier = make(architecture, "lora")
    for parameter in classifier.trainable().values():
        parameter.grad = torch.full_like(parameter, 7.0)
    before = {name: value.clone() for name, value in classifier.network.state_dict().items()}
    required = {name: p.requires_grad for name, p in classifier.network.named_parameters()}
    quick(method).run(classifier, PAIRS)
    assert all(torch.equal(before[name], value) for name, value in classifier.network.state_dict().items())
    assert {name: p.requires_grad for name, p in classifier.network.named_parameters()} == required
    assert all(bool((p.grad == 7.0).all()) for p in classifier.trainable().values())
    frozen = [p for p in classifier.network.parameters() if not p.requires_grad]
    assert frozen and all(p.grad is None for p in frozen)
    assert all(p.grad is None for p in classifier.language_model.network.parameters())


@pytest.mark.parametrize("method", [InputXGradient, Rollout], ids=["gradient", "attention"])
@pytest.mark.parametrize(
    ("architecture", "kind"),
    [(a, k) for a in ARCHITECTURES for k in KINDS if k != "head" or a == "bert"],
)
def test_every_adapter_on_every_family(make, method, architecture: str, kind: str) -> None:
    """Virtual tokens are no words, and stand in nobody's way."""
    classifier = make(architecture, kind)
    result = quick(method).run(classifier, PAIRS[1:3])
    assert result.words(0)["string"].tolist() == ["good", "movie"]
    assert result.words(1)["part"].tolist() == ["text"] * 5 + ["reply"] * 4
    weights = result.rows["weight"]
    assert np.isfinite(weights).all() and weights.abs().max() > 0
    assert result.examples["elsewhere"].between(0, 1).all()


@each
def test_a_longer_text_is_cut_and_said_to_be(make, method) -> None:
    result = quick(method).run(make("bert", max_length=8), [("good movie " * 10, None)])
    words = result.words(0)
    assert bool(result.examples["cut"][0])
    assert words["weight"].notna().tolist() == [True] * 6 + [False] * 14
    assert sorted(words["rank"]) == list(range(1, 21)) and words["rank"][:6].max() == 6
    assert "was not read" in result.html()


@each
def test_offsets_are_those_of_the_users_text(make, method) -> None:
    text, reply = "  What?!  An\tAWFUL day 👍", "Café — no"
    result = quick(method).run(make("bert"), [(text, reply)])
    for row in result.rows.to_dict("records"):
        assert {"text": text, "reply": reply}[row["part"]][row["start"] : row["end"]] == row["string"]
    assert "AWFUL" in set(result.rows["string"])


def test_labels_and_outputs_differ_as_they_must(make) -> None:
    classifier = make("bert")
    weights = {
        (label, output): InputXGradient(label=label, output=output).weights(
            classifier, PAIRS, [LABELS.index(label)] * len(PAIRS)
        )[1]
        for label in LABELS
        for output in ("log-odds", "logit", "probability")
    }
    for i in range(len(PAIRS)):
        # With two labels the log-odds of one are minus those of the other, and the difference of the logits.
        np.testing.assert_allclose(weights["safe", "log-odds"][i], -weights["unsafe", "log-odds"][i], rtol=1e-4)
        difference = weights["safe", "logit"][i] - weights["unsafe", "logit"][i]
        np.testing.assert_allclose(weights["safe", "log-odds"][i], difference, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(
            weights["safe", "probability"][i], -weights["unsafe", "probability"][i], rtol=1e-3, atol=1e-6
        )


def test_three_labels(make) -> None:
    from tracemend.models import tiny
    from tracemend.tuning import TextClassifier

    classifier = TextClassifier(tiny("gpt2"), ("good", "bad", "toxic"), kind="lora", rank=2)
    result = quick(IntegratedGradients, label="bad").run(classifier, PAIRS)
    p = result.examples["probability"]
    np.testing.assert_allclose(result.examples["output"], np.log(p / (1 - p)), rtol=1e-3, atol=1e-4)


def test_a_gradient_has_no_sign(make) -> None:
    assert (quick(Gradient).run(make("bert"), PAIRS).rows["weight"] >= 0).all()


@each
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"label": "unsaef"}, "did you mean 'unsafe'"),
        ({"output": "odds"}, "log-odds"),
        ({"deletion": "erase"}, "mask, pad, remove"),
        ({"checked": 0}, "at least 1"),
        ({"orders": 0}, "at least 1"),
        ({"batch_size": 0}, "at least 1"),
    ],
)
def test_bad_choices_are_told(make, method, options: dict[str, object], said: str) -> None:
    with pytest.raises(TraceError, match=said):
        method(**options).run(make("bert"), PAIRS)


@each
@pytest.mark.parametrize("data", [[], ["a text"], [("a", 3)], [(None, None)], "ab", [("a", None, None)]])
def test_what_is_no_text_is_told(make, method, data: object) -> None:
    with pytest.raises(TraceError, match="text, reply or None"):
        method().run(make("bert"), data)


@each
def test_an_empty_text_and_another_kind_of_model_are_told(make, method) -> None:
    with pytest.raises(DataError, match="text 1 is empty"):
        method().run(make("bert"), [("good", None), (" ", None)])
    with pytest.raises(TraceError, match="TextClassifier"):
        method().run(make("bert").language_model, PAIRS)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "t5"])
def test_a_tokenizer_without_a_mask_token_is_told(make, architecture: str) -> None:
    for method in (Gradient(deletion="mask"), IntegratedGradients(absent="mask")):
        with pytest.raises(TraceError, match="no mask token"):
            method.run(make(architecture), PAIRS)


def test_labelled_texts_are_texts(make) -> None:
    from tracemend.data import Labelled

    data = Labelled.make([text for text, _ in PAIRS], ["safe", "unsafe"] * 2 + ["safe"])
    result = quick(InputXGradient).run(make("bert"), data)
    assert result.examples["text"].tolist() == [text for text, _ in PAIRS]


def test_there_is_no_such_text(make) -> None:
    with pytest.raises(TraceError, match="texts 0 to 4"):
        quick(Gradient).run(make("bert"), PAIRS).words(5)
