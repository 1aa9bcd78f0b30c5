"""Run directories of methods: named, or found by what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from tracemend.errors import RunError
from tracemend.method_runs import TakenError, in_folder, run_kept
from tracemend.methods import Method, MethodResult
from tracemend.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Counted(Method[MethodResult]):
    """Counts, and remembers how often it was run; it has no name, so that no registry knows it."""

    runs: ClassVar[int] = 0
    in_passing: ClassVar[frozenset[str]] = frozenset({"patience"})
    patience: float = 1.0

    def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> MethodResult:
        type(self).runs += 1
        if data is None:
            raise RunError("the disk is full")
        return MethodResult(metrics={"n": float(len(data))}, controls={"n": 0.0}, config=self.config)

    @classmethod
    def tiny(cls) -> tuple[Self, Any, Any]:
        return cls(), None, [1, 2]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Counted, "runs", 0)


def counted(
    out: Path | None = None, *, seed: int = 0, model: str = "a", data: Any = (1, 2), patience: float = 1.0
) -> Any:
    method = Counted(seed=seed, patience=patience)

    def call(folder: Path) -> MethodResult:
        return run_kept(
            method, lambda shown: method.run(None, data, progress=shown), out=folder, command="count",
            fingerprints={"model": model}, config={"model": model},
        )  # fmt: skip

    return in_folder(out, "count", call)


def test_another_configuration_gets_the_next_name_and_the_same_one_is_found() -> None:
    first, *at = counted()
    assert at == [Path("runs/count"), ""] and first.metrics == {"n": 2.0}
    _, folder, said = counted(seed=1)
    assert folder == Path("runs/count-2")
    assert said == "runs/count belongs to another run, so this one is in runs/count-2; --out names it."
    assert counted(model="b")[1] == Path("runs/count-3") and Counted.runs == 3
    for seed, model, name in ((1, "a", "count-2"), (0, "a", "count"), (0, "b", "count-3")):
        assert counted(seed=seed, model=model)[1] == Path("runs") / name
    assert counted(patience=9.0)[1] == Path("runs/count")
    # All of these were read back.
    assert Counted.runs == 3


def test_a_begun_run_goes_on_in_its_folder() -> None:
    counted()
    with pytest.raises(RunError, match="disk is full"):
        counted(seed=1, data=None)
    assert counted(seed=2)[1] == Path("runs/count-2")  # no work was done there
    with pytest.raises(RunError, match="disk is full"):
        counted(seed=3, data=None)
    Path("runs/count-3/steps").mkdir()
    Path("runs/count-3/steps/first.json").write_text("1")
    assert counted(seed=4)[1] == Path("runs/count-4")
    assert counted(seed=3)[1] == Path("runs/count-3")


def test_what_is_no_run_is_left_alone_and_what_is_damaged_is_said() -> None:
    Path("runs/count").mkdir(parents=True)
    Path("runs/count/letter.txt").write_text("mine")
    Path("runs/count-2").write_text("a file")
    assert counted()[1] == Path("runs/count-3")
    assert [path.name for path in Path("runs/count").iterdir()] == ["letter.txt"]
    Path("runs/count-3/config.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        counted()


def test_a_folder_that_was_named_is_the_only_one() -> None:
    counted(Path("mine"))
    with pytest.raises(TakenError, match="mine belongs to another run"):
        counted(Path("mine"), seed=1)
    assert not Path("runs").exists()
