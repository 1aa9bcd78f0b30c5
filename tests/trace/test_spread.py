"""A model that device_map spread: what can be traced is exact, the rest is refused clearly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from tests.trace.conftest import LABELS, shaken
from tracemend.errors import TraceError
from tracemend.models import LanguageModel, tiny
from tracemend.trace import per_example_gradients
from tracemend.tuning import TextClassifier


@pytest.fixture
def spread(tmp_path: Path) -> LanguageModel:
    """Its layers are on disk and are fetched when they are needed."""
    model = tiny("bert")
    model.network.save_pretrained(tmp_path / "model")
    places = {"embeddings": "cpu", "encoder": "disk", "pooler": "cpu"}
    network = AutoModel.from_pretrained(
        tmp_path / "model", device_map=places, offload_folder=tmp_path / "off", attn_implementation="eager"
    )
    return replace(model, network=network.eval())


@pytest.mark.parametrize("kind", ["prompt", "head"])
def test_an_adapter_on_one_device_is_traced(spread, data, kind) -> None:
    found, expected = (
        per_example_gradients(shaken(TextClassifier(model, LABELS, kind=kind, virtual_tokens=3, max_length=32)), data)
        for model in (spread, tiny("bert"))
    )
    assert torch.equal(found.grads, expected.grads)


@pytest.mark.parametrize("kind", ["lora", "ia3"])
def test_an_adapter_in_pieces_is_refused(spread, data, kind) -> None:
    classifier = TextClassifier(spread, LABELS, kind=kind, rank=2, max_length=32)
    with pytest.raises(TraceError, match=r"device_map spread the model so.*load the model onto one device"):
        per_example_gradients(classifier, data)
