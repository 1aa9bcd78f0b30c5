"""``tracemend store``: build, verify, info on a finished run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest


@pytest.fixture
def finished(tuned, tmp_path):
    shutil.copytree(tuned, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.slow
def test_build_info_verify(run, finished):
    built = run("store", "build", finished, "--shard-rows", 10, "--quiet")
    assert built.exit_code == 0, built.output
    assert built.stdout.strip() == str(finished / "store")
    facts = json.loads(run("store", "info", finished / "store", "--json").stdout)
    assert (facts["complete"], facts["dtype"], facts["own_rows"]) == (True, "bfloat16", facts["rows"])
    assert [c["missing_shards"] for c in facts["checkpoints"]] == [0, 0]
    shown = run("store", "info", finished / "store")
    assert facts["id"] in shown.stdout and "lr_sum" in shown.stdout
    done = run("store", "verify", finished / "store", "--quiet")
    assert (done.exit_code, done.stdout) == (0, "every file is as it was written\n")
    shard = finished / "store" / "ckpt-0000" / "shard-00001.safetensors"
    raw = shard.read_bytes()
    shard.write_bytes(raw[:-1])
    done = run("store", "verify", finished / "store", "--quiet")
    assert done.exit_code == 2 and shard.name in done.stdout and "--repair" in done.stdout
    assert shard.exists()
    assert run("store", "verify", finished / "store", "--repair", "--quiet").exit_code == 0
    assert not shard.exists()
    assert run("store", "build", finished, "--shard-rows", 10, "--quiet").exit_code == 0
    assert shard.read_bytes() == raw


@pytest.mark.slow
def test_another_configuration_is_named(run, finished):
    assert run("store", "build", finished, "--checkpoints", "last", "--quiet").exit_code == 0
    done = run("store", "build", finished, "--dtype", "float32", "--quiet")
    assert done.exit_code == 2
    assert "dtype: there 'bfloat16', now 'float32'" in done.stderr and "checkpoints: there of steps" in done.stderr


def test_a_repaired_run_has_a_store_of_its_one_state(run, repaired, tmp_path):
    shutil.copytree(repaired, tmp_path / "run")
    done = run("store", "build", tmp_path / "run", "--quiet")
    assert done.exit_code == 0, done.output
    facts = json.loads(run("store", "info", tmp_path / "run" / "store", "--json").stdout)
    assert facts["complete"] and [c["lr_sum"] for c in facts["checkpoints"]]


def test_what_is_no_store_or_run(run, tmp_path):
    assert run("store", "build", tmp_path / "none").exit_code == 2
    assert "does not exist" in run("store", "info", tmp_path).stderr
    assert run("store", "verify", tmp_path / "none").exit_code == 2


@pytest.mark.parametrize("command", ["build", "verify", "info"])
def test_help_has_an_example(run, command):
    done = run("store", command, "--help")
    assert done.exit_code == 0 and f"tracemend store {command}" in done.output


def test_python_m(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tracemend", "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("tracemend ")
