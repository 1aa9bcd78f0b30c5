"""Full tuning: every parameter of a copy is trained, kept and put back; the model itself stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.tuning.conftest import PAIRS, learnable
from tracemend.data import Splits
from tracemend.errors import TuningError
from tracemend.models import tiny
from tracemend.tuning import CompletionModel, TextClassifier, Tuning, tune
from tracemend.tuning.checkpoints import checkpoints
from tracemend.tuning.predictor import Predictor
from tracemend.tuning.run import tune_run

LABELS = ("safe", "unsafe")
FULL = Tuning(adapter="full", epochs=2, batch_size=8, learning_rate=1e-2, patience=0, precision="fp32", max_length=32)


@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "t5"])
def test_every_parameter_is_tuned_and_the_model_is_as_before(architecture: str) -> None:
    model = tiny(architecture)
    weights = {name: p.detach().clone() for name, p in model.network.named_parameters()}
    before = FULL.classifier(model, LABELS).state()
    tuned = tune(model, learnable(12), learnable(6, seed=1), FULL)
    after = tuned.classifier.state()
    assert set(after) == set(before)
    assert [name for name in after if torch.equal(before[name], after[name])] == []
    assert sum(p.numel() for p in after.values()) >= 0.9 * sum(p.numel() for p in weights.values())
    for name, p in model.network.named_parameters():
        assert torch.equal(p, weights[name]) and p.grad is None, name
    # Weights of its own: nothing that is trained lies where the model's do.
    own = {p.data_ptr() for p in tuned.classifier.trainable().values()}
    assert own.isdisjoint(p.data_ptr() for p in model.network.parameters())


def test_before_the_first_step_it_answers_as_the_frozen_model_does() -> None:
    model = tiny("gpt2")
    full, lora = (TextClassifier(model, LABELS, kind=kind, rank=2, max_length=48) for kind in ("full", "lora"))
    torch.testing.assert_close(torch.tensor(full.predict(PAIRS)), torch.tensor(lora.predict(PAIRS)))


def test_tied_weights_are_one_parameter() -> None:
    network = TextClassifier(tiny("gpt2"), LABELS, kind="full", max_length=48).network.get_base_model()
    assert network.get_input_embeddings().weight is network.get_output_embeddings().weight


def test_a_pooler_that_no_answer_depends_on_is_left_out() -> None:
    classifier = TextClassifier(tiny("bert"), LABELS, kind="full", max_length=32)
    loss = classifier.logits(classifier.batch(classifier.encode(PAIRS)[0])).sum()
    # Autograd refuses a parameter that the answer does not depend on.
    found = torch.autograd.grad(loss, list(classifier.trainable().values()))
    assert all(torch.isfinite(g).all() for g in found)
    assert not any(".pooler." in name for name in classifier.trainable())


def test_a_model_in_bfloat16_is_tuned_in_float32() -> None:
    model = tiny("bert")
    model.network.bfloat16()
    classifier = TextClassifier(model, LABELS, kind="full", max_length=32)
    assert {p.dtype for p in classifier.trainable().values()} == {torch.float32}
    assert {p.dtype for p in model.network.parameters()} == {torch.bfloat16}


def test_a_checkpoint_holds_the_whole_state_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    train, validation = learnable(16), learnable(6, seed=1)
    whole = tune(tiny("bert"), train, validation, FULL, out=tmp_path / "whole")
    # A tuning that was interrupted after its first epoch, and goes on.
    tune(tiny("bert"), train, validation, FULL, out=tmp_path / "broken")
    last = tmp_path / "broken" / "adapter-0002"
    for file in last.iterdir():
        file.unlink()
    last.rmdir()
    resumed = tune(tiny("bert"), train, validation, FULL, out=tmp_path / "broken")
    for name, tensor in whole.classifier.state().items():
        assert torch.equal(tensor, resumed.classifier.state()[name]), name
    folder = tmp_path / "whole" / "adapter-0002"
    kept = load_file(folder / "parameters.safetensors")
    assert set(kept) == set(whole.classifier.trainable())
    assert set(load_file(folder / "second_moments.safetensors")) == set(kept)
    # PEFT's own files would hold the head alone.
    assert not (folder / "adapter_config.json").exists()
    assert len(checkpoints(tmp_path / "whole")) == 2


def test_a_run_is_read_back(tmp_path: Path) -> None:
    model = tiny("bert")
    splits = Splits(train=learnable(16), validation=learnable(6, seed=1), verdict=learnable(6, seed=2))
    result = tune_run(model, splits, FULL, out=tmp_path)
    assert result["model"]["adapter"] == "full"
    found = Predictor.load(tmp_path, model=model)
    assert found.classifier.kind == "full" and found.probabilities(PAIRS).shape == (len(PAIRS), 2)
    assert result["model"]["trainable_parameters"] == sum(p.numel() for p in found.classifier.trainable().values())


def test_models_that_write_are_tuned_whole_too() -> None:
    model = CompletionModel(tiny("llama"), kind="full", max_length=32)
    loss = model.measure(model.batch(model.encode([("good", "movie")])[0]), torch.zeros(1))[0].sum()
    found = torch.autograd.grad(loss, list(model.trainable().values()))
    assert all(torch.isfinite(g).all() and g.abs().max() > 0 for g in found)


def test_weights_that_are_not_in_memory_are_refused() -> None:
    model = tiny("bert")
    model.network.to("meta")
    with pytest.raises(TuningError, match=r"not in memory .*--adapter lora"):
        TextClassifier(model, LABELS, kind="full", max_length=32)
