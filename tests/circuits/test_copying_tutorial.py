"""The tutorial on copying runs as it stands, and what it says is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "copying.md"


@pytest.mark.slow
def test_how_smollm2_copies(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    assert len(blocks) == 7
    names: dict[str, Any] = {}
    exec(compile("\n".join(blocks), str(PAGE), "exec"), names)
    found, heads = names["found"], names["heads"]
    # 1: the second copy is expected.
    assert found.metrics["loss_repeat"] < found.metrics["loss_first"] / 2
    # 2: few heads look where the token went on, and only where it is said twice; the best does so in a sentence.
    assert (names["layer"], names["head"]) == (18, 6) and heads["induction"][0] > 0.6
    assert heads["induction"].median() < 0.05 and heads["induction_plain"].max() < 0.1
    assert names["top"][0] > 0 and "ind" in capsys.readouterr().out
    # 3: a head that looks one token back speaks to it, in the weights and in what happens without it.
    assert names["reads"] > names["pairs"].max() and names["reads"] > 2 * float(names["matrices"].mean())
    assert names["without"] < min(names["without_other"]) < heads["induction"][0] + 0.05
    # 4: without five heads of 270 copying is gone, without five others it is not.
    assert found.metrics["loss_without_5"] > found.metrics["loss_repeat"] + 2
    assert found.controls["random heads"]["loss_without_5"] < found.metrics["loss_repeat"] + 1
