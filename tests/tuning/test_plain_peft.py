"""A saved adapter is PEFT's own: plain `PeftModel.from_pretrained` over a fresh base gives the same logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from tests.trace.conftest import shaken
from tests.tuning.conftest import CASES, PAIRS
from tracemend.models import tiny
from tracemend.tuning import PooledClassifier, TextClassifier
from tracemend.tuning.checkpoints import save_checkpoint


@torch.no_grad()
@pytest.mark.parametrize(("architecture", "kind"), CASES)
def test_plain_peft_gives_the_same_logits(architecture: str, kind: str, tmp_path: Path) -> None:
    classifier = shaken(TextClassifier(tiny(architecture), ("safe", "unsafe"), kind=kind, virtual_tokens=3, rank=2))
    save_checkpoint(tmp_path / "adapter-0001", classifier, step=1, lr_sum=0.1, metrics={})
    batch: dict[str, Any] = classifier.batch(classifier.encode(PAIRS)[0])
    if architecture == "t5":
        batch["decoder_input_ids"] = torch.full(
            (len(PAIRS), 1), classifier.language_model.config.decoder_start_token_id
        )

    network = tiny(architecture).network
    # Another seed, so that a head that was not saved cannot go unnoticed.
    base = PooledClassifier(network, 2, seed=99) if architecture == "bert" else network
    plain = PeftModel.from_pretrained(base, str(tmp_path / "adapter-0001")).eval()

    expected, found = classifier.network(**batch).logits, plain(**batch).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    untuned = TextClassifier(tiny(architecture), ("safe", "unsafe"), kind=kind, virtual_tokens=3, rank=2)
    assert not torch.allclose(untuned.network(**batch).logits, expected, atol=1e-3)
