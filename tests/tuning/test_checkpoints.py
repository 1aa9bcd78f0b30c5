"""What a checkpoint does where its files cannot be written."""

from __future__ import annotations

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
