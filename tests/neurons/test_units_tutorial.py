"""The tutorial on units runs as it stands, and what it says is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "units.md"


@pytest.mark.slow
def test_which_units_a_safety_classifier_uses(capsys):
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, Any] = {}
    exec(compile("\n".join(blocks), str(PAGE), "exec"), names)
    assert "costs more than taking random units moved as far" in capsys.readouterr().out
    taken, said = names["taken"], names["said"]
    # 1: the first units cost more than random ones, by number and moved as far.
    assert taken.metrics["loss_rise"] > 3 * max(taken.controls["random"]["loss_rise"], 0.0)
    assert taken.metrics["loss_rise"] > taken.controls["same_norm"]["loss_rise"]
    assert abs(taken.controls["last"]["loss_rise"]) < taken.metrics["loss_rise"] / 3
    assert taken.metrics["accuracy_fall"] < 0.02
    # 2 and 3: formulas are above chance; where a unit fires the classifier is right or not, and says so.
    assert said.metrics["iou"] > said.controls["shuffled"]["iou"]
    assert said.table()["right"].between(0, 1).all() and len(said.table()) == 20
