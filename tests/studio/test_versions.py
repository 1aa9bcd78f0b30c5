"""What each version of a run was tuned on."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from tracemend.data import Labelled
from tracemend.data.decision import Decision
from tracemend.data.ledger import Ledger
from tracemend.runs import write_parquet
from tracemend.studio.versions import Version, rows_of, training_set


def test_the_repaired_version_was_tuned_on_the_repair_s_decisions_and_the_answers_it_was_given(tmp_path: Path) -> None:
    data = Labelled.make([f"text {i}" for i in range(6)], ["safe", "unsafe"] * 3)
    own = [
        Decision(uid=data.uid[0], kind="remove", old="safe", actor="person"),
        Decision(uid=data.uid[1], kind="label", old="unsafe", new="safe", actor="person"),
        Decision(uid=data.uid[2], kind="label", old="safe", new="unsafe", round=1, actor="repair"),
        Decision(uid=data.uid[3], kind="keep", old="unsafe", round=1, actor="repair"),
    ]
    table = pd.DataFrame([{"round": d.round, "uid": d.uid, "kind": d.kind, "new": d.new} for d in own[:3]])
    write_parquet(tmp_path / "decisions.parquet", table)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.add(own)
        # What was decided since steered no tuning, also where it is the same once more.
        ledger.undo(data.uid[1], actor="Ada")
        ledger.add([Decision(uid=data.uid[1], kind="label", old="unsafe", new="safe", actor="Ada")], resumed=False)
        ledger.add([Decision(uid=data.uid[4], kind="remove", old="safe", actor="Ada")])
        rows = ledger.decisions()
    repaired = Version(
        name="repaired", title="Repaired", run=tmp_path, adapter=tmp_path / "adapter-repaired", basis="repair"
    )
    assert [d.version for d in rows_of(repaired, rows)] == [1, 2, 3, 4]
    found = training_set(repaired, data, rows)
    assert found.uid == data.uid[1:]
    assert list(found.frame["label"]) == ["safe", "unsafe", "unsafe", "safe", "unsafe"]
