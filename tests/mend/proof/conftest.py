"""A made-up reference set with groups and votes, and a tiny model in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tracemend.data import Labelled
from tracemend.mend.proof import Job, sets

WORDS = {
    "safe": ["love", "great", "nice", "happy", "thanks"],
    "unsafe": ["hate", "awful", "terrible", "sad", "stop"],
}


def made(n: int = 168) -> Labelled:
    rng = np.random.default_rng(0)
    labels = [("safe", "unsafe")[i % 2] for i in range(n)]
    texts = [f"{' '.join(rng.choice(WORDS[y], 3))} {rng.integers(10**9)}" for y in labels]
    flip = {"safe": "unsafe", "unsafe": "safe"}
    votes = pd.DataFrame(
        {
            "annotator_1": [None if i % 7 == 0 else y for i, y in enumerate(labels)],
            "annotator_2": [None if i % 7 == 0 else flip[y] if i % 5 == 0 else y for i, y in enumerate(labels)],
        },
        dtype=object,
    )
    return Labelled.make(texts, labels, groups=[f"user {i // 4}" for i in range(n)], extra=votes, positive="unsafe")


@pytest.fixture
def job(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Settings of cells that take a second; ``hatecheck`` stands for the made-up set."""
    from tracemend.models import tiny

    folder = tmp_path_factory.getbasetemp() / "proof-model"
    if not folder.exists():
        model = tiny("bert")
        model.network.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
    monkeypatch.setattr(sets, "reference", lambda name: made())
    return Job(model=str(folder), adapter="head", epochs=15, max_length=20, train=60, validation=40, test=30)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    return {"rows": tmp_path / "rows", "out": tmp_path / "out"}
