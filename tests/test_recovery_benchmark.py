"""The recovery benchmark keeps figures of different settings apart."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "recovery.py"


@pytest.fixture
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recovery_benchmark", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def started(benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, *options: str) -> list[Any]:
    calls: list[Any] = []
    monkeypatch.setattr(benchmark, "unit", lambda *given: calls.append(given))
    monkeypatch.setattr(sys, "argv", ["recovery.py", "--unit", "sst2", "0", *options])
    benchmark.main()
    return calls


@pytest.mark.parametrize(
    "options",
    [
        ("--adapter", "lora"),
        ("--cold",),
        ("--arms", "kernel"),
        ("--candidates", "20"),
        ("--out", "{out}", "--train", "9"),
    ],
)
def test_other_settings_need_another_out(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as ended:
        started(benchmark, monkeypatch, *(o.format(out=benchmark.OUT) for o in options))
    assert ended.value.code == 2
    assert "name another --out" in capsys.readouterr().err


def test_defaults_given_in_full_and_another_out_pass(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    defaults = ("--model", "minilm", "--adapter", "prompt", "--epochs", "8", "--rounds", "5", "--train", "500")
    given = (*defaults, "--out", str(benchmark.OUT), "--arms", *benchmark.ARMS)
    assert len(started(benchmark, monkeypatch, *given)) == 1
    assert len(started(benchmark, monkeypatch, "--adapter", "lora", "--out", str(tmp_path))) == 1
