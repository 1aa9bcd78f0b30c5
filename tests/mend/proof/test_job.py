"""The proof as one job: who shares a unit's folder, and which cells are finished."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tracemend.evaluate.grid import Cell, Results
from tracemend.mend.proof import Job, planned
from tracemend.mend.proof import job as jobs
from tracemend.progress import Progress
from tracemend.runs import fingerprint
from tracemend.trace.store.claims import Claims

STORED = Path(__file__).parents[3] / "benchmarks" / "results" / "repair_grid"


class Heard(Progress):
    def __init__(self) -> None:
        self.events: list[str] = []

    def note(self, event: str, **facts: Any) -> None:
        self.events.append(event)


@pytest.fixture
def proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> jobs.Proof:
    """It measures nothing, but for who is at it."""

    def measured(shared: Any, arm: str) -> pd.DataFrame:
        folder = tmp_path / "units" / ".claims"
        return pd.DataFrame({"claimed": [[path.name for path in folder.glob("[!.]*")]]})

    monkeypatch.setattr(jobs, "Shared", lambda *_: type("Stub", (), {})())
    monkeypatch.setattr(jobs, "load", lambda name: object())
    for part in ("detected", "repaired"):
        monkeypatch.setattr(jobs, part, measured)
    return jobs.Proof(tmp_path, Heard())


def cell(part: str) -> Cell:
    return planned(part, sets=["hatecheck"], seeds=1, settings=Job().settings)[0]


def unit_of(one: Cell) -> str:
    return f"{one.unit.name}-{fingerprint(Job().settings)[:8]}"


@pytest.mark.parametrize("part", ["detection", "repair"])
def test_a_unit_is_claimed_while_it_is_measured(part: str, proof: jobs.Proof) -> None:
    one = cell(part)
    found = proof(one)
    assert found["claimed"].tolist() == [[unit_of(one)]]
    assert not list((proof.out / "units" / ".claims").glob("[!.]*"))


def test_another_command_at_the_same_unit_is_waited_for(proof: jobs.Proof, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_LOOK", 0.01)
    one, found = cell("repair"), list[pd.DataFrame]()
    heard: Any = proof.progress
    second = threading.Thread(target=lambda: found.append(proof(one)), daemon=True)
    with Claims(proof.out / "units" / ".claims") as claims, claims.held(unit_of(one)) as mine:
        assert mine
        second.start()
        time.sleep(0.1)
        assert not found and heard.events == ["waiting for another command"]
    second.join(10)
    assert len(found) == 1


@pytest.mark.parametrize("part", ["detection", "repair"])
def test_the_published_cells_are_finished(part: str, tmp_path: Path) -> None:
    """Their fingerprints are their names: another one, and all would be run again."""
    results = Results(STORED / part, tmp_path)
    rows = results.rows()
    assert len(rows) > 50
    for row in rows.to_dict("records"):
        facts = {name: row[name] for name in ("dataset", "noise", "rate", "seed", "arm")}
        assert Cell.of({**facts, "settings": json.loads(row["settings"])}).fingerprint == row["cell"]
    wanted = planned(part, settings=Job().settings, other="trace.em")
    assert len({one.fingerprint for one in wanted} & results.finished()) > 50
