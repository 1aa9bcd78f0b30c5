"""Every test runs without a network and on few threads."""

from __future__ import annotations

import os
import signal

# Set before any test imports a library that reads them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Side by side with others (pytest-xdist), one thread each: also in the processes that a test starts.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from tests.chat_server import server as server  # a fixture of several rooms

# A test run in the background of a shell inherits that Ctrl-C is ignored, and so would the processes it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    """Tiny models are slower on many threads than on one."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or 2))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tier 1 first: what fails fast is told first."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
