"""A store that is killed, stopped or shared by processes ends as one that nothing disturbed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.trace.store import job
from tracemend.trace.store import verify

KILLS = 10


def until(condition, seconds=60.0):
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)


def shards(path):
    return sorted(path.glob("ckpt-*/shard-*.safetensors"))


def half_written(path):
    return [*path.rglob(".*.tmp"), *path.glob(".claims/*")]


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path, hashes) -> None:
    path, chance = tmp_path / "store", random.Random(0)
    hits, kept = 0, 0
    while hits < KILLS:
        process = job.start(path)
        # The first two before or while the manifest is written; the others some shards further, at any moment of one.
        wanted = 0 if hits < 2 else kept + chance.randrange(6)
        until(lambda p=process, n=wanted: p.exitcode is not None or (path.exists() and len(shards(path)) >= n))
        time.sleep(chance.random() * 0.03)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it was done, or fell, before it could be killed"
        hits += 1
        for fault in verify(path) if (path / "manifest.json").exists() else []:
            assert fault.file.name.endswith(".tmp") or fault.file.parent.name == ".claims", fault
        assert len(shards(path)) >= kept, "a finished shard was lost"
        kept = len(shards(path))
    job.build(path)
    assert job.files(path) == hashes
    assert not half_written(path)


def test_killed_between_a_shard_and_its_claim(tmp_path: Path, hashes) -> None:
    path = tmp_path / "store"
    job.build(path)
    left = path / ".claims" / "ckpt-0000-shard-00011"
    left.write_text('{"host": "elsewhere", "pid": 1}')
    os.utime(left, (0, 0))
    job.build(path)
    assert job.files(path) == hashes


@pytest.mark.slow
def test_ctrl_c(tmp_path: Path, hashes) -> None:
    path = tmp_path / "store"
    process = job.start(path)
    until(lambda: len(shards(path)) >= 3)
    os.kill(process.pid, signal.SIGINT)
    process.join()
    assert process.exitcode == 1  # KeyboardInterrupt
    assert 3 <= len(shards(path)) < len([name for name in hashes if "shard" in name])
    assert not half_written(path), "what Ctrl-C stops is tidied up"
    job.build(path)
    assert job.files(path) == hashes


@pytest.mark.slow
def test_two_processes_make_the_bytes_of_one(tmp_path: Path, hashes) -> None:
    path = tmp_path / "store"
    both = [job.start(path, number, 2, tmp_path / "meet") for number in (0, 1)]
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert job.files(path) == hashes


@pytest.mark.slow
def test_a_killed_process_costs_its_shard_alone(tmp_path: Path, hashes) -> None:
    path = tmp_path / "store"
    second = job.start(path, 1, 2)
    until(lambda: len(shards(path)) >= 5)
    second.kill()
    second.join()
    # Numbered from the first checkpoint on, the odd ones are its own.
    done = {file: file.stat().st_mtime_ns for file in shards(path)}
    assert all(int(file.stem[-5:]) % 2 == 1 for file in done)
    first = job.start(path, 0, 2)
    first.join(60)
    assert first.exitcode == 0
    assert job.files(path) == hashes
    assert done == {file: file.stat().st_mtime_ns for file in done}, "finished shards were computed again"


@pytest.mark.slow
def test_one_of_two_takes_over_while_both_began(tmp_path: Path, hashes) -> None:
    path = tmp_path / "store"
    both = [job.start(path, number, 2) for number in (0, 1)]
    until(lambda: len(shards(path)) >= 4)
    both[1].kill()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, -signal.SIGKILL]
    assert job.files(path) == hashes


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ("torch.distributed.run", "--nproc_per_node", "2"),
        ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
    ],
    ids=["torchrun", "accelerate"],
)
def test_launchers(tmp_path: Path, hashes, launcher) -> None:
    """Both start processes on a machine without a GPU too."""
    script = tmp_path / "job.py"
    script.write_text(f"""
import os, pathlib, torch
torch.set_num_threads(1)
from tests.trace.store import job
job.build(pathlib.Path({str(tmp_path / "store")!r}))
pathlib.Path({str(tmp_path)!r}, "rank-" + os.environ["RANK"]).touch()
""")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *launcher, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in tmp_path.glob("rank-*")) == ["rank-0", "rank-1"]
    assert job.files(tmp_path / "store") == hashes
