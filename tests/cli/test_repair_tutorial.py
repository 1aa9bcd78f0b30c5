"""The tutorial of a repair: its files are made as it says, and its commands divide them as it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tracemend.data import make_splits, read

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "repair.md"


def test_the_files_of_the_tutorial(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = PAGE.read_text("utf-8")
    first, *between, compared = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(between) == 2 and "repaired.csv" in compared
    names: dict[str, Any] = {}
    exec(compile(first, str(PAGE), "exec"), names)
    given = re.search(r"\$ tracemend (corrupt .*)\n(.*)\n", page)
    assert given is not None
    assert " ".join(run(*given[1].split()).stdout.split()) == given[2]
    exec(compile("\n".join(between), str(PAGE), "exec"), names)
    whole, checked = (read(f"{n}.csv", text="text", reply="reply", label="label") for n in ("chat", "checked"))
    assert len(make_splits(whole).train) == 384
    splits = make_splits(whole, validation=checked, fix=True)
    assert (len(splits.train), len(splits.validation), len(splits.verdict)) == (400, 151, 149)
    for note in splits.notes:
        assert note in page
