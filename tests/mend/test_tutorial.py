"""The tutorial on words runs as it stands, and what it says is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tracemend.data import available

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "words.md"


@pytest.mark.slow
def test_a_classifier_that_hates_a_word(capsys):
    if not available("uci_sentiment_sentences"):
        pytest.skip("uci_sentiment_sentences is not here; set TRACEMEND_DATA")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, Any] = {}
    exec(compile("\n".join(blocks), str(PAGE), "exec"), names)
    # 1: both figures look well.
    assert min(names["kept"], names["plain"]) > 0.85
    # 2: the word is found by data and model, and what is found is what decides.
    assert len(names["wrong"]) > 0.2 * len(names["cross"])
    assert names["local_mutual_information"](names["splits"].train)["word"].iloc[0] == "honestly"
    assert names["first"].idxmax() == "honestly" and names["first"].iloc[0] >= 0.5
    words = names["words"]
    assert words.metrics["comprehensiveness"] > words.controls["comprehensiveness"] + 0.3
    # 3: by measures that the penalty does not see, against tuning without marks and with another word marked.
    mended = names["mended"]
    none, other = mended.controls["none"], mended.controls["other words"]
    assert none["flipped"] >= 0.2 and other["flipped"] >= 0.2
    assert mended.metrics["flipped"] <= none["flipped"] / 4
    assert mended.metrics["reversed"] >= max(none["reversed"], other["reversed"]) + 0.15
    assert mended.metrics["weight"] <= none["weight"] / 3
    assert mended.metrics["accuracy"] >= none["accuracy"] - 0.03
    assert "honestly" in capsys.readouterr().out
