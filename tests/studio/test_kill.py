"""What the page has confirmed is in the ledger, whenever the server dies."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.studio_kill import decide_and_kill


@pytest.mark.slow
def test_ten_kills_lose_no_confirmed_decision(run: Path) -> None:
    found = decide_and_kill(run, kills=10, seed=0)
    assert found["confirmed"] > 20
    assert found["lost"] == 0
