"""A store gives back what was traced, resumes where it stopped, and refuses what is not its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tracemend.data import Labelled
from tracemend.errors import RunError, TraceError
from tracemend.models import tiny
from tracemend.trace import per_example_gradients
from tracemend.trace.store import GradientStore
from tracemend.trace.tracin import at
from tracemend.tuning import Tuned, Tuning, tune


@pytest.fixture
def tuned(data: Labelled) -> Tuned:
    tuning = Tuning(adapter="lora", epochs=2, batch_size=4, rank=2, max_length=32, patience=0, precision="fp32")
    return tune(tiny("bert"), data, data, tuning)


def build(path: Path, tuned: Tuned, data: Labelled, **options: Any) -> GradientStore:
    options = {"dtype": "float32", "shard_rows": 3, **options}
    return GradientStore.build(path, tuned.classifier, data, tuned.checkpoints, **options)


def test_it_gives_back_what_was_traced(tmp_path: Path, tuned: Tuned, data: Labelled) -> None:
    store = build(tmp_path / "store", tuned, data)
    for number, checkpoint in enumerate(tuned.checkpoints):
        with at(tuned.classifier, checkpoint):
            expected = per_example_gradients(tuned.classifier, data, compact=True)
        seen: list[int] = []
        for positions, found in store.shards(number):
            torch.testing.assert_close(found.grads, expected.grads[torch.as_tensor(positions)], rtol=1e-3, atol=1e-6)
            np.testing.assert_allclose(found.losses, expected.losses[positions], rtol=1e-4)
            assert found.uid == tuple(expected.uid[i] for i in positions)
            assert found.layout == expected.layout
            seen += positions.tolist()
        assert sorted(seen) == list(range(len(data)))
        moments = store.second_moments(number)
        assert all(torch.equal(moments[n], v) for n, v in checkpoint.second_moments().items())


def test_it_resumes_with_the_missing_shards_alone(tmp_path: Path, tuned: Tuned, data: Labelled) -> None:
    store = build(tmp_path, tuned, data)
    files = sorted(tmp_path.glob("ckpt-*/shard-*"))
    assert len(files) == 6
    kept = {file: file.stat().st_mtime_ns for file in files[:-1]}
    lost = files[-1].read_bytes()
    files[-1].unlink()
    assert store.missing(1) == [2]
    with pytest.raises(TraceError, match="lacks 1 of 3 shards"):
        next(store.shards(1))
    build(tmp_path, tuned, data)
    assert files[-1].read_bytes() == lost
    assert kept == {file: file.stat().st_mtime_ns for file in files[:-1]}


def test_bfloat16_halves_it(tmp_path: Path, tuned: Tuned, data: Labelled) -> None:
    exact = next(build(tmp_path / "a", tuned, data).shards(0))[1].grads
    rough = next(build(tmp_path / "b", tuned, data, dtype="bfloat16").shards(0))[1].grads
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(exact, rough, rtol=0.01, atol=1e-6)


def test_another_label_or_adapter_is_an_error(tmp_path: Path, tuned: Tuned, data: Labelled) -> None:
    build(tmp_path, tuned, data)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    with pytest.raises(TraceError, match=r"something else \(other data\)"):
        build(tmp_path, tuned, data.relabelled({data.uid[0]: "unsafe"}))
    with pytest.raises(TraceError, match=r"checkpoints: there of steps \[\d+, \d+\], now of steps \[\d+\]"):
        GradientStore.build(tmp_path, tuned.classifier, data, tuned.checkpoints[:1], dtype="float32")
    with pytest.raises(TraceError, match=r"dtype: there 'float32', now 'bfloat16'"):
        build(tmp_path, tuned, data, dtype="bfloat16")
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}


def test_a_damaged_shard_is_named(tmp_path: Path, tuned: Tuned, data: Labelled) -> None:
    store = build(tmp_path, tuned, data)
    broken = tmp_path / "ckpt-0000" / "shard-00001.safetensors"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(TraceError, match=r"shard-00001\.safetensors is damaged"):
        list(store.shards(0))


def test_no_store_and_no_checkpoint_are_errors(tmp_path: Path, tuned: Tuned, data: Labelled) -> None:
    with pytest.raises(RunError, match="does not exist"):
        GradientStore.open(tmp_path)
    with pytest.raises(TraceError, match="at least one checkpoint"):
        GradientStore.build(tmp_path, tuned.classifier, data, [])
