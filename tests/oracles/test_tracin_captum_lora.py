"""TracIn over checkpoints of LoRA and the head is what captum's TracInCP gives, on both of its ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.oracles.conftest import AsTensors, assert_close, tensors
from tracemend.data import Labelled
from tracemend.trace import TracIn, self_influence
from tracemend.tuning import Checkpoint, Tuned

influence = pytest.importorskip("captum.influence", reason="captum is the oracle here")


class Loss(torch.nn.CrossEntropyLoss):
    """In double precision, as ours: the residual of a sure example is all rounding in single precision."""

    def forward(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return super().forward(logits.double(), y)


def oracle(tuned: Tuned, data: Labelled, *, hooks: bool) -> tuple[Any, tuple[torch.Tensor, ...]]:
    classifier, model = tuned.classifier, AsTensors(tuned.classifier).eval()
    by_number = {str(i): checkpoint for i, checkpoint in enumerate(tuned.checkpoints)}

    def load(model: torch.nn.Module, number: str) -> float:
        checkpoint: Checkpoint = by_number[number]
        classifier.restore(checkpoint.load_state())
        return checkpoint.lr_sum

    if hooks:
        # Captum hooks what enters a layer; in front of the first adapter that has no gradient by itself.
        classifier.network.enable_input_require_grads()
    batch = tensors(classifier, data)
    tracin = influence.TracInCP(
        model,
        torch.utils.data.TensorDataset(*batch),
        list(by_number),
        checkpoints_load_func=load,
        layers=model.owners(),
        loss_fn=Loss(reduction="sum" if hooks else "none"),
        batch_size=3,
        sample_wise_grads_per_batch=hooks,
    )
    return tracin, batch


@pytest.mark.slow
@pytest.mark.parametrize("hooks", [False, True], ids=["jacobian", "hooks"])
@pytest.mark.parametrize("adapter", ["lora", "head"])
def test_scores_over_checkpoints_are_those_of_captum(
    adapter: str, hooks: bool, tuned: Callable[[str], Tuned], data: Labelled
) -> None:
    made = tuned(adapter)
    assert len(made.checkpoints) == 3
    ours = TracIn(normalise_train=False, normalise_query=False).influence(
        made.classifier, data, data, checkpoints=made.checkpoints
    )
    own = self_influence(made.classifier, data, checkpoints=made.checkpoints)

    tracin, batch = oracle(made, data, hooks=hooks)
    assert_close(torch.as_tensor(ours.scores), tracin.influence(batch).T)
    assert_close(torch.as_tensor(own), tracin.self_influence(batch))
