"""Edited labels: a child store computes what changed and reads as one built from nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trace.store import job
from tracemend.data import Labelled
from tracemend.errors import TraceError
from tracemend.trace.store import GradientStore, verify


def edited(store: GradientStore, path: Path, data: Labelled, kind: str = "lora", steps: int = 2) -> GradientStore:
    made = job.classifier(kind)
    return store.edited(path, made, data, job.checkpoints(made, steps))


def matrix(store: GradientStore, checkpoint: int) -> torch.Tensor:
    """All gradients in the order of the data."""
    found = torch.full((len(store.rows), store.width), torch.nan)
    for positions, part in store.shards(checkpoint):
        found[torch.as_tensor(positions)] = part.grads
        uid = store.rows.set_index("row")["uid"]
        assert part.uid == tuple(uid[i] for i in positions)
    assert not found.isnan().any()
    return found


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> GradientStore:
    return job.build(tmp_path_factory.mktemp("edits") / "parent", dtype="float32")


@pytest.fixture(scope="module")
def changed() -> Labelled:
    """Two labels flipped, one example dropped, one added, and another order."""
    data = job.examples()
    flips = {data.uid[3]: data.labels[1 - data.y[3]], data.uid[40]: data.labels[1 - data.y[40]]}
    data = data.relabelled(flips).without([data.uid[7]])
    new = Labelled.make([*data.frame["text"], "a new one"], [*data.frame["label"], "safe"],
                        replies=[*data.frame["reply"], None], label_names=data.labels)  # fmt: skip
    return new.take(np.random.default_rng(0).permutation(len(new)))


def from_nothing(path: Path, data: Labelled) -> GradientStore:
    made = job.classifier()
    return GradientStore.build(path, made, data, job.checkpoints(made), dtype="float32", shard_rows=job.SHARD_ROWS)


@pytest.mark.slow
def test_only_what_changed_is_computed(parent, changed, tmp_path: Path) -> None:
    before = job.files(parent.path)
    child = edited(parent, tmp_path / "child", changed)
    assert (child.rows["depth"] == 0).sum() == 3  # two flipped, one new
    assert len(list(child.path.rglob("shard-*"))) == 2  # one shard a checkpoint
    fresh = from_nothing(tmp_path / "fresh", changed)
    for checkpoint in (0, 1):
        torch.testing.assert_close(matrix(child, checkpoint), matrix(fresh, checkpoint), rtol=1e-4, atol=1e-6)
        moments = child.second_moments(checkpoint)
        assert all(torch.equal(moments[n], v) for n, v in fresh.second_moments(checkpoint).items())
    assert job.files(parent.path) == before, "the parent is never touched"
    again = GradientStore.open(child.path)
    assert torch.equal(matrix(again, 1), matrix(child, 1))


def test_losses_and_labels_come_along(parent, changed, tmp_path: Path) -> None:
    child = edited(parent, tmp_path / "child", changed)
    for positions, part in child.shards(0):
        np.testing.assert_array_equal(part.y, changed.y[positions])
        own = -torch.log_softmax(torch.from_numpy(part.logits).double(), 1)[np.arange(len(part)), part.y]
        np.testing.assert_allclose(part.losses, own, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_child_may_be_edited_again(parent, changed, tmp_path: Path) -> None:
    child = edited(parent, tmp_path / "child", changed)
    # Back to the old label of one, which the parent's parent still holds, and a second child's own change.
    old = job.examples()
    data = changed.relabelled({old.uid[3]: old.frame["label"][3], old.uid[11]: old.labels[1 - old.y[11]]})
    grandchild = edited(child, tmp_path / "grandchild", data)
    assert [store.path for store in grandchild.chain] == [grandchild.path, child.path, parent.path]
    assert grandchild.rows["depth"].value_counts().to_dict() == {2: 92, 1: 2, 0: 2}
    fresh = from_nothing(tmp_path / "fresh", data)
    torch.testing.assert_close(matrix(grandchild, 1), matrix(fresh, 1), rtol=1e-4, atol=1e-6)
    assert verify(grandchild.path) == []
    shard = next(child.path.rglob("shard-*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert [fault.file for fault in verify(grandchild.path)] == [shard]


def test_nothing_changed_needs_no_shard(parent, tmp_path: Path) -> None:
    child = edited(parent, tmp_path / "child", job.examples())
    assert not list(child.path.rglob("shard-*"))
    assert torch.equal(matrix(child, 0), matrix(parent, 0))


def test_a_buffer_is_filled_without_the_dropped_rows(parent, changed, tmp_path: Path) -> None:
    child = edited(parent, tmp_path / "child", changed)
    out, whole = child.buffer(), matrix(child, 1)
    for shard in range(child.manifest["shards"]):
        found = child.read(1, shard, out)
        assert found.grads.data_ptr() == out.data_ptr()
        assert torch.equal(found.grads, whole[torch.from_numpy(found.rows)])
        for block in child.blocks(1, shard, out[:2]):
            assert torch.equal(block.grads, whole[torch.from_numpy(block.rows)])


def test_an_interrupted_edit_goes_on(parent, changed, tmp_path: Path) -> None:
    child = edited(parent, tmp_path / "child", changed)
    files = job.files(child.path)
    next(child.path.rglob("ckpt-0001/shard-*")).unlink()
    assert child.missing(0) == [] and len(child.missing(1)) == 1
    edited(parent, child.path, changed)
    assert job.files(child.path) == files


def test_a_moved_family_stays_together_and_a_lost_parent_is_named(parent, changed, tmp_path: Path) -> None:
    shutil.copytree(parent.path, tmp_path / "a" / "parent")
    child = edited(GradientStore.open(tmp_path / "a" / "parent"), tmp_path / "a" / "child", changed)
    expected = matrix(child, 0)
    (tmp_path / "a").rename(tmp_path / "b")
    assert torch.equal(matrix(GradientStore.open(tmp_path / "b" / "child"), 0), expected)
    (tmp_path / "b" / "parent").rename(tmp_path / "elsewhere")
    with pytest.raises(TraceError, match=r"was edited from the store .*parent.*bring it back, or write where it is"):
        GradientStore.open(tmp_path / "b" / "child")
    # The remedy works.
    manifest = tmp_path / "b" / "child" / "manifest.json"
    facts = json.loads(manifest.read_text("utf-8"))
    facts["parent"]["path"] = "../../elsewhere"
    manifest.write_text(json.dumps(facts))
    assert torch.equal(matrix(GradientStore.open(tmp_path / "b" / "child"), 0), expected)


@pytest.mark.slow
def test_another_store_in_the_parents_place_is_refused(parent, changed, tmp_path: Path) -> None:
    shutil.copytree(parent.path, tmp_path / "parent")
    edited(GradientStore.open(tmp_path / "parent"), tmp_path / "child", changed)
    shutil.rmtree(tmp_path / "parent")
    from_nothing(tmp_path / "parent", changed)
    with pytest.raises(TraceError, match="edited from another store than the one that is now in"):
        GradientStore.open(tmp_path / "child")


def test_what_cannot_be_edited(parent, changed, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"built with something else \(.*checkpoints: there of steps"):
        edited(parent, tmp_path / "child", changed, steps=1)
    with pytest.raises(TraceError, match=r"other adapter"):
        edited(parent, tmp_path / "child", changed, kind="prompt")
    with pytest.raises(TraceError, match="name another folder"):
        edited(parent, parent.path, changed)
    with pytest.raises(TraceError, match="no examples left"):
        edited(parent, tmp_path / "child", changed.take([]))
    shutil.copytree(parent.path, tmp_path / "unfinished")
    next((tmp_path / "unfinished").rglob("shard-*")).unlink()
    with pytest.raises(TraceError, match="lacks 1 shards; finish building it first"):
        edited(GradientStore.open(tmp_path / "unfinished"), tmp_path / "child", changed)
    assert not (tmp_path / "child").exists()
