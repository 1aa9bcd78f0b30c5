"""Every test runs without a network and on few threads."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Set before any test imports a library that reads them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Side by side with others (pytest-xdist), one thread each: also in the processes that a test starts.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from tests.chat_server import server as server  # a fixture of several rooms

# A test run in the background of a shell inherits that Ctrl-C is ignored, and so would the processes it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


# The same examples every time, so that who changes nothing breaks nothing; others with HYPOTHESIS_PROFILE=default.
settings.register_profile("alike", derandomize=True, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "alike"))


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    """Tiny models are slower on many threads than on one."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 2))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tier 1 first: what fails fast is told first. Side by side, the slowest files first, so that all end together."""

    def slow(item: pytest.Item) -> bool:
        return item.get_closest_marker("slow") is not None

    if not hasattr(config, "workerinput"):
        items.sort(key=slow)
        return
    files: dict[Path, list[bool]] = {}
    for item in items:
        files.setdefault(item.path, []).append(slow(item))
    items.sort(key=lambda item: -sum(files[item.path]) / len(files[item.path]))
