"""A finished store that nobody writes to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trace.store import job
from tracemend.trace.store import GradientStore


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> GradientStore:
    return job.build(tmp_path_factory.mktemp("stores") / "undisturbed")


@pytest.fixture(scope="session")
def hashes(undisturbed: GradientStore) -> dict[str, str]:
    return job.files(undisturbed.path)


@pytest.fixture
def copy(undisturbed: GradientStore, tmp_path: Path) -> Path:
    """The finished store in a folder of its own."""
    import shutil

    shutil.copytree(undisturbed.path, tmp_path / "copy")
    return tmp_path / "copy"
