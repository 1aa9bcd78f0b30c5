"""``tracemend trace --store``: the same answers from gradients on disk, which are computed once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tracemend.trace.store import GradientStore


@pytest.fixture(scope="module", params=["tuned", "repaired"])
def traced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, run) -> Path:
    """A finished run of its own, traced once in memory and once through its store."""
    out = tmp_path_factory.mktemp("store") / "run"
    shutil.copytree(request.getfixturevalue(request.param), out)
    shutil.rmtree(out / "trace", ignore_errors=True)
    for more in ((), ("--store",)):
        done = run("trace", out, "--top", "4", "--quiet", *more)
        assert done.exit_code == 0, done.output
    return out


def test_the_store_gives_what_memory_gives(traced: Path):
    memory, disk = (pd.read_csv(traced / "trace" / name / "rows.csv") for name in ("errors", "errors-tracin"))
    assert list(disk) == list(memory)
    same = ["query_uid", "query_label", "query_predicted", "side", "rank"]
    assert disk[same].equals(memory[same])
    # Rows are kept in bfloat16, so near-ties may change places.
    np.testing.assert_allclose(disk.score, memory.score, rtol=0.02, atol=1e-6)
    both = disk.merge(memory, on=["query_uid", "uid", "side"])
    assert len(both) > 0.7 * len(disk)
    assert (both.text_x == both.text_y).all() and (both.label_x == both.label_y).all()


def test_the_store_is_kept_and_asked_again(traced: Path, run):
    files = {file: file.stat().st_mtime_ns for file in (traced / "store").rglob("*.safetensors")}
    assert files
    for score in ("datainf", "ekfac"):
        done = run("trace", traced, "--store", "--score", score, "--dense", "--top", "3", "--quiet")
        assert done.exit_code == 0, done.output
        assert "the same for every query" in done.stdout and "scores.npy" in done.stdout
        folder = traced / "trace" / f"errors-{score}"
        matrix, rows = np.load(folder / "scores.npy"), pd.read_csv(folder / "rows.csv")
        each = pd.read_csv(folder / "per_train.csv")
        assert matrix.shape == (len(each), rows.query_uid.nunique())
        first = rows[rows.query_uid == rows.query_uid[0]]
        best = np.sort(matrix[:, 0])[::-1]
        np.testing.assert_allclose(first[first.side == "proponent"].score, best[:3], rtol=1e-5)
        np.testing.assert_allclose(each["mean"], matrix.mean(axis=1), rtol=1e-4, atol=1e-8)
        assert each.votes.sum() == 3 * matrix.shape[1]
        controls = json.loads((folder / "method.json").read_text())["controls"]
        strongest = np.argsort(matrix.mean(axis=1))[-3:]  # the same three for every query
        np.testing.assert_allclose(controls["mean_score_proponents"], matrix[strongest].mean(), rtol=1e-4)
        assert controls["mean_score_proponents"] <= rows[rows.side == "proponent"].score.mean() + 1e-6
    assert files == {file: file.stat().st_mtime_ns for file in (traced / "store").rglob("*.safetensors")}


@pytest.mark.parametrize("more", [("--score", "ekfac"), ("--dense",)])
def test_what_needs_the_store_says_so(tuned, run, more):
    done = run("trace", tuned, *more)
    assert done.exit_code == 2
    assert "give --store too" in done.stderr


def test_a_projected_store_is_asked_as_it_is(tuned, run, tmp_path: Path):
    shutil.copytree(tuned, tmp_path / "run")
    assert run("store", "build", tmp_path / "run", "--project", "4", "--quiet").exit_code == 0
    done = run("trace", tmp_path / "run", "--store", "--top", "3", "--quiet")
    assert done.exit_code == 0, done.output
    done = run("store", "build", tmp_path / "run", "--quiet")
    assert done.exit_code == 2 and "projection" in done.stderr


def test_of_several_processes_the_first_one_asks(tuned, run, tmp_path: Path, monkeypatch):
    shutil.copytree(tuned, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "trace", ignore_errors=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    done = run("trace", tmp_path / "run", "--quiet")
    assert done.exit_code == 2 and "give --store too" in done.stderr
    done = run("trace", tmp_path / "run", "--store", "--dense", "--quiet")
    assert (done.exit_code, done.stdout) == (0, "")
    assert GradientStore.open(tmp_path / "run" / "store").summary()["complete"]
    assert not (tmp_path / "run" / "trace").exists()
    monkeypatch.setenv("RANK", "0")
    done = run("trace", tmp_path / "run", "--store", "--dense", "--quiet")
    assert done.exit_code == 0 and "scores.npy" in done.stdout
