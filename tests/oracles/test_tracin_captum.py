"""TracIn on a linear head is what captum's TracInCPFast gives."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from tracemend.data import Labelled
from tracemend.models import tiny
from tracemend.trace import TracIn
from tracemend.tuning import Checkpoint, Tuning, tune

tracincp = pytest.importorskip("captum.influence", reason="captum is the oracle here")


@pytest.mark.slow
def test_head_scores_over_checkpoints_are_those_of_captum() -> None:
    texts = [
        "good movie",
        "i hate this film so very much",
        "nice day",
        "what an awful reply",
        "love the people",
        "stop",
    ]
    labels = ["safe", "unsafe", "safe", "unsafe", "safe", "unsafe"]
    data = Labelled.make(texts, labels)
    tuning = Tuning(adapter="head", epochs=3, batch_size=2, max_length=24, patience=0, precision="fp32")
    tuned = tune(tiny("bert"), data, data, tuning)
    ours = TracIn(normalise_train=False, normalise_query=False).influence(
        tuned.classifier, data, data, checkpoints=tuned.checkpoints
    )

    # The frozen encoder gives the same pooled input at every checkpoint: captum gets the head alone.
    inputs: list[torch.Tensor] = []
    network = tuned.classifier.network
    head = next(m for name, m in network.named_modules() if name.endswith("modules_to_save.default"))
    handle = head.register_forward_hook(lambda module, args, output: inputs.append(args[0].detach()))
    for row in tuned.classifier.encode(data.pairs)[0]:
        tuned.classifier.logits(tuned.classifier.batch([row]))
    handle.remove()
    # Captum leaves the bias out of the product, so the bias is given as one more input that is always one.
    pooled, y = torch.nn.functional.pad(torch.cat(inputs), (0, 1), value=1.0), torch.tensor(data.y)

    # Captum looks for activations in front of the last layer, so there has to be a layer before it.
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(pooled.shape[1], 2, bias=False))
    by_number = {str(i): checkpoint for i, checkpoint in enumerate(tuned.checkpoints)}

    def load(model: torch.nn.Sequential, number: str) -> float:
        checkpoint: Checkpoint = by_number[number]
        state: Mapping[str, torch.Tensor] = checkpoint.load_state()
        by_kind = {name.rsplit(".", 1)[1]: value for name, value in state.items()}
        model[1].load_state_dict({"weight": torch.cat([by_kind["weight"], by_kind["bias"][:, None]], dim=1)})
        return checkpoint.lr_sum

    theirs = tracincp.TracInCPFast(
        model,
        model[1],
        torch.utils.data.TensorDataset(pooled, y),
        list(by_number),
        checkpoints_load_func=load,
        loss_fn=torch.nn.CrossEntropyLoss(reduction="sum"),
        batch_size=3,
    ).influence((pooled, y))
    np.testing.assert_allclose(ours.scores, theirs.T.numpy(), rtol=1e-4, atol=1e-6)
    assert len(by_number) == 3 and np.abs(ours.scores).max() > 1e-3
