"""What a checkpoint does where its files cannot be written."""

from __future__ import annotations

import errno
import importlib
import multiprocessing
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tracemend.data import Labelled
from tracemend.errors import RunError
from tracemend.models import tiny
from tracemend.tuning import Tuning, checkpoints, tune
from tracemend.tuning.checkpoints import save_checkpoint

FORKED = multiprocessing.get_context("fork")


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """The system refuses to write more than ``size`` bytes to a file, as a full disk does: in the middle of it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [100, 20_000])  # the first file fails, or the first with tensors
def test_a_write_that_breaks_off_leaves_nothing_and_resumes(
    size: int, tuning: Tuning, train: Labelled, validation: Labelled, tmp_path: Path
) -> None:
    large = replace(tuning, epochs=1, rank=32)
    with no_file_above(size), pytest.raises(RunError, match=r"could not be written .*it resumes"):
        tune(tiny("bert"), train, validation, large, out=tmp_path)
    assert list(tmp_path.iterdir()) == []
    tune(tiny("bert"), train, validation, large, out=tmp_path)
    assert len(checkpoints(tmp_path)) == 1


@pytest.mark.parametrize("name", ["parameters", "second_moments", "first_moments"])
def test_a_damaged_checkpoint_says_what_to_delete(
    name: str, tuning: Tuning, train: Labelled, validation: Labelled, tmp_path: Path
) -> None:
    tuned = tune(tiny("bert"), train, validation, tuning, out=tmp_path)
    last = tmp_path / f"adapter-{len(tuned.checkpoints):04d}"
    damaged = last / f"{name}.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:20])
    with pytest.raises(RunError, match=f"{last.name} and those numbered after it"):
        tune(tiny("bert"), train, validation, tuning, out=tmp_path)
    shutil.rmtree(last)
    again = tune(tiny("bert"), train, validation, tuning, out=tmp_path)
    assert again.best.metrics == tuned.best.metrics


@pytest.mark.slow
def test_two_processes_with_one_folder_do_not_break_each_other(
    tuning: Tuning, train: Labelled, validation: Labelled, tmp_path: Path
) -> None:
    """Each has as many checkpoints to write as the other, at the same places."""
    tuned = tune(tiny("bert"), train, validation, replace(tuning, epochs=1))
    ready = FORKED.Barrier(2)

    def write() -> None:
        ready.wait()
        for number in range(40):
            save_checkpoint(tmp_path / f"adapter-{number:04d}", tuned.classifier, step=number, lr_sum=1.0, metrics={})

    writers = [FORKED.Process(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(checkpoints(tmp_path)) == 40 and not list(tmp_path.glob(".*"))


def test_the_checkpoint_of_the_same_work_stays_and_that_of_other_work_is_replaced(
    tuning: Tuning, train: Labelled, validation: Labelled, tmp_path: Path
) -> None:
    tuned = tune(tiny("bert"), train, validation, replace(tuning, epochs=1))
    folder = tmp_path / "adapter-0001"

    def written(step: int) -> int:
        save_checkpoint(folder, tuned.classifier, step=step, lr_sum=1.0, metrics={"ap": 0.5})
        assert checkpoints(tmp_path)[0].step == step
        return (folder / "parameters.safetensors").stat().st_mtime_ns

    assert written(1) == (first := written(1)) < (second := written(2))
    (folder / "checkpoint.json").unlink()
    assert written(2) > second > first and [path.name for path in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize(("size", "said"), [(100, "can be written to"), (None, "Free some space")])
def test_space_is_asked_for_only_where_the_disk_is_full(
    size: int | None, said: str, tuning: Tuning, train: Labelled, validation: Labelled, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    tuned = tune(tiny("bert"), train, validation, replace(tuning, epochs=1))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if size is None:
        monkeypatch.setattr(importlib.import_module("tracemend.tuning.checkpoints"), "save_file", full)
    with no_file_above(size or 2**30), pytest.raises(RunError, match="could not be written") as refused:
        save_checkpoint(tmp_path / "adapter-0001", tuned.classifier, step=1, lr_sum=1.0, metrics={})
    assert said in str(refused.value) and ("Free some space" in str(refused.value)) == (size is None)
