"""The tutorial on syntax runs as it stands, and what it says is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tracemend.data import available_folder

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "syntax.md"


@pytest.mark.slow
def test_what_minilm_knows_about_syntax(monkeypatch, capsys):
    folder = available_folder("ud_ewt")
    if folder is None:
        pytest.skip("ud_ewt is not here; set TRACEMEND_DATA")
    monkeypatch.chdir(folder.parent)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    assert len(blocks) == 7
    names: dict[str, Any] = {}
    exec(compile("\n".join(blocks), str(PAGE), "exec"), names)
    assert "random weights" in capsys.readouterr().out
    upos, length, trees, rows = (names[name] for name in ("upos", "length", "trees", "rows"))
    # 1: more than untrained and than the word alone; selectivity rises from layer 0 to layer 4.
    assert names["accuracy"] > names["untrained"] + 0.1 and names["accuracy"] > names["by_word"] + 0.02
    selectivity = upos.table().set_index("layer")["selectivity"]
    assert selectivity[4] > selectivity[0] and upos.facts["best_layer"] in (2, 4)
    # 2: untrained weights do as well.
    assert abs(length.metrics["accuracy"] - length.controls["random_weights"]["accuracy"]) < 0.08
    # 3: above the chain, also with made-up words; the last layer is not.
    assert names["found"] > names["chain"] + 0.08 and names["made_up"] > names["chain"] + 0.02
    uuas = trees.table().set_index("layer")["uuas"]
    assert trees.facts["best_layer"] == 3 and uuas[6] < names["chain"]
    assert names["rule"] > names["root"] - 0.05
    # 4: objects.
    assert rows.loc["obj", "accuracy"] > rows.loc["obj", "offset_accuracy"] + 0.15
