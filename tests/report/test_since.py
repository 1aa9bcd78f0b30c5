"""What people changed after a repair, as its report tells it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.report.fabricate import fabricate
from tracemend.errors import RunError
from tracemend.report import RepairRun, Summary, write_report
from tracemend.report.since import COLUMNS, changed_since
from tracemend.runs import write_csv


def row(uid: str, kind: str, old: str, new: str | None = None, **further: Any) -> dict[str, Any]:
    made = {"uid": uid, "kind": kind, "old": old, "new": new, "undoes": None, "in_force": True, "actor": "repair"}
    return {**made, "text": f"the text of {uid}", "reply": None, **further}


def ledger(out: Path, rows: list[dict[str, Any]]) -> None:
    write_csv(out / "changes.csv", pd.DataFrame(rows, columns=list(COLUMNS)))


DECISIONS = pd.DataFrame(
    [
        {"uid": "a", "kind": "label", "old": "safe", "new": "unsafe"},
        {"uid": "b", "kind": "remove", "old": "safe", "new": None},
        {"uid": "c", "kind": "keep", "old": "safe", "new": None},
    ]
)
RAN = [row("a", "label", "safe", "unsafe"), row("b", "remove", "safe"), row("c", "keep", "safe")]


def test_a_run_that_nobody_touched_has_no_change(tmp_path: Path) -> None:
    assert changed_since(tmp_path, DECISIONS) == ()
    ledger(tmp_path, [*RAN, row("d", "ask", "safe")])
    assert changed_since(tmp_path, DECISIONS) == ()


def test_what_a_person_came_to_is_told_with_what_the_repair_had_done(tmp_path: Path) -> None:
    over = {"in_force": False}
    ledger(
        tmp_path,
        [
            {**RAN[0], **over},
            {**RAN[1], **over},
            {**RAN[2], **over},
            row("a", "label", "unsafe", "safe", undoes=1, in_force=False, actor="Ada"),  # taken back
            row("b", "keep", "safe", actor="Bo"),
            row("c", "label", "safe", "unsafe", actor="Bo"),
            row("d", "remove", "safe", actor="Bo"),  # the repair had not touched it
        ],
    )
    found = {c.uid: (c.given, c.repaired, c.now, c.by) for c in changed_since(tmp_path, DECISIONS)}
    assert found == {
        "a": ("safe", "unsafe", "safe", "Ada"),
        "b": ("safe", None, "safe", "Bo"),
        "c": ("safe", "safe", "unsafe", "Bo"),
        "d": ("safe", "safe", None, "Bo"),
    }


def test_a_person_who_agrees_changes_nothing(tmp_path: Path) -> None:
    ledger(tmp_path, [{**RAN[0], "in_force": False}, *RAN[1:], row("a", "label", "safe", "unsafe", actor="Ada")])
    assert changed_since(tmp_path, DECISIONS) == ()


def test_the_page_lists_changes_in_place_of_the_decisions_they_replace(tmp_path: Path) -> None:
    fabricate(tmp_path, acted=4)
    decisions = RepairRun.read(tmp_path).decisions.to_dict("records")
    before = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Since the run" not in before and before.count('<article class="decision') == 6
    ran = [row(d["uid"], d["kind"], d["old"], d["new"]) for d in decisions]
    first = decisions[0]
    back = row(first["uid"], first["kind"], "", first["old"], undoes=1, in_force=False, actor="Ada & <b>Bo</b>")
    ledger(tmp_path, [{**ran[0], "in_force": False}, *ran[1:], back])
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Since the run, 1 decision was changed (by Ada &amp; &lt;b&gt;Bo&lt;/b&gt;)" in html
    assert "3 examples were acted on" in html and html.count('<article class="decision') == 6
    assert "Since the run, 1 decision" in Summary(RepairRun.read(tmp_path))._repr_html_()


@pytest.mark.parametrize(
    ("text", "said"), [('"uid","kind"\n"a","label"\n', "lacks the columns old"), ("", "cannot be")]
)
def test_a_damaged_list_of_changes_says_what_to_do(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "changes.csv").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=said) as found:
        changed_since(tmp_path, DECISIONS)
    assert "delete it" in str(found.value)
