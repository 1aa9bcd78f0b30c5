"""Scores from a store on disk are those that TracIn takes in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tracemend.data import Labelled
from tracemend.errors import TraceError
from tracemend.models import tiny
from tracemend.progress import Progress
from tracemend.trace import TracIn
from tracemend.trace.scoring import DataInf, EkFac, Score, TracedQueries, TracInScore, score
from tracemend.trace.scoring.ekfac import _Fitted
from tracemend.trace.store import GradientStore
from tracemend.tuning import Tuned, Tuning, tune


@pytest.fixture
def tuned(data: Labelled) -> Tuned:
    tuning = Tuning(adapter="lora", epochs=2, batch_size=3, rank=2, max_length=32, patience=0, precision="fp32")
    return tune(tiny("bert"), data, data, tuning)


def asked(tuned: Tuned, data: Labelled) -> TracedQueries:
    return TracedQueries(tuned.classifier, data.take([1, 4]), tuned.checkpoints)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("parts", [(), ("layer",)], ids=str)
def test_a_store_gives_what_memory_gives(
    tuned: Tuned, data: Labelled, tmp_path: Path, optimizer: str, cosine: bool, parts: tuple[str, ...]
) -> None:
    store = GradientStore.build(
        tmp_path / "store", tuned.classifier, data, tuned.checkpoints, dtype="float32", shard_rows=3
    )
    options = {"normalise_train": cosine, "normalise_query": cosine, "optimizer": optimizer, "parts": parts}
    queries = data.take([1, 4])
    expected = TracIn(**options).influence(tuned.classifier, data, queries, checkpoints=tuned.checkpoints)
    found = score(store, asked(tuned, data), TracInScore(**options), top=3, dense=tmp_path / "scores.npy")
    scale = np.abs(expected.scores).max()
    np.testing.assert_allclose(found.matrix(), expected.scores, rtol=1e-5, atol=1e-5 * scale)
    assert found.top(0)["uid"].tolist() == expected.proponents(0, 3)["uid"].tolist()
    assert found.bottom(1)["uid"].tolist() == expected.opponents(1, 3)["uid"].tolist()


@pytest.mark.parametrize("how", [TracInScore(), DataInf(), EkFac()], ids=lambda how: how.name)
def test_bfloat16_keeps_the_order(tuned: Tuned, data: Labelled, tmp_path: Path, how: Score) -> None:
    def scores(dtype: str) -> np.ndarray:
        store = GradientStore.build(tmp_path / dtype, tuned.classifier, data, tuned.checkpoints, dtype=dtype)
        return np.array(score(store, asked(tuned, data), how, dense=tmp_path / f"{dtype}.npy").matrix())

    exact, rounded = scores("float32"), scores("bfloat16")
    assert np.isfinite(exact).all()
    assert np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] > 0.999
    assert np.abs(exact - rounded).max() > 0


def test_queries_of_another_classifier_are_refused(tuned: Tuned, data: Labelled, tmp_path: Path) -> None:
    store = GradientStore.build(tmp_path / "store", tuned.classifier, data, tuned.checkpoints)
    other = tune(tiny("bert"), data, data, replace(tuned.tuning, seed=7))
    assert [c.step for c in other.checkpoints] == [c.step for c in tuned.checkpoints]
    with pytest.raises(TraceError, match="other parameters"):
        score(store, asked(other, data), TracInScore(), dense=tmp_path / "scores.npy")
    assert asked(other, data).fingerprint != asked(tuned, data).fingerprint


def test_a_projection_does_not_raise_the_damping(tuned: Tuned, data: Labelled, tmp_path: Path) -> None:
    """It is a share of the mean over the whole matrix, of which the store holds fewer numbers with as much in them."""

    def damped(name: str, **options: Any) -> tuple[float, float]:
        store = GradientStore.build(
            tmp_path / name, tuned.classifier, data, tuned.checkpoints, dtype="float32", **options
        )
        fitted = EkFac().fit(store, 0, progress=Progress())
        assert isinstance(fitted, _Fitted)
        return min(fitted.kept), sum(
            kept * float(basis.moments.mean()) for kept, basis in zip(fitted.kept, fitted.bases, strict=True)
        )

    least, whole = damped("whole")
    assert least == 1.0
    found = [damped(f"w{seed}", project=8, seed=seed) for seed in range(3)]
    assert all(kept < 0.6 for kept, _ in found)
    assert np.mean([damping for _, damping in found]) == pytest.approx(whole, rel=0.3)


def test_queries_at_other_checkpoints_are_refused(tuned: Tuned, data: Labelled, tmp_path: Path) -> None:
    store = GradientStore.build(tmp_path, tuned.classifier, data, tuned.checkpoints[-1:])
    with pytest.raises(TraceError, match="give those of the store"):
        score(store, asked(tuned, data))


def test_an_unfinished_store_is_refused(tuned: Tuned, data: Labelled, tmp_path: Path) -> None:
    store = GradientStore.build(tmp_path, tuned.classifier, data, tuned.checkpoints, shard_rows=3)
    next(tmp_path.glob("ckpt-0001/shard-*2.safetensors")).unlink()
    with pytest.raises(TraceError, match="lacks 1 of 3 shards of checkpoint 1"):
        score(store, asked(tuned, data))
