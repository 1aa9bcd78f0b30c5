"""Ctrl-C anywhere, a full disk, and what nobody foresaw: nothing is lost, and the same command goes on."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import DARING, repair_of
from tracemend.progress import EventLog

TIMES = ("seconds",)


def metrics(out):
    """The metrics of a run, without what a clock says."""
    found = json.loads((Path(out) / "result.json").read_text("utf-8"))["metrics"]
    return {name: value for name, value in found.items() if name not in TIMES}


@pytest.fixture(scope="module")
def unbroken(repaired):
    """Metrics of a repair that nothing interrupted."""
    return metrics(repaired)


@pytest.fixture
def given(here):
    """The repair of ``unbroken``, into a directory of its own."""
    return (*repair_of("noisy.csv", "out"), *DARING)


def stop_at(monkeypatch, count, error):
    """Raise ``error`` at the n-th event of a run."""
    note, seen = EventLog.note, []

    def noted(self, event, **facts):
        seen.append(event)
        if len(seen) == count:
            raise error
        note(self, event, **facts)

    monkeypatch.setattr(EventLog, "note", noted)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 4, 6, 12])
def test_ctrl_c_loses_nothing(run, given, unbroken, monkeypatch, count):
    with monkeypatch.context() as patched:
        stop_at(patched, count, KeyboardInterrupt())
        done = run(*given)
    assert done.exit_code == 130
    assert "interrupted; give the same command again to resume" in done.stderr
    assert not Path("out/result.json").exists()
    assert run(*given).exit_code == 0
    assert metrics("out") == unbroken


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 10, 15])
def test_a_full_disk_loses_nothing(run, given, unbroken, monkeypatch, count):
    fsync, seen = os.fsync, []

    def full(descriptor):
        seen.append(descriptor)
        if len(seen) >= count:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        done = run(*given)
    assert done.exit_code == 2, done.output
    assert "the disk is full" in done.stderr and "resumes" in done.stderr
    assert not list(Path("out").rglob(".*.tmp")), "half-written files were left"
    assert run(*given).exit_code == 0
    assert metrics("out") == unbroken


def test_a_library_that_says_so_in_words(run, given, monkeypatch):
    stop_at(monkeypatch, 3, RuntimeError("I/O error: No space left on device (os error 28)"))
    done = run(*given)
    assert (done.exit_code, "the disk is full" in done.stderr) == (2, True)


def test_an_unexpected_fault_names_its_log(run, given, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["tracemend", *given])
    stop_at(monkeypatch, 3, ZeroDivisionError("of all things"))
    done = run(*given)
    assert done.exit_code == 1
    assert "ZeroDivisionError: of all things" in done.stderr and "Traceback" not in done.stderr
    log = Path(done.stderr.split()[-1])
    assert log.parent == Path("out") and "Traceback" in log.read_text("utf-8")


def test_a_fault_without_a_run_is_logged_elsewhere(run, here, monkeypatch):
    monkeypatch.setattr("tracemend.models.embedded", lambda: 1 / 0)
    done = run("models")
    log = Path(done.stderr.split()[-1])
    assert done.exit_code == 1 and here not in log.parents and "ZeroDivisionError" in log.read_text("utf-8")


def test_debug_shows_the_traceback(run, monkeypatch):
    monkeypatch.setattr("tracemend.models.embedded", lambda: 1 / 0)
    assert "Traceback" in run("--debug", "models").stderr


def command(*arguments):
    return [sys.executable, "-c", "from tracemend.cli import main; main()", *map(str, arguments)]


@pytest.mark.slow
@pytest.mark.parametrize("wait_for", [None, '"epoch"', '"round"'])
def test_a_real_ctrl_c(run, given, unbroken, wait_for):
    given = [a for a in given if a != "--quiet"]
    process = _waited_for(given, wait_for)
    if process.poll() is not None:  # on a busy machine it may have ended before anybody looked
        shutil.rmtree("out")
        process = _waited_for(given, wait_for)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted; give the same command again to resume" in said and "Traceback" not in said
    assert run(*given).exit_code == 0
    assert metrics("out") == unbroken


def _waited_for(given, what):
    process = subprocess.Popen(
        command(*given), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=_listening
    )
    events, until = Path("out/events.jsonl"), time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if what is None and Path("out/config.json").exists():
            break
        if what is not None and events.exists() and what in events.read_text("utf-8"):
            break
        time.sleep(0.002)
    return process


def _listening() -> None:
    """Shells start background jobs deaf to SIGINT, and a process takes that over from its parent."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [8, 150, 300])
def test_a_really_full_disk(run, given, unbroken, kilobytes):
    disk = Path("disk").resolve()
    disk.mkdir()
    size = f"size={kilobytes}k"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small disk can only be mounted by root")
    given = [str(disk / "out") if a == "out" else a for a in given]
    try:
        done = run(*given)
        assert done.exit_code == 2, done.output
        assert "the disk is full" in done.stderr
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        assert run(*given).exit_code == 0
        assert metrics(disk / "out") == unbroken
    finally:
        subprocess.run(["umount", "-l", disk], check=False)


@pytest.mark.slow
def test_a_broken_pipe_is_no_fault(folder, tuned):
    """``tracemend predict ... | head -1`` ends without a message."""
    done = subprocess.run(
        f"{sys.executable} -c 'from tracemend.cli import main; main()' predict {tuned} {folder / 'clean.csv'} --quiet"
        " 2>said | head -1",
        shell=True, cwd=folder, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stdout.startswith('"text","label"')
    assert "fault" not in (folder / "said").read_text("utf-8")
