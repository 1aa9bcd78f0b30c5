"""What people changed after a repair, as its report tells it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.report.fabricate import fabricate
from tracemend.data import Decision, Labelled, Ledger, Splits
from tracemend.data.examples import write_examples
from tracemend.errors import RunError
from tracemend.report import RepairRun, Summary, write_report
from tracemend.report.since import changed_since

DATA = Labelled.make(["one", "two", "three", "four"], ["safe"] * 4, label_names=["safe", "unsafe"], positive="unsafe")
A, B, C, D = DATA.uid
# What the repair did, and what it left in decisions.parquet.
RAN = [
    Decision(uid=A, kind="label", old="safe", new="unsafe", round=1, actor="repair"),
    Decision(uid=B, kind="remove", old="safe", round=1, actor="repair"),
    Decision(uid=C, kind="keep", old="safe", round=1, actor="repair"),
    Decision(uid=D, kind="ask", old="safe", round=1, actor="repair"),
]
DECISIONS = pd.DataFrame(
    [{"uid": d.uid, "kind": d.kind, "old": d.old, "new": d.new, "text": ""} for d in RAN if d.kind != "ask"]
)


def later(*decisions: Decision, out: Path, undo: tuple[str, ...] = ()) -> None:
    """A run directory as the repair left it, and what people did then."""
    write_examples(Splits(DATA, DATA, DATA), out)
    with Ledger(out / "ledger.sqlite") as ledger:
        ledger.add(RAN)
        for uid in undo:
            ledger.undo(uid, actor="Ada")
        ledger.add(decisions)


def found(out: Path) -> dict[str, tuple[str, str | None, str | None, str]]:
    return {c.uid: (c.given, c.repaired, c.now, c.by) for c in changed_since(out, DECISIONS)}


def test_a_run_that_nobody_touched_has_no_change(tmp_path: Path) -> None:
    assert changed_since(tmp_path, DECISIONS) == ()
    later(out=tmp_path)
    assert found(tmp_path) == {}


def test_what_a_person_came_to_is_told_with_what_the_repair_had_done(tmp_path: Path) -> None:
    later(
        Decision(uid=B, kind="keep", old="safe", actor="Bo"),
        Decision(uid=C, kind="label", old="safe", new="unsafe", actor="Bo"),
        Decision(uid=D, kind="remove", old="safe", actor="Bo"),  # the repair had asked alone
        out=tmp_path,
        undo=(A,),
    )
    assert found(tmp_path) == {
        A: ("safe", "unsafe", "safe", "Ada"),
        B: ("safe", None, "safe", "Bo"),
        C: ("safe", "safe", "unsafe", "Bo"),
        D: ("safe", "safe", None, "Bo"),
    }
    assert {c.uid: c.text for c in changed_since(tmp_path, DECISIONS)}[D] == "four"


def test_a_person_who_agrees_changes_nothing(tmp_path: Path) -> None:
    later(Decision(uid=A, kind="label", old="safe", new="unsafe", actor="Ada"), out=tmp_path)
    assert found(tmp_path) == {}


def test_the_page_lists_changes_in_place_of_the_decisions_they_replace(tmp_path: Path) -> None:
    fabricate(tmp_path, acted=4)
    decisions = RepairRun.read(tmp_path).decisions.to_dict("records")
    before = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Since the run" not in before and before.count('<article class="decision') == 6
    first = decisions[0]
    frame = DATA.frame.assign(uid=[d["uid"] for d in decisions[:4]])
    write_examples(Splits(Labelled(frame, DATA.labels, "unsafe"), DATA, DATA), tmp_path)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.add(Decision(**{k: d[k] for k in ("uid", "kind", "old", "new")}, actor="repair") for d in decisions)
        ledger.undo(first["uid"], actor="Ada & <b>Bo</b>")
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Since the run, 1 decision was changed (by Ada &amp; &lt;b&gt;Bo&lt;/b&gt;)" in html
    assert "3 examples were acted on" in html and html.count('<article class="decision') == 6
    assert html.index('id="since"') < html.index(first["uid"])
    assert "Since the run, 1 decision" in Summary(RepairRun.read(tmp_path))._repr_html_()


def test_a_damaged_ledger_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_text("no ledger " * 200, encoding="utf-8")
    with pytest.raises(RunError, match="not a ledger of tracemend"):
        changed_since(tmp_path, DECISIONS)
