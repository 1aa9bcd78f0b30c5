"""TCAV with given vectors on inputs of one length is what captum's gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tracemend.concepts.states import states
from tracemend.models import tiny
from tracemend.tuning import TextClassifier

captum_concept = pytest.importorskip("captum.concept", reason="captum is the oracle here")

TEXTS = [f"{a} {b} {c}" for a in ("you", "they") for b in ("love", "hate", "stop", "go") for c in ("movie", "people")]


class Odds(torch.nn.Module):
    """Log-odds [batch, 1] of the last label, from token ids alone."""

    def __init__(self, classifier: TextClassifier) -> None:
        super().__init__()
        self.network = classifier.network
        # Held where the module does not register it: its network is registered already.
        self.parts = (classifier.logits, classifier.language_model.tokenizer.pad_token_id)

    def forward(self, ids: Tensor) -> Tensor:
        logits, pad = self.parts
        found = logits({"input_ids": ids, "attention_mask": (ids != pad).long()})
        return found[:, 1:] - found[:, :1]


Base: Any = captum_concept.Classifier


class Given(Base):  # type: ignore[misc]
    """Vectors that are there already."""

    def __init__(self, weights: Tensor) -> None:
        self.given = weights

    def train_and_eval(self, dataloader: Any, **unused: Any) -> dict[str, Any]:
        return {}

    def weights(self) -> Tensor:
        return self.given

    def classes(self) -> list[int]:
        return [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("layer", [1, 2])
def test_shares_of_texts_are_those_of_captum(layer: int, tmp_path: Path) -> None:
    classifier = TextClassifier(tiny("bert"), ("bad", "good"), kind="lora", max_length=24)
    pairs = [(text, None) for text in TEXTS]
    rows, _ = classifier.encode(pairs)
    assert len({len(row) for row in rows}) == 1
    ids = classifier.batch(rows)["input_ids"]
    own = torch.tensor([place is not None for place in classifier.places(pairs)[0]] + [False] * 32)[: ids.shape[1]]
    slopes = states(classifier, pairs, [layer], target=1).gradient
    assert slopes is not None
    directions = torch.nn.functional.normalize(torch.randn(6, 32, generator=torch.Generator().manual_seed(3)), dim=1)
    model = Odds(classifier)
    name = next(n for n, _ in model.named_modules() if n.endswith(f"encoder.layer.{layer - 1}"))
    shares = []
    for k, direction in enumerate(directions):
        # Moving every token of the text: the same vector at its places, nothing at special tokens and padding.
        weights = (own[:, None] * direction).flatten()
        loaders: list[Any] = [
            torch.utils.data.DataLoader(ids[half], batch_size=4) for half in (slice(0, 8), slice(8, 16))
        ]
        concepts = [captum_concept.Concept(i, f"c{i}", loader) for i, loader in enumerate(loaders)]
        # A folder for each: what lies in one is read in place of the vectors given.
        theirs = captum_concept.TCAV(
            model, [name], classifier=Given(torch.stack([weights, -weights])), save_path=str(tmp_path / str(k))
        )
        found = theirs.interpret(ids, [concepts], target=0)["0-1"][name]["sign_count"]
        ours = float((slopes[0] @ direction > 0).float().mean())
        assert float(found[0]) == pytest.approx(ours, abs=1e-6)
        shares.append(ours)
    assert len(set(shares)) > 1
