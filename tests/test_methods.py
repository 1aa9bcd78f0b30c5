"""The base of every method: registration, configuration, results that come back from disk."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import pytest

from tracemend import methods
from tracemend.errors import RunError, TracemendError
from tracemend.methods import Method, MethodResult
from tracemend.progress import Progress


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An empty registry without rooms; the real one is back afterwards."""
    empty: dict[str, Any] = {}
    monkeypatch.setattr(methods, "_REGISTRY", empty)
    monkeypatch.setattr(methods, "ROOMS", ())
    return empty


def define(method_name: str) -> type[Method[MethodResult]]:
    @dataclass(frozen=True, kw_only=True)
    class Count(Method[MethodResult]):
        """Count the examples.

        A method as small as can be.
        """

        name: ClassVar[str] = method_name
        layers: tuple[int, ...] = field(default=(1, 2))
        out: Path = Path("there")

        def run(self, model: Any, data: Any, *, progress: Progress = Progress()) -> MethodResult:
            return MethodResult(metrics={"n": float(len(data))}, controls={"n": 0.0}, config=self.config)

        @classmethod
        def tiny(cls) -> tuple[Self, Any, Any]:
            return cls(), None, [1, 2]

    return Count


def test_a_method_registers_by_being_defined(alone: dict[str, Any]) -> None:
    count = define("test.count")
    assert methods.registry() == {"test.count": count}
    assert methods.method("test.count") is count
    assert count.summary() == "Count the examples."


def test_a_class_without_a_name_is_no_method(alone: dict[str, Any]) -> None:
    define("")
    assert methods.registry() == {}


def test_two_methods_cannot_share_a_name(alone: dict[str, Any]) -> None:
    define("test.count")
    with pytest.raises(TypeError, match=r"two methods are named 'test.count'"):
        type("Other", (Method,), {"name": "test.count"})


def test_the_registry_is_sorted(alone: dict[str, Any]) -> None:
    define("test.b")
    define("test.a")
    assert list(methods.registry()) == ["test.a", "test.b"]


def test_an_unknown_method_is_answered_with_the_known_ones(alone: dict[str, Any]) -> None:
    define("test.count")
    with pytest.raises(TracemendError, match=r"not one of: test\.count; did you mean 'test\.count'\?"):
        methods.method("test.cuont")


def test_the_configuration_is_json(alone: dict[str, Any]) -> None:
    config = define("test.count")(seed=3).config
    assert config == {"method": "test.count", "seed": 3, "layers": [1, 2], "out": "there"}


RESULT = MethodResult(
    metrics={"ap": 0.9, "precision": 0.8},
    controls={"ap": 0.3},
    config={"method": "test.count", "seed": 0},
    rows=pd.DataFrame({"uid": ["a-0", "b-0"], "score": np.array([0.5, -0.5], dtype=np.float32)}),
)


def test_a_result_comes_back_from_disk(tmp_path: Path) -> None:
    found = MethodResult.load(RESULT.save(tmp_path / "result"))
    assert (found.metrics, found.controls, found.config) == (RESULT.metrics, RESULT.controls, RESULT.config)
    pd.testing.assert_frame_equal(found.rows, RESULT.rows)


def test_a_missing_result_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(TracemendError, match="does not exist"):
        MethodResult.load(tmp_path)


@pytest.mark.parametrize(("damage", "said"), [(None, "is missing"), (b"junk", "is damaged"), (b"PAR1", "is damaged")])
def test_a_missing_or_torn_table_is_an_error_with_a_remedy(tmp_path: Path, damage: bytes | None, said: str) -> None:
    RESULT.save(tmp_path)
    table = tmp_path / "rows.parquet"
    table.unlink() if damage is None else table.write_bytes(damage)
    with pytest.raises(RunError, match=rf"rows\.parquet {said}.*delete .*result\.json and give the same command again"):
        MethodResult.load(tmp_path)


def test_a_figure_that_was_not_defined_is_not_defined_on_disk(tmp_path: Path) -> None:
    undefined = replace(RESULT, metrics={"ap": float("nan")}, controls={"random": {"ap": float("nan")}, "n": 2})
    found = MethodResult.load(undefined.save(tmp_path))
    assert found.metrics == pytest.approx({"ap": float("nan")}, nan_ok=True)
    assert found.controls["random"] == pytest.approx({"ap": float("nan")}, nan_ok=True) and found.controls["n"] == 2


def test_facts_are_the_same_before_and_after_the_disk(tmp_path: Path) -> None:
    made = replace(RESULT, facts={"whole": {"loss": float("nan"), "n": np.int64(3)}, "words": ("a", "b"), "none": None})
    assert made.facts == {"whole": {"loss": None, "n": 3}, "words": ["a", "b"], "none": None}
    assert MethodResult.load(made.save(tmp_path)).facts == made.facts


def test_the_table_is_a_copy() -> None:
    table = RESULT.table()
    table.loc[:, "score"] = 0.0
    assert RESULT.rows["score"].tolist() == [0.5, -0.5]


def test_the_figure_shows_every_metric_beside_its_control() -> None:
    axes = RESULT.figure().axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ap", "precision"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["found", "control"]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths[:3] == pytest.approx([0.9, 0.8, 0.3])


def test_long_names_leave_room_for_the_bars() -> None:
    figure = MethodResult(metrics={"contrast / " + "a set of some name / " * 3: 0.5}, controls={}).figure()
    figure.draw_without_rendering()
    assert figure.axes[0].get_window_extent().width / figure.dpi > 1.5


def test_the_figure_shows_every_arm_of_the_controls() -> None:
    result = MethodResult(
        metrics={"a": 0.5, "b": 0.2}, controls={"random": {"a": 0.1}, "shuffled": {"a": 0.3, "b": 0.4}}
    )
    axes = result.figure().axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["found", "random", "shuffled"]
    assert [[bar.get_width() for bar in group] for group in axes.containers][2] == [0.3, 0.4]
