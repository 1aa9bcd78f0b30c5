"""A model that writes is charged for its completion and nothing else, and is tuned by the loop of the classifiers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel

from tests.tuning.test_tune import Killed, Killer, equal
from tracemend.data import Completions
from tracemend.errors import TuningError
from tracemend.models import tiny
from tracemend.progress import Progress
from tracemend.tuning import CompletionModel, TunedCompletions, Tuning, checkpoints, tune_completions

PROMPTS = ["what is good", "who are you", "why do you hate this very sad movie so much", "stop"]
ANSWERS = ["love", "nice people thanks", "it is a terrible film and i hate it", "no"]
DECODERS = ("gpt2", "llama")
KINDS = ("prompt", "p-tuning", "prefix", "lora", "ia3")
PAIRS: list[tuple[str, str | None]] = list(zip(PROMPTS, ANSWERS, strict=True))


def made(architecture: str = "llama", **more: Any) -> CompletionModel:
    return CompletionModel(tiny(architecture), **{"virtual_tokens": 3, "rank": 2, "max_length": 48, **more})


@pytest.fixture
def train() -> Completions:
    words = ("good", "bad", "happy", "sad", "nice", "awful")
    return Completions.make([f"say {word}" for word in words], [f"the {word} movie" for word in words])


@pytest.fixture
def validation() -> Completions:
    return Completions.make(["say love", "say hate"], ["the love movie", "the hate movie"])


@pytest.fixture
def tuning() -> Tuning:
    return Tuning(epochs=3, batch_size=2, patience=0, precision="fp32", max_length=24, virtual_tokens=2, rank=2)


def by_transformers(model: CompletionModel, prompt: str, completion: str | None) -> float:
    """The loss that transformers gives for labels of its own making, one example at a time, without padding."""
    tokenizer = model.language_model.tokenizer
    end = [tokenizer.eos_token_id]
    if completion is None:
        ids = tokenizer(prompt).input_ids + end
        labels = [-100, *ids[1:]]
    else:
        asked = tokenizer(prompt + "\n").input_ids
        learnt = tokenizer(completion, add_special_tokens=False).input_ids + end
        ids, labels = asked + learnt, [-100] * len(asked) + learnt
    with torch.no_grad():
        out = model.network(input_ids=torch.tensor([ids]), labels=torch.tensor([labels]))
    return float(out.loss)


@pytest.mark.parametrize("architecture", DECODERS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_transformers(architecture: str, kind: Any) -> None:
    model = made(architecture, kind=kind)
    pairs = [*PAIRS, ("you are so very happy", None)]
    found = model.losses(pairs, batch_size=5)
    np.testing.assert_allclose(found, [by_transformers(model, *pair) for pair in pairs], rtol=1e-5)


@pytest.mark.parametrize("kind", ["prompt", "prefix", "lora"])
def test_an_encoder_decoder_writes_its_answer(kind: Any) -> None:
    model = made("t5", kind=kind)
    tokenizer = model.language_model.tokenizer
    expected = []
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        labels = tokenizer(answer, return_tensors="pt").input_ids
        asked = tokenizer(prompt + "\n", return_tensors="pt")
        with torch.no_grad():
            expected.append(float(model.network(**asked, labels=labels).loss))
    np.testing.assert_allclose(model.losses(PAIRS), expected, rtol=1e-5)
    with pytest.raises(TuningError, match="writes an answer to a prompt"):
        model.encode([("alone", None)])


@pytest.mark.parametrize("architecture", [*DECODERS, "t5"])
def test_the_sum_is_the_mean_times_the_tokens(architecture: str) -> None:
    mean, total = made(architecture), made(architecture, reduction="sum")
    rows, _ = mean.encode(PAIRS)
    tokens = [sum(token >= 0 for token in row) for row in rows]
    np.testing.assert_allclose(total.losses(PAIRS), mean.losses(PAIRS) * tokens, rtol=1e-5)
    assert mean.loss != total.loss


@pytest.mark.parametrize("architecture", [*DECODERS, "t5"])
def test_the_output_layer_sees_no_prompt(architecture: str) -> None:
    model = made(architecture, kind="prompt")
    widths: list[tuple[int, ...]] = []
    layer = model.network.get_base_model().get_output_embeddings()
    hook = layer.register_forward_hook(lambda module, args, out: widths.append(tuple(out.shape[:-1])))
    model.losses(PAIRS)
    hook.remove()
    assert widths == [(1, sum(token >= 0 for row in model.encode(PAIRS)[0] for token in row))]
    assert not layer._forward_pre_hooks


def test_a_row_says_what_is_learnt() -> None:
    model = made("llama")
    tokenizer = model.language_model.tokenizer
    (row, alone), cut = model.encode([("good", "movie"), ("good", None)])
    learnt = [token for token in row if token >= 0]
    assert tokenizer.decode([~token for token in row if token < 0]) == "<s>good\n"
    assert tokenizer.decode(learnt) == "movie</s>" and cut == 0
    assert [token for token in alone if token < 0] == [~tokenizer.bos_token_id]
    # Without a beginning of its own, the first token of a text has nothing that predicts it.
    (bare,), _ = made("gpt2").encode([("good movie", None)])
    assert sum(token < 0 for token in bare) == 1 and bare[0] < 0


def test_what_is_too_long_loses_the_beginning_of_its_prompt_first() -> None:
    model = made("llama", max_length=16)
    rows, cut = model.encode([("please " * 30 + "stop", "no"), ("stop " * 30, "no " * 30), ("stop", "no")])
    assert cut == 2 and [len(row) for row in rows[:2]] == [16, 16]
    decoded = model.language_model.tokenizer.decode
    assert decoded([t for t in rows[0] if t >= 0]) == "no</s>"
    assert decoded([~t for t in rows[0] if t < 0]).startswith("<s>") and rows[0][0] == ~1
    assert decoded([~t for t in rows[0] if t < 0]).endswith("stop\n")
    # Both too long: a quarter stays for the prompt, and the completion does not seem to end.
    assert sum(token < 0 for token in rows[1]) == 1 + 15 // 4
    assert "</s>" not in decoded([t for t in rows[1] if t >= 0])


@pytest.mark.parametrize("architecture", DECODERS)
def test_a_loss_does_not_depend_on_the_batch(architecture: str) -> None:
    model = made(architecture, kind="prompt")
    together, alone = model.losses(PAIRS, batch_size=4), model.losses(PAIRS, batch_size=1)
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_what_cannot_write_is_refused() -> None:
    with pytest.raises(TuningError, match="is an encoder and writes no text"):
        made("bert")
    with pytest.raises(TuningError, match="has no head to tune"):
        made(kind="head")
    with pytest.raises(TuningError, match="did you mean 'mean'"):
        made(reduction="meam")
    with pytest.raises(TuningError, match="no prompt and completion fit"):
        made(kind="prompt", virtual_tokens=60)


@pytest.mark.parametrize(("architecture", "adapter"), [("llama", "lora"), ("gpt2", "prompt"), ("t5", "ia3")])
def test_tuning_learns_and_its_seed_repeats_it(
    architecture: str, adapter: Any, tuning: Tuning, train: Completions, validation: Completions
) -> None:
    tuning = replace(tuning, adapter=adapter, learning_rate=2e-2)

    def once() -> TunedCompletions:
        return tune_completions(tiny(architecture), train, validation, tuning)

    first, again = once(), once()
    assert equal(first.best, again.best) and len(first.checkpoints) == 3
    untuned = CompletionModel(tiny(architecture), kind=adapter, virtual_tokens=2, rank=2, max_length=24)
    assert first.model.losses(train.pairs).mean() < untuned.losses(train.pairs).mean() - 0.1
    found = first.model.losses(validation.pairs).mean()
    assert first.best.metrics["loss"] == pytest.approx(float(found), rel=1e-5)


def test_the_lowest_validation_loss_is_the_best(train: Completions, tuning: Tuning) -> None:
    other = Completions.make(["say love", "say hate"], ["zzzz", "qqqq"])  # what is learnt makes these worse in the end
    tuned = tune_completions(tiny("llama"), train, other, replace(tuning, patience=9, learning_rate=3e-2, epochs=9))
    losses = [c.metrics["loss"] for c in tuned.checkpoints]
    assert tuned.best.metrics["loss"] == min(losses) < losses[-1]
    assert tuned.until_best()[-1] is tuned.best
    assert tuned.model.losses(other.pairs).mean() == pytest.approx(min(losses), rel=1e-5)


def test_a_killed_tuning_goes_on(tuning: Tuning, train: Completions, validation: Completions, tmp_path: Path) -> None:
    whole = tune_completions(tiny("llama"), train, validation, tuning, out=tmp_path / "whole")
    out = tmp_path / "broken"
    with pytest.raises(Killed):
        tune_completions(tiny("llama"), train, validation, tuning, out=out, progress=Killer("tune epoch 3"))
    assert len(checkpoints(tmp_path / "broken")) == 2
    resumed = tune_completions(tiny("llama"), train, validation, tuning, out=tmp_path / "broken")
    assert all(equal(*both) for both in zip(whole.checkpoints, resumed.checkpoints, strict=True))


def test_plain_peft_loads_the_adapter(
    tuning: Tuning, train: Completions, validation: Completions, tmp_path: Path
) -> None:
    tuned = tune_completions(tiny("llama"), train, validation, replace(tuning, learning_rate=2e-2), out=tmp_path)
    assert tuned.best.folder is not None
    plain = PeftModel.from_pretrained(tiny("llama").network, str(tuned.best.folder))
    ids = torch.tensor([[1, 40, 50, 60]])
    with torch.no_grad():
        torch.testing.assert_close(plain(input_ids=ids).logits, tuned.model.network(input_ids=ids).logits)


def test_choices_that_are_not_for_completions(train: Completions, validation: Completions, tuning: Tuning) -> None:
    with pytest.raises(TuningError, match="are about classes"):
        tune_completions(tiny("llama"), train, validation, replace(tuning, class_weights=True))
    with pytest.raises(TuningError, match="6 training and 0 validation examples"):
        tune_completions(tiny("llama"), train, validation.take([]), tuning)


def test_cut_examples_are_told(train: Completions, validation: Completions, tuning: Tuning) -> None:
    heard = {}

    class Ear(Progress):
        def note(self, event: str, **facts: Any) -> None:
            heard[event] = facts

    small = replace(tuning, epochs=1, max_length=8)
    tuned = tune_completions(tiny("llama"), train, validation, small, progress=Ear())
    assert heard["cut"]["texts"] == 6 and "6 of 6 training examples were cut to 8 tokens" in tuned.notes[0]
    assert heard["epoch"]["validation_loss"] == tuned.best.metrics["loss"]
