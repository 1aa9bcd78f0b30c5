"""Per-example gradients of LoRA and the head are what opacus' GradSampleModule leaves behind."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.oracles.conftest import AsTensors, assert_close, tensors
from tracemend.data import Labelled
from tracemend.trace import per_example_gradients
from tracemend.tuning import Tuned

opacus = pytest.importorskip("opacus", reason="opacus is the oracle here")


@pytest.mark.slow
@pytest.mark.parametrize("adapter", ["lora", "head"])
def test_gradients_are_those_of_opacus(adapter: str, tuned: Callable[[str], Tuned], data: Labelled) -> None:
    classifier = tuned(adapter).classifier
    ours = per_example_gradients(classifier, data, method="fast")
    ids, mask, y = tensors(classifier, data)

    # It captures in training mode only, which is made the same as eval mode.
    model = AsTensors(classifier)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    wrapped = opacus.GradSampleModule(model, loss_reduction="sum").train()
    losses = torch.nn.functional.cross_entropy(wrapped(ids, mask).double(), y, reduction="none")
    losses.sum().backward()

    parameters = classifier.trainable()
    assert {block.name for block in ours.layout} == set(parameters)
    theirs = {name: vars(p)["grad_sample"].flatten(1) for name, p in parameters.items()}
    for block in ours.layout:
        assert_close(ours.grads[:, block.columns], theirs[block.name])
