"""Completions are traced as labels are: exact gradients, TracIn, the store, and a ranking beside a random order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.completions import unit
from tests.trace.conftest import shaken
from tracemend.data import Completions, CompletionSplits, Labelled, Splits
from tracemend.errors import TraceError
from tracemend.models import load, tiny
from tracemend.progress import Progress
from tracemend.trace import SuspectCompletions, TracIn, per_example_gradients, self_influence
from tracemend.trace.store import GradientStore
from tracemend.tuning import CompletionModel, TextClassifier, TunedCompletions

KINDS = ("prompt", "p-tuning", "prefix", "lora", "ia3")


def made(architecture: str = "llama", kind: Any = "lora", **more: Any) -> CompletionModel:
    model = CompletionModel(tiny(architecture), kind=kind, virtual_tokens=3, rank=2, max_length=48, **more)
    return shaken(model)


@pytest.fixture
def asked() -> Completions:
    prompts = ["what is good", "who are you", "why do you hate this very sad movie so much", "stop", "say yes"]
    answers = ["love", "nice people thanks", "it is a terrible film and i hate it", "no", "yes yes yes"]
    return Completions.make(prompts, answers)


@pytest.fixture(scope="module")
def tuned() -> TunedCompletions:
    _, found, _ = SuspectCompletions.tiny()
    return found


@pytest.fixture(scope="module")
def parts() -> CompletionSplits:
    _, _, found = SuspectCompletions.tiny()
    return found


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "t5"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_batched_gradients_are_those_of_one_backward_pass_each(
    architecture: str, kind: str, reduction: str, asked: Completions
) -> None:
    model = made(architecture, kind, reduction=reduction)
    found = per_example_gradients(model, asked, method="fast", batch_size=5)  # refused if the self-test fails
    np.testing.assert_allclose(found.losses, model.losses(asked.pairs), rtol=1e-5)
    assert found.logits.shape == (5, 0) and found.uid == tuple(asked.uid)
    if kind == "p-tuning" or (architecture == "t5" and kind == "prompt"):
        return  # rows lie at the output of the prompt's encoder, which the self-test carries to its parameters
    expected = per_example_gradients(model, asked, method="loop")
    assert [block.name for block in found.layout] == [block.name for block in expected.layout]
    torch.testing.assert_close(found.grads, expected.grads, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_texts_alone_are_traced(architecture: str) -> None:
    texts = Completions.make(["good movie", "you are terrible and i hate this film so very much", "nice day"])
    model = made(architecture)
    found = per_example_gradients(model, texts, method="fast")
    torch.testing.assert_close(
        found.grads, per_example_gradients(model, texts, method="loop").grads, rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_mapped_gradients_are_the_same(architecture: str, asked: Completions) -> None:
    model = made(architecture)
    mapped = per_example_gradients(model, asked, method="vmap")
    loop = per_example_gradients(model, asked, method="loop")
    torch.testing.assert_close(mapped.grads, loop.grads, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(mapped.losses, loop.losses, rtol=1e-5)


def test_half_precision_keeps_the_direction(asked: Completions) -> None:
    model = made("llama", "lora")
    exact, rounded = (per_example_gradients(model, asked, precision=p).grads for p in ("fp32", "bf16"))
    assert not torch.equal(exact, rounded)
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=1).min() > 0.999


def test_a_gradient_is_what_a_step_does(asked: Completions) -> None:
    model = made("llama", "prompt")
    found = per_example_gradients(model, asked)
    before, rate = model.state(), 1e-3 / float(found.norms[2])

    def loss(step: float) -> float:
        model.restore(before)
        with torch.no_grad():
            for block in found.layout:
                model.trainable()[block.name].sub_(step * found.grads[2, block.columns].reshape(block.shape))
        return float(per_example_gradients(model, asked.take([0])).losses[0])

    change = (loss(rate) - loss(-rate)) / 2
    assert change == pytest.approx(-rate * float(found.grads[2] @ found.grads[0]), rel=0.05)


def test_the_self_test_is_asked_and_heard(asked: Completions, monkeypatch: pytest.MonkeyPatch) -> None:
    from tracemend.trace.gradients import collect

    monkeypatch.setattr(collect, "agreement", lambda *_, **__: "they differ")
    heard = []

    class Ear(Progress):
        def note(self, event: str, **facts: Any) -> None:
            heard.append((event, facts["reason"]))

    per_example_gradients(made(), asked, progress=Ear())
    assert heard[-1][0] == "gradients fall back to one example at a time" and "they differ" in heard[-1][1]
    with pytest.raises(TraceError, match="they differ"):
        per_example_gradients(made(), asked, method="fast")


def test_labels_and_completions_are_not_confused(asked: Completions) -> None:
    labelled = Labelled.make(["good", "bad"], ["safe", "unsafe"])
    with pytest.raises(TraceError, match="the data has the labels safe, unsafe and the model none"):
        per_example_gradients(made(), labelled)
    with pytest.raises(TraceError, match="the data has the labels none and the model safe, unsafe"):
        per_example_gradients(TextClassifier(tiny("llama"), ("safe", "unsafe")), asked)
    with pytest.raises(TraceError, match="a margin needs at least two labels"):
        _ = per_example_gradients(made(), asked).margins


def test_tracin_over_the_checkpoints(tuned: TunedCompletions, parts: CompletionSplits) -> None:
    config = TracIn(normalise_train=False, normalise_query=False)
    found = config.influence(tuned.model, parts.train, parts.validation, checkpoints=tuned.checkpoints)
    before = tuned.model.state()
    expected = np.zeros(found.scores.shape)
    for checkpoint in tuned.checkpoints:
        tuned.model.restore(checkpoint.load_state())
        g = per_example_gradients(tuned.model, parts.train, method="loop").grads
        q = per_example_gradients(tuned.model, parts.validation, method="loop").grads
        expected += checkpoint.lr_sum * (g @ q.T).numpy()
    tuned.model.restore(before)
    np.testing.assert_allclose(found.scores, expected, rtol=2e-3, atol=1e-4 * np.abs(expected).max())
    own = self_influence(tuned.model, parts.train, checkpoints=tuned.checkpoints)
    np.testing.assert_allclose(own, found.self_influence, rtol=1e-3)
    table = found.proponents(0, top=3)
    assert list(table["reply"]) == [parts.train.pairs[i][1] for i in np.argsort(-found.scores[:, 0], kind="stable")[:3]]
    adam = TracIn(optimizer="adam").influence(tuned.model, parts.train, parts.validation, checkpoints=tuned.checkpoints)
    assert adam.scores.shape == found.scores.shape and np.abs(adam.scores).max() > 0


def test_the_store_holds_them(tuned: TunedCompletions, parts: CompletionSplits, tmp_path: Path) -> None:
    store = GradientStore.build(tmp_path / "store", tuned.model, parts.train, tuned.checkpoints, dtype="float32")
    store = GradientStore.open(tmp_path / "store")
    assert store.manifest["loss"] == tuned.model.loss
    before = tuned.model.state()
    tuned.model.restore(tuned.checkpoints[0].load_state())
    expected = per_example_gradients(tuned.model, parts.train)
    tuned.model.restore(before)
    seen = 0
    for rows, part in store.shards(0):
        torch.testing.assert_close(part.grads, expected.grads[torch.as_tensor(rows)], rtol=1e-4, atol=1e-6)
        assert part.uid == tuple(parts.train.uid[i] for i in rows)
        seen += len(rows)
    assert seen == len(parts.train)
    swapped = parts.train.swapped(0.3, seed=5)
    with pytest.raises(TraceError, match="something else"):
        GradientStore.build(tmp_path / "store", tuned.model, swapped, tuned.checkpoints, dtype="float32")


@pytest.mark.parametrize("by", ["tracin", "self-influence", "loss", "untuned-loss"])
def test_every_ranking_has_its_table_and_its_control(by: Any, tuned: TunedCompletions, parts: CompletionSplits) -> None:
    found = SuspectCompletions(by=by).run(tuned, parts)
    table = found.table()
    assert list(table.columns) == ["rank", "uid", "text", "reply", "score", "loss", "evidence"]
    assert sorted(table["uid"]) == sorted(parts.train.uid) and table["score"].is_monotonic_decreasing
    assert found.controls["detection_ap"] == pytest.approx(parts.train.wrong.mean())
    assert found.controls["top_loss"] == pytest.approx(float(table["loss"].mean()), rel=1e-5)
    losses = dict(zip(parts.train.uid, tuned.model.losses(parts.train.pairs), strict=True))
    np.testing.assert_allclose(table["loss"], [losses[uid] for uid in table["uid"]], rtol=1e-5)
    if by == "untuned-loss":
        untuned = CompletionModel(tiny("llama"), kind="lora", rank=2, max_length=48)
        expected = np.sort(untuned.losses(parts.train.pairs))[::-1]
        np.testing.assert_allclose(table["score"], expected, rtol=1e-5)
        assert all(p.requires_grad for p in tuned.model.trainable().values()) and tuned.model.trainable()


def test_what_cannot_be_ranked_is_refused(tuned: TunedCompletions, parts: CompletionSplits) -> None:
    unknown = CompletionSplits(Completions.make(["say yes", "say no"], ["yes", "no"]), parts.validation)
    assert "detection_ap" not in SuspectCompletions(by="loss").run(tuned.model, unknown).metrics
    labelled = Labelled.make(["a", "b"], ["x", "y"])
    for data, words in (
        (Splits(labelled, labelled, labelled), "takes CompletionSplits"),
        (CompletionSplits(parts.train, parts.validation.take([])), "16 training and 0 trusted"),
    ):
        with pytest.raises(TraceError, match=words):
            SuspectCompletions().run(tuned, data)
    with pytest.raises(TraceError, match="did you mean 'tracin'"):
        SuspectCompletions(by="tracing").run(tuned, parts)
    with pytest.raises(TraceError, match="tune_completions first"):
        SuspectCompletions().run(tiny("llama"), parts)
    with pytest.raises(TraceError, match="share is 0"):
        SuspectCompletions(share=0).run(tuned, parts)


@pytest.mark.slow
def test_swapped_answers_are_found_by_a_real_model() -> None:
    found = unit(load("smollm2"), seed=0, signals=("tracin", "loss"), train=24)
    assert found["tracin"] > 2 * found["random order"] and found["loss"] > 2 * found["random order"], found
