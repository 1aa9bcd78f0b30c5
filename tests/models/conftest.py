"""Tiny models of every architecture and inputs with padding for them."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch

from tracemend.models import LanguageModel, tiny
from tracemend.models.tiny import Architecture

TEXTS = ["you are so nice, thanks!", "no", "what is this movie about then?"]


@pytest.fixture(params=get_args(Architecture))
def model(request: pytest.FixtureRequest) -> LanguageModel:
    return tiny(request.param)


def inputs_of(model: LanguageModel) -> dict[str, Any]:
    """A padded batch, with decoder inputs where the model wants them."""
    batch = dict(model.tokenizer(TEXTS, padding=True, return_tensors="pt"))
    if model.family == "encoder-decoder":
        batch["decoder_input_ids"] = torch.tensor([[0, 5, 6]] * len(TEXTS))
    return batch


@pytest.fixture
def inputs(model: LanguageModel) -> dict[str, Any]:
    return inputs_of(model)
