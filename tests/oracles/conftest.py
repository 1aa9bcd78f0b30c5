"""A small tuning with several checkpoints, and its classifier as other libraries want it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tracemend.data import Labelled
from tracemend.models import tiny
from tracemend.tuning import TextClassifier, Tuned, Tuning, tune

TEXTS = [
    "good movie",
    "i hate this film so very much",
    "nice day",
    "what an awful reply",
    "love the people",
    "stop",
]
LABELS = ["safe", "unsafe", "safe", "unsafe", "safe", "unsafe"]


class AsTensors(torch.nn.Module):
    """Logits from token ids and a mask, both tensors."""

    def __init__(self, classifier: TextClassifier) -> None:
        super().__init__()
        self.network = classifier.network
        # Held where the module does not register it: its network is registered already.
        self.logits = classifier.logits

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.logits({"input_ids": ids, "attention_mask": mask})

    def owners(self) -> list[str]:
        """Names of the modules that own a trainable parameter."""
        names = [name.rpartition(".")[0] for name, p in self.named_parameters() if p.requires_grad]
        return list(dict.fromkeys(names))


@pytest.fixture
def data() -> Labelled:
    return Labelled.make(TEXTS, LABELS)


@pytest.fixture
def tuned(data: Labelled) -> Callable[[str], Tuned]:
    def make(adapter: str) -> Tuned:
        tuning = Tuning(adapter=adapter, epochs=3, batch_size=2, max_length=24, patience=0, precision="fp32")
        return tune(tiny("bert"), data, data, tuning)

    return make


def tensors(classifier: TextClassifier, data: Labelled) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids, mask and labels of all examples in one padded batch."""
    batch = classifier.batch(classifier.encode(data.pairs)[0])
    return batch["input_ids"], batch["attention_mask"], torch.tensor(data.y)


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Equal to 1e-4 of each figure; figures below a thousandth of the largest to 1e-4 of that."""
    found, expected = torch.as_tensor(found).double(), torch.as_tensor(expected).double()
    largest = float(expected.abs().max())
    assert largest > 0 and found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7 * largest)
