"""A store gives back what was traced, resumes where it stopped, and refuses what is not its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tracemend.data import Labelled
from tracemend.errors import RunError, TraceError
from tracemend.models import tiny
from tracemend.trace import per_example_gradients
from tracemend.trace.gradients.layout import squared_norms
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


def test_a_buffer_is_used_again(tmp_path: Path, tuned: Tuned, data: Labelled) -> None:
    store = build(tmp_path, tuned, data)
    out = store.buffer()
    assert out.shape == (3, store.width) and out.dtype == torch.float32
    for shard in range(store.manifest["shards"]):
        found, fresh = store.read(1, shard, out), store.read(1, shard)
        assert found.grads.data_ptr() == out.data_ptr() != fresh.grads.data_ptr()
        assert torch.equal(found.grads, fresh.grads)
        assert len(found) == len(found.loss) == len(found.norm) == len(found.logits) == len(found.label)
        np.testing.assert_array_equal(found.label, data.y[found.rows])
        np.testing.assert_allclose(found.norm, squared_norms(found.grads, store.layout).sqrt(), rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_blocks_make_the_shard(tmp_path: Path, tuned: Tuned, data: Labelled, rows: int) -> None:
    store = build(tmp_path, tuned, data)
    out = store.buffer(rows)
    for shard in range(store.manifest["shards"]):
        whole, first = store.read(0, shard), 0
        for block in store.blocks(0, shard, out):
            here = slice(first, first + len(block))
            assert block.grads.data_ptr() == out.data_ptr()
            assert torch.equal(block.grads, whole.grads[here])
            for name in ("rows", "loss", "norm", "logits", "label"):
                np.testing.assert_array_equal(getattr(block, name), getattr(whole, name)[here])
            first += len(block)
        assert first == len(whole)


def test_a_part_of_a_shard(tmp_path: Path, tuned: Tuned, data: Labelled) -> None:
    store = build(tmp_path, tuned, data)
    whole, part = store.read(0, 1), store.read(0, 1, store.buffer(2), part=slice(1, 3))
    assert torch.equal(part.grads, whole.grads[1:3])
    for name in ("rows", "loss", "norm", "logits", "label"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[1:3])
    with pytest.raises(TraceError, match=r"part slice\(3, None, None\) of shard 1 holds no row; it has 3"):
        store.read(0, 1, part=slice(3, None))


def test_what_cannot_be_read(tmp_path: Path, tuned: Tuned, data: Labelled) -> None:
    store = build(tmp_path, tuned, data)
    with pytest.raises(TraceError, match=r"there is no shard 3; .* has 3, counted from 0"):
        store.read(0, 3)
    good = store.buffer()
    for wrong in (good.bfloat16(), good[:2], good[:, :-1], good.T.contiguous().T, good[0]):
        with pytest.raises(TraceError, match=r"the buffer is .* as store\.buffer\(\) gives it"):
            store.read(0, 0, wrong)
    (tmp_path / "ckpt-0000" / "shard-00001.safetensors").unlink()
    with pytest.raises(TraceError, match=r"shard-00001\.safetensors is missing; give the command"):
        store.read(0, 1)


def test_safetensors_reads_it_too(tmp_path: Path, tuned: Tuned, data: Labelled) -> None:
    store = build(tmp_path, tuned, data)
    held, ours = load_file(store.file(0, 1)), store.read(0, 1)
    assert torch.equal(held["grads"], ours.grads)
    assert {"grads", "loss", "norm", "logits", "label", "row", "text_hash", "label_hash"} == set(held)


def test_bad_options(tmp_path: Path, tuned: Tuned, data: Labelled) -> None:
    for option, message in (
        ({"dtype": "float16"}, "the dtype 'float16' is not one of"),
        ({"method": "quick"}, "the method 'quick' is not one of"),
        ({"shard_rows": 0}, "shard_rows is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
    ):
        with pytest.raises(TraceError, match=message):
            build(tmp_path / "store", tuned, data, **option)
    with pytest.raises(TraceError, match="no examples"):
        build(tmp_path / "store", tuned, data.take([]))
    assert not (tmp_path / "store").exists()


def test_a_build_that_finds_everything_changes_nothing(tmp_path: Path, tuned: Tuned, data: Labelled) -> None:
    build(tmp_path, tuned, data)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    build(tmp_path, tuned, data)
    assert before == {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(TraceError, match="shard_rows: there 3, now 4"):
        build(tmp_path, tuned, data, shard_rows=4)
