"""Tracing while training, when something goes wrong: disks, interruptions, kills, and what cannot be traced."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.trace.live_training import TRAIN, Spy, check_steps, classify, run, traced
from tracemend import TraceCallback
from tracemend.errors import RunError, TraceError, TuningError
from tracemend.trace import LiveTrace
from tracemend.trace.live import shards

KINDS = ("prompt", "p-tuning", "prefix", "lora", "ia3", "head")
FAMILIES = [("gpt2", "prompt"), ("gpt2", "lora"), ("llama", "prefix"), ("t5", "prompt"), ("t5", "lora")]


def test_a_disk_that_fails_stops_with_its_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise RunError("the disk is full")

    classifier = classify()
    trace = TraceCallback(classifier, tmp_path / "run", gradients=True)
    monkeypatch.setattr(shards, "atomic", full)
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    before = threading.active_count()
    with pytest.raises(RunError, match="disk is full"):
        run(classifier, trace, tmp_path, spy=Spy(classifier, lambda step: time.sleep(0.02)))
    assert trace.classifier is classifier and not list((tmp_path / "run" / "live").glob("shard-*"))
    trace.close()
    assert threading.active_count() == before


@pytest.mark.slow
def test_another_try_after_an_interruption_takes_the_old_hooks_off(tmp_path: Path) -> None:
    def cut(step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    classifier = classify()
    before = threading.active_count()
    first = TraceCallback(classifier, tmp_path / "first", gradients=True)
    with pytest.raises(KeyboardInterrupt):
        run(classifier, first, tmp_path, spy=Spy(classifier, cut))
    live, spy = traced(classifier, tmp_path)
    check_steps(live, spy)
    assert threading.active_count() == before
    assert LiveTrace.open(tmp_path / "first").table["step"].max() == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"numbered": False}, r"do not say which examples .*`data_collator=trace.collator"),
        ({"remove_unused_columns": True}, r"an example has no 'row'.*`remove_unused_columns=False`"),
        ({"torch_compile": True}, r"cannot be kept while training with torch_compile"),
    ],
)
def test_what_cannot_be_traced_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    classifier = classify()
    trace = TraceCallback(classifier, tmp_path / "run", gradients=True)
    with pytest.raises(TraceError, match=message):
        run(classifier, trace, tmp_path, **options)
    trace.close()


@pytest.mark.slow
def test_rows_beyond_the_named_examples_and_other_folders_are_refused(tmp_path: Path) -> None:
    classifier = classify()
    trace = TraceCallback(classifier, tmp_path / "few", gradients=True, uid=TRAIN.uid[:2])
    with pytest.raises(TraceError, match=r"holds the row \d+, but only 2 examples"):
        run(classifier, trace, tmp_path)
    trace.close()
    trace = TraceCallback(classifier, tmp_path / "few", gradients=True)
    with pytest.raises(TraceError, match="gradients of another training; name a new folder"):
        run(classifier, trace, tmp_path)
    with pytest.raises(RunError):
        LiveTrace.open(tmp_path / "nothing")


@pytest.mark.slow
def test_a_resumed_state_of_another_training_is_refused(tmp_path: Path) -> None:
    options: dict[str, Any] = {"save_strategy": "steps", "save_steps": 4}
    plain = TraceCallback(classify(), tmp_path / "plain")
    run(plain.classifier, plain, tmp_path, **options)
    state = tmp_path / "trainer" / "checkpoint-8" / "trainer_state.json"
    state.write_text(state.read_text().replace('"tracemend"', '"other"'))
    for checkpoint in (tmp_path / "trainer").glob("checkpoint-12"):
        checkpoint.rename(tmp_path / "away")
    again = TraceCallback(classify(), tmp_path / "plain")
    with pytest.raises(TuningError, match="learning rates since step 6 are unknown"):
        run(again.classifier, again, tmp_path, resume=True, **options)


ROOT = Path(__file__).parents[2]
KILLED = """
import sys
from pathlib import Path
from tests.trace.live_training import TRAIN, Spy, classify, killed_at, run
from tracemend import TraceCallback
from tracemend.trace.live import shards
classifier = classify()
shards.SHARD_BYTES = int(sys.argv[2])
trace = TraceCallback(classifier, Path(sys.argv[1]) / "run", gradients=True, uid=TRAIN.uid, dtype="float32")
run(classifier, trace, Path(sys.argv[1]), spy=Spy(classifier, killed_at(9)))
"""


@pytest.mark.slow
def test_a_kill_loses_at_most_a_shard_and_what_was_under_way(tmp_path: Path) -> None:
    whole, _ = traced(classify(), tmp_path / "whole")
    size = 4 * 4 * sum(block.size for block in whole.layout)  # a step's batch
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), str(size)], check=False, capture_output=True, cwd=ROOT
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    live = LiveTrace.open(tmp_path / "run")
    # Nine steps were taken; the writer may lag behind by its queue.
    assert 9 - 1 - 5 <= live.table["step"].nunique() <= 9
    pd.testing.assert_frame_equal(live.table["norm"].to_frame(), whole.table["norm"].iloc[: len(live.table)].to_frame())
