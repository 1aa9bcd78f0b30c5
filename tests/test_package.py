"""The package as a whole: light to import, honest about its names, rooms of a readable size."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import tracemend

SOURCES = sorted(Path(tracemend.__file__).parent.rglob("*.py"))
HEAVY = ("torch", "transformers", "peft", "sklearn", "datasets")


def in_a_fresh_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=True)


def test_import_takes_under_a_second() -> None:
    # The best of three: what is measured is the package, not what else the machine does.
    seconds = []
    for _ in range(3):
        log = in_a_fresh_python("-X", "importtime", "-c", "import tracemend").stderr
        found = re.search(r"\|\s*(\d+) \| tracemend$", log, re.MULTILINE)
        assert found is not None, "importtime does not list tracemend"
        seconds.append(int(found[1]) / 1e6)
    assert min(seconds) < 1.0


@pytest.mark.parametrize("module", ["tracemend", "tracemend.data", "tracemend.runs", "tracemend.methods"])
def test_nothing_heavy_is_imported(module: str) -> None:
    code = f"import sys, {module}; print(*(m for m in {HEAVY!r} if m in sys.modules))"
    assert in_a_fresh_python("-c", code).stdout.split() == []


@pytest.mark.parametrize("name", tracemend.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert name in dir(tracemend)
    assert getattr(tracemend, name) is not None


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'repare'; public names: .*repair"):
        _ = tracemend.repare


@pytest.mark.parametrize("source", SOURCES, ids=lambda p: "/".join(p.parts[p.parts.index("tracemend") :]))
def test_a_file_stays_readable(source: Path) -> None:
    assert len(source.read_text("utf-8").splitlines()) <= 400
    assert source.stem not in {"utils", "helpers", "common", "misc"}
