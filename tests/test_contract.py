"""What every registered method keeps, whatever it does: one test over the whole registry.

`tiny()` gives each method a model and data small enough to run in seconds.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, get_origin, get_type_hints

import pandas as pd
import pytest

from tracemend.errors import RunError, TracemendError
from tracemend.methods import Method, MethodResult, registry

CAPABILITIES = {"encoder", "decoder", "encoder-decoder", "labels", "gradients", "validation"}
INPUTS = {
    "Labelled", "Splits", "CompletionSplits", "Texts", "Run", "Treebank", "Pairs", "Pronouns", "Spans", "Facts",
    "Contrasts", "PromptPairs", "Repeats", "Rewrites", "Concepts", "Corpus",
}  # fmt: skip

METHODS = registry()
each = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())


class Once:
    """Each method's tiny run, made once and shared by the tests that only read it."""

    runs: ClassVar[dict[str, Run]] = {}

    @classmethod
    def run(cls, method: type[Method[Any]]) -> Run:
        if method.name not in cls.runs:
            cls.runs[method.name] = Run.of(method)
        return cls.runs[method.name]


@dataclasses.dataclass(frozen=True)
class Run:
    """What a method gave, and the network as it was before and after; both None where it takes none."""

    result: MethodResult
    before: dict[str, Any] | None
    after: dict[str, Any] | None

    @classmethod
    def of(cls, method: type[Method[Any]]) -> Run:
        configured, model, data = method.tiny()
        before = state(model)
        result = configured.run(model, data)
        assert isinstance(result, MethodResult)
        return cls(result, before, state(model))


def state(model: Any) -> dict[str, Any] | None:
    """Copies of all tensors by name, and the number of hooks of every module."""
    import torch

    network = getattr(model, "network", model)
    if not isinstance(network, torch.nn.Module):
        return None
    hooks = {f"hooks of {n!r}": (len(m._forward_hooks), len(m._backward_hooks)) for n, m in network.named_modules()}
    return {**{name: value.clone() for name, value in network.state_dict().items()}, **hooks}


def arms(result: MethodResult) -> dict[str, dict[str, Any]]:
    """Figures by arm, without the time they took; a single control arm may give its figures directly."""
    of_arms = {name: value for name, value in result.controls.items() if isinstance(value, Mapping)}
    every = {"found": result.metrics, **(of_arms or {"control": result.controls})}
    return {arm: {name: v for name, v in figures.items() if name != "seconds"} for arm, figures in every.items()}


def assert_same(found: MethodResult, expected: MethodResult, *, rel: float = 1e-6) -> None:
    one, other = arms(found), arms(expected)
    assert one.keys() == other.keys()
    for arm in one:
        assert one[arm] == pytest.approx(other[arm], rel=rel, abs=1e-9, nan_ok=True), arm


def test_there_are_methods() -> None:
    """Without this, an empty registry would pass everything below."""
    assert METHODS


@each
def test_it_says_what_it_is(method: type[Method[Any]]) -> None:
    family, _, short = method.name.partition(".")
    assert family and short and "." not in short
    assert method.summary().endswith(".")
    assert method.inputs in INPUTS
    assert method.capabilities <= CAPABILITIES


@each
def test_it_is_a_frozen_configuration(method: type[Method[Any]]) -> None:
    configured, _, _ = method.tiny()
    with pytest.raises(dataclasses.FrozenInstanceError):
        configured.seed = 1  # type: ignore[misc]
    assert json.loads(json.dumps(configured.config)) == configured.config
    assert configured.config["method"] == method.name


@each
def test_a_choice_that_is_none_and_a_number_too_low_are_refused(method: type[Method[Any]]) -> None:
    """As soon as it is configured: a misspelt choice would run as another one."""
    hints = get_type_hints(method)
    wrong: dict[str, Any] = {
        field.name: "misspelt" for field in dataclasses.fields(method) if get_origin(hints[field.name]) is Literal
    }
    for kind in method.__mro__:
        for name, lowest in vars(kind).get("at_least", {}).items():
            wrong[name] = (lowest - 1,) if isinstance(getattr(method(), name), tuple) else lowest - 1
    for name, value in wrong.items():
        with pytest.raises(TracemendError, match=name):
            method(**{name: value})


@each
def test_the_same_seed_gives_the_same_result(method: type[Method[Any]]) -> None:
    first, second = Once.run(method).result, Run.of(method).result
    assert_same(second, first)
    pd.testing.assert_frame_equal(second.table(), first.table(), rtol=1e-5, atol=1e-8)


@each
def test_no_result_without_its_control(method: type[Method[Any]]) -> None:
    result = Once.run(method).result
    assert result.metrics and result.controls
    for arm, figures in arms(result).items():
        assert figures.keys() <= result.metrics.keys(), f"{arm}: a control is the same figure for the control arm"
        assert any(value is not None and math.isfinite(value) for value in figures.values()), arm
    assert result.config["method"] == method.name


@each
def test_a_result_comes_back_from_disk_and_can_be_drawn(method: type[Method[Any]], tmp_path: Path) -> None:
    drawn = Once.run(method).result
    result = dataclasses.replace(drawn, metrics={**drawn.metrics, "not defined": math.nan})
    found = type(result).load(result.save(tmp_path / "run"))
    assert type(found) is type(result)
    assert_same(found, result)
    assert found.facts == result.facts
    assert dict(found.config) == json.loads(json.dumps(dict(result.config)))
    pd.testing.assert_frame_equal(found.table(), result.table())
    assert drawn.figure().axes
    with pytest.raises(RunError, match="does not exist"):
        type(result).load(tmp_path / "nowhere")


@each
def test_the_model_is_left_as_it_was(method: type[Method[Any]]) -> None:
    import torch

    run = Once.run(method)
    if run.before is None or run.after is None:
        pytest.skip(f"{method.name} takes no network")
    assert run.before.keys() == run.after.keys()
    changed = [
        name
        for name, value in run.before.items()
        if not (torch.equal(value, run.after[name]) if isinstance(value, torch.Tensor) else value == run.after[name])
    ]
    assert changed == []


@each
@pytest.mark.parametrize("bad", [None, "not data", 3], ids=repr)
def test_bad_input_is_an_error_with_a_message(method: type[Method[Any]], bad: object) -> None:
    configured, model, _ = method.tiny()
    with pytest.raises(TracemendError) as caught:
        configured.run(model, bad)
    assert len(str(caught.value)) > 20
