"""The speed benchmark compares like with like, and believes no peer without a check."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import speed
from benchmarks.peers import protocol
from benchmarks.peers.case import Case, prepare
from benchmarks.peers.client import Driver, Peer
from benchmarks.peers.install import PEERS as INSTALLED
from benchmarks.peers.loop_ import work as loop
from benchmarks.peers.protocol import Work
from benchmarks.peers.vmap_ import work as vmap

SMALL = Case(model="tiny-bert", adapter="lora", length=32, batch=4, threads=1)


def test_the_quick_run_prints_the_figures_that_have_bounds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--quick --json --quiet --no-scoring --models tiny-bert --lengths 32 --repeats 2 --batch 4 --threads 1"
    monkeypatch.setattr(sys, "argv", ["speed.py", *options.split()])
    speed.main()
    found = json.loads(capsys.readouterr().out)
    assert found["prompt_ratio"] > 0 and found["lora_ratio"] > 0
    assert 0 < found["max_rel_error"] <= 1e-4
    assert [len(row["seconds"]["ours"]) for row in found["rows"]] == [2, 2]


def test_a_case_is_the_same_in_every_process_and_of_the_length_asked_for() -> None:
    one, other = prepare(SMALL), prepare(SMALL)
    assert torch.equal(one.ids, other.ids) and one.ids.shape == (4, 32)
    names = one.classifier.state()
    assert all(torch.equal(names[name], value) for name, value in other.classifier.state().items())
    # Query, key, value and output of both layers, and the head.
    assert sum(".lora_A." in name for name in names) == 8 and sum(".modules_to_save." in name for name in names) == 2


@pytest.mark.parametrize("adapter", ["prompt", "lora"])
@pytest.mark.parametrize(
    ("model", "task"), [("tiny-bert", "classify"), ("tiny-llama", "classify"), ("tiny-llama", "language")]
)
def test_drivers_are_compared_with_the_reference(model: str, task: str, adapter: str) -> None:
    case = replace(SMALL, model=model, adapter=adapter, task=task, length=40)
    for work in (loop, vmap):
        todo, answer = protocol._start("loop", work, {"case": case.spec})
        assert todo is not None and answer["status"] == "ok" and answer["error"] < 1e-3, answer


def test_a_peer_that_leaves_out_a_part_is_refused_however_small_the_part() -> None:
    def headless(prepared, request):
        todo = vmap(prepared, request)
        return Work(
            once=todo.once,
            squares=lambda found: todo.squares({k: v for k, v in found.items() if "modules_to_save" not in k}),
        )

    todo, answer = protocol._start("loop", headless, {"case": SMALL.spec})
    assert todo is None and answer["status"] == "cannot" and "off by" in answer["reason"]


def test_an_error_of_a_peer_is_its_reason() -> None:
    def broken(prepared, request):
        raise NotImplementedError("no such layer")

    todo, answer = protocol._start("loop", broken, {"case": SMALL.spec})
    assert todo is None and answer["reason"] == "NotImplementedError: no such layer"


def test_turns_begin_elsewhere_each_time_and_a_driver_times_itself() -> None:
    order: list[str] = []

    def turn(name: str) -> float:
        order.append(name)
        return 7.0

    work = {name: partial(turn, name) for name in "abc"}
    found = speed.take_turns(work, 2, timed={"c"})
    assert "".join(order) == "abc" + "abc" + "bca"
    assert found["c"] == [7.0, 7.0] and max(found["a"]) < 1.0


def test_every_peer_with_an_environment_has_pins_and_a_driver() -> None:
    folder = Path(speed.HERE) / "peers"
    assert INSTALLED == ("bergson", "captum", "dattri", "kronfluence", "opacus")
    for name in INSTALLED:
        pins = (folder / f"{name}.txt").read_text().split()
        assert pins[0].startswith("torch==") and pins[1].startswith(f"{name}==")
        assert (folder / f"{name}_.py").exists()


@pytest.mark.slow
def test_a_driver_answers_and_takes_its_turns() -> None:
    with Driver(Peer("loop", "loop"), SMALL) as driver:
        assert driver.able, driver.answer
        assert driver.seconds() > 0
        assert driver._process is not None
        driver._process.kill()
        driver._process.wait()
        assert math.isnan(driver.seconds()) and not driver.able
        assert "ended with code -9" in driver.answer["reason"]


def test_a_peer_that_is_not_installed_says_what_to_do() -> None:
    with Driver(Peer("none", "no-such-peer"), SMALL) as driver:
        assert not driver.able and "make bench-peers" in driver.answer["reason"]
