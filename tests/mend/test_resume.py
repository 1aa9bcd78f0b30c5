"""A kill at any file of a round: what is resumed ends with the bits of an unbroken run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.mend.conftest import planted, quick
from tests.mend.test_repair import Counter
from tests.mend.test_repair import Killed as Stopped
from tracemend.data import Splits
from tracemend.mend import Repair, clock
from tracemend.models import tiny
from tracemend.trace import TracIn

FILES = ("curve.parquet", "decisions.parquet", "repaired.jsonl", "adapter-original/parameters.safetensors")
# Each is killed once before and once after it is in its place.
POINTS = (
    "arms/repair/round-01/decisions.json",
    "arms/repair/round-01/tuning/adapter-0001",
    "arms/repair/round-01/tuning/adapter-0002",
    "arms/repair/round-01/parameters.safetensors",
    "arms/repair/round-01/second_moments.safetensors",
    "arms/repair/round-01/round.json",
    "arms/repair/round-02/decisions.json",
    "arms/random/round-01/round.json",
    "curve.parquet",
    "adapter-original",
)


class Killed(BaseException):
    """Stands for a kill: nothing may catch it."""


def paper() -> Repair:
    tuning = replace(quick().tuning, adapter="prompt", epochs=2)
    return Repair.preset("gbair", tuning=tuning, rounds=2, candidates=4, controls=("random",))


def adam() -> Repair:
    return quick(
        tuning={"adapter": "lora", "epochs": 2}, checkpoints="all", tracin=TracIn(optimizer="adam"), candidates=4,
        controls=("random",), stop="fixed",
    )  # fmt: skip


@pytest.fixture(scope="module")
def few() -> Splits:
    return planted(60)


def outcome(out: Path) -> dict[str, Any]:
    """All that a run leaves but for times."""
    result = json.loads((out / "result.json").read_text("utf-8"))
    result.pop("seconds")
    result["metrics"].pop("seconds")
    return {"result": result, **{name: (out / name).read_bytes() for name in FILES}}


@pytest.mark.slow
@pytest.mark.parametrize("rules", [paper, adam])
def test_a_kill_at_any_file_changes_nothing(
    rules: Callable[[], Repair], few: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules().run(tiny("bert"), few, out=tmp_path / "whole")
    expected = outcome(tmp_path / "whole")
    real, broken = os.replace, tmp_path / "broken"
    pending = [(broken / point, late) for point in POINTS for late in (False, True)]

    def deadly(source: Any, target: Any) -> None:
        hit = next((p for p in pending if p[0] == Path(target)), None)
        if hit is None or hit[1]:
            real(source, target)
        if hit is not None:
            pending.remove(hit)
            raise Killed

    monkeypatch.setattr(os, "replace", deadly)
    kills = 0
    while True:
        # One directory dies again and again: each start goes on from where the last one fell.
        try:
            rules().run(tiny("bert"), few, out=broken)
            break
        except Killed:
            kills += 1
    # A file that was in its place is not written again, unless what follows it was lost.
    assert kills >= len(POINTS)
    assert outcome(broken) == expected


@pytest.mark.slow
def test_a_resumed_run_takes_the_time_of_all_its_pieces(
    few: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step of a loop is a second here."""
    counter = Counter()
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: counter.steps))
    rules = quick(candidates=4, rounds=1, controls=("random",), stop="fixed")
    whole = rules.run(tiny("bert"), few, out=tmp_path / "whole", progress=counter).metrics["seconds"]
    assert whole == counter.steps > 30
    for share in (0.3, 0.35):
        counter = Counter(kill_at=int(share * whole))
        with pytest.raises(Stopped):
            rules.run(tiny("bert"), few, out=tmp_path / "run", progress=counter)
    counter = Counter()
    found = rules.run(tiny("bert"), few, out=tmp_path / "run", progress=counter)
    last = counter.steps
    # What was lost is done again and counts once; what a new process reads or embeds again takes its time too.
    assert last < 0.7 * whole and whole <= found.metrics["seconds"] <= 1.5 * whole
    result = json.loads((tmp_path / "run" / "result.json").read_text("utf-8"))
    assert result["seconds"] == result["metrics"]["seconds"] == found.metrics["seconds"]


@pytest.mark.slow
def test_a_run_that_began_without_a_clock_has_no_time(few: Splits, tmp_path: Path) -> None:
    rules, out = quick(rounds=1, controls=()), tmp_path / "run"
    with pytest.raises(Stopped):
        rules.run(tiny("bert"), few, out=out, progress=Counter(kill_at=20))
    (out / "seconds.json").unlink()
    assert rules.run(tiny("bert"), few, out=out).metrics["seconds"] is None
    assert json.loads((out / "result.json").read_text("utf-8"))["seconds"] is None
