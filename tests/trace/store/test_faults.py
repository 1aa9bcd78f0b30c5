"""A full disk, lost permission, damaged files: said clearly, nothing half-written is read, all of it is repaired."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.trace.store import job
from tracemend.errors import RunError, TraceError
from tracemend.trace.store import GradientStore, build, verify


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 4, 11])
def test_a_full_disk_loses_nothing(tmp_path: Path, hashes, monkeypatch, count) -> None:
    path, fsync, seen = tmp_path / "store", os.fsync, []

    def full(descriptor):
        seen.append(descriptor)
        if len(seen) >= count:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=r"the disk is full: .*resumes"):
            job.build(path)
    assert not list(path.rglob(".*.tmp")) and not list(path.glob(".claims/*"))
    job.build(path)
    assert job.files(path) == hashes


def test_a_file_that_the_model_lacks_is_no_shard_of_another(tmp_path: Path, monkeypatch) -> None:
    faults = [FileNotFoundError("offloaded weights"), RuntimeError("it was tried again")]

    def lacking(self, shard):
        raise faults.pop(0)

    monkeypatch.setattr(build._Filling, "_computed", lacking)
    with pytest.raises(FileNotFoundError, match="offloaded weights"):
        job.build(tmp_path / "store")


@pytest.fixture
def disk(tmp_path: Path):
    """A disk of a few kilobytes, and a way to mount it anew with other options."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("a small disk can only be mounted by root")

    def again(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)

    yield folder, again
    subprocess.run(["umount", "-l", folder], check=False)


def test_a_really_full_disk(disk, hashes) -> None:
    folder, remount = disk
    with pytest.raises(RunError, match="the disk is full"):
        job.build(folder / "store")
    held = job.files(folder / "store")
    assert any("shard" in name for name in held), "some of it fitted"
    assert held.items() <= hashes.items()
    remount("size=64m")
    job.build(folder / "store")
    assert job.files(folder / "store") == hashes


def test_permission_lost_in_the_middle(disk, hashes, monkeypatch) -> None:
    folder, remount = disk
    remount("size=64m")
    path, fsync, seen = folder / "store", os.fsync, []

    def lost(descriptor):
        fsync(descriptor)
        seen.append(descriptor)
        if len(seen) == 8:
            # While a file is open for writing a disk cannot be made read-only, so the loss shows one file later.
            monkeypatch.setattr(os, "open", refused)

    def refused(path, flags, *rest, **more):
        if flags & os.O_CREAT:
            raise OSError(errno.EACCES, "Permission denied")
        return os_open(path, flags, *rest, **more)

    os_open = os.open
    monkeypatch.setattr(os, "fsync", lost)
    with pytest.raises(RunError, match=r"cannot be written to \(Permission denied\); make it writable"):
        job.build(path)
    monkeypatch.undo()
    held = job.files(path)
    assert any("shard" in name for name in held) and held.items() <= hashes.items()
    # And really: the same on a disk that is read-only now.
    remount("ro")
    with pytest.raises(RunError, match=r"cannot be written to \(Read-only file system\); make it writable"):
        job.build(path)
    assert GradientStore.open(path).missing(1)
    remount("rw")
    job.build(path)
    assert job.files(path) == hashes


def flipped(file: Path, where: int) -> None:
    raw = bytearray(file.read_bytes())
    raw[where] ^= 1
    file.write_bytes(raw)


def shard(path: Path, checkpoint: int, number: int) -> Path:
    return path / f"ckpt-{checkpoint:04d}" / f"shard-{number:05d}.safetensors"


def test_verify_finds_every_damage_and_the_next_build_mends_it(copy: Path, hashes) -> None:
    assert verify(copy) == []
    damage = {
        shard(copy, 0, 0): ("sha256 differs", lambda f: flipped(f, -100)),
        shard(copy, 0, 1): ("it ends too early", lambda f: f.write_bytes(b"")),
        shard(copy, 0, 2): ("bytes and should have", lambda f: f.write_bytes(f.read_bytes()[:-1])),
        shard(copy, 0, 3): ("another store, checkpoint or shard", lambda f: shutil.copy(shard(copy, 1, 3), f)),
        shard(copy, 1, 0): ("header cannot be read", lambda f: flipped(f, 9)),
        copy / "ckpt-0001" / "second_moments.safetensors": ("sha256 differs", lambda f: flipped(f, -1)),
        copy / "ckpt-0001" / "shard-00099.safetensors": ("no file of this store", lambda f: f.touch()),
        copy / "ckpt-0001" / ".shard-00004.safetensors.ab.tmp": ("half-written", lambda f: f.touch()),
    }
    for file, (_, harm) in damage.items():
        harm(file)
    found = {fault.file: fault.why for fault in verify(copy)}
    assert set(found) == set(damage)
    for file, (why, _) in damage.items():
        assert why in found[file], (file, found[file])
    assert {fault.file for fault in verify(copy, repair=True)} == set(damage)
    assert not any(file.exists() for file in damage)
    assert verify(copy) == []
    assert GradientStore.open(copy).missing(0) == [0, 1, 2, 3]
    job.build(copy)
    assert job.files(copy) == hashes


@pytest.mark.parametrize("where", [0, 8, 200, 700, -1])
def test_no_flipped_byte_is_overlooked(copy: Path, where: int) -> None:
    flipped(shard(copy, 0, 5), where)
    assert [fault.file for fault in verify(copy)] == [shard(copy, 0, 5)]


def test_a_damaged_shard_is_not_read(copy: Path) -> None:
    store = GradientStore.open(copy)
    whole = shard(copy, 0, 0).read_bytes()
    for damaged in (whole[:100], whole[:-5], b"", whole + b"x", b"\xff" * 200):
        shard(copy, 0, 0).write_bytes(damaged)
        with pytest.raises(TraceError, match=r"shard-00000\.safetensors is damaged .*verify --repair"):
            store.read(0, 0)
    shutil.copy(shard(copy, 1, 0), shard(copy, 0, 0))
    with pytest.raises(TraceError, match="of another store, checkpoint or shard"):
        store.read(0, 0)


@pytest.mark.parametrize("name", ["manifest.json", "rows.parquet"])
def test_a_lost_table_is_made_again_and_the_shards_kept(copy: Path, hashes, name: str) -> None:
    (copy / name).write_bytes((copy / name).read_bytes()[:-20])
    with pytest.raises(RunError, match="damaged"):
        GradientStore.open(copy)
    assert verify(copy, repair=True)
    kept = {file: file.stat().st_mtime_ns for file in copy.rglob("*.safetensors")}
    job.build(copy)
    assert job.files(copy) == hashes
    assert kept == {file: file.stat().st_mtime_ns for file in kept}


def test_shards_of_another_store_are_not_taken_for_ones_own(copy: Path) -> None:
    for name in ("manifest.json", "rows.parquet"):
        (copy / name).unlink()
    with pytest.raises(TraceError, match="of another store; name another folder"):
        job.build(copy, dtype="float32")


def test_a_store_of_an_older_version_says_so(copy: Path) -> None:
    manifest = (copy / "manifest.json").read_text("utf-8").replace('"schema": 2', '"schema": 1')
    (copy / "manifest.json").write_text(manifest)
    with pytest.raises(TraceError, match=r"has the schema 1 and this version reads 2; delete the folder"):
        GradientStore.open(copy)


def test_nothing_to_verify(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        verify(tmp_path / "none")
    with pytest.raises(RunError, match="does not exist"):
        verify(tmp_path)
