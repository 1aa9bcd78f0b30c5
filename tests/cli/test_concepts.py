"""``tracemend concepts``: methods on concepts as commands."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.cli.conftest import Run, frame
from tracemend.concepts import Sasc, Tcav
from tracemend.concepts.sasc import tiny_corpus
from tracemend.concepts.tcav import tiny_concepts
from tracemend.errors import DataError
from tracemend.methods import Method


@pytest.mark.parametrize("method", [Tcav, Sasc])
def test_every_field_is_a_flag(run: Run, method: type[Method[Any]]) -> None:
    found = run("concepts", method.name.partition(".")[2], "--help")
    assert found.exit_code == 0, found.output
    for field in dataclasses.fields(method):
        assert f"--{field.name.replace('_', '-')}" in found.output, field.name


def files(folder: Path) -> tuple[Path, Path, Path]:
    data = tiny_concepts()
    rows = [(text, name) for name, of in data.sets.items() for text in of]
    tables = {
        "sets.csv": pd.DataFrame(rows, columns=["text", "concept"]),
        "random.csv": pd.DataFrame({"text": data.random}),
        "texts.csv": frame(40, flipped=0),
    }
    for name, table in tables.items():
        table.to_csv(folder / name, index=False)
    one, two, three = (folder / name for name in tables)
    return one, two, three


@pytest.mark.slow
def test_tcav_of_a_run_is_kept_and_read_back(run: Run, tuned: Path, tmp_path: Path) -> None:
    sets, random, texts = files(tmp_path)
    given = ("concepts", "tcav", "--run", tuned, "--concepts", sets, "--random", random, "--data", texts,
             "--label-column", "label", "--label", "unsafe", "--layers", 1, "--at", 1, "--examples", 20,
             "--random-concepts", 2, "--out", tmp_path / "run", "--quiet", "--json")  # fmt: skip
    done = run(*given)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["command"] == "concepts tcav" and result["config"]["label"] == "unsafe"
    assert set(result["controls"]) == {"random_vectors", "random_concepts", "random_weights"}
    assert {"rows.csv", "examples.csv", "figure.svg", "draws.parquet"} <= {p.name for p in (tmp_path / "run").iterdir()}
    assert json.loads(run(*given).stdout) == result


def test_labels_are_spelt_as_those_of_a_run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets, random, texts = files(tmp_path)
    pd.DataFrame({"text": ["nice", "bad"], "y": [1.0, 0.0]}).to_csv(texts, index=False)
    given: dict[str, Any] = {}

    def read(*_: Any, **more: Any) -> None:
        given.update(more)
        raise DataError("that is enough")

    monkeypatch.setattr("tracemend.data.read_concepts", read)
    done = run("concepts", "tcav", "--concepts", sets, "--random", random, "--data", texts, "--label-column", "y")
    assert "that is enough" in done.output and given["labels"] == ["1", "0"]


def test_bad_input_is_one_line_with_a_remedy(run: Run, tuned: Path, tmp_path: Path) -> None:
    sets, random, texts = files(tmp_path)
    both = ("--concepts", sets, "--random", random, "--data", texts, "--out", tmp_path / "run")
    for more, said in (
        (("--run", tuned, "--label-column", "nothing"), "has no column 'nothing'"),
        (("--run", tuned, "--word", "yes"), "--word is for --model"),
        ((), "either --run"),
        (("--run", tuned, "--sets", 5), "sets is 5"),
    ):
        done = run("concepts", "tcav", *both, *more)
        assert done.exit_code == 2 and said in " ".join(done.output.split()), done.output


@pytest.mark.slow
@pytest.mark.parametrize("what", ["unit", "label"])
def test_sasc_of_a_unit_and_of_a_label(run: Run, folder: Path, tuned: Path, tmp_path: Path, what: str) -> None:
    pd.DataFrame({"text": tiny_corpus()}).to_csv(tmp_path / "texts.csv", index=False)
    module = {"unit": ("--model", folder / "model", "--site", "blocks.1.mlp.hook_post", "--unit", 3),
              "label": ("--run", tuned, "--label", "unsafe")}[what]  # fmt: skip
    given = ("concepts", "sasc", *module, "--data", tmp_path / "texts.csv", "--encoder", folder / "model",
             "--grams", 300, "--shuffles", 1, "--directions", 1,
             "--out", tmp_path / "run", "--quiet", "--json")  # fmt: skip
    done = run(*given)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["command"] == "concepts sasc" and set(result["controls"]) == {"shuffled", "random_direction"}
    assert what in result["config"]
    assert json.loads(run(*given).stdout) == result
    half = run("concepts", "sasc", "--model", folder / "model", "--data", tmp_path / "texts.csv")
    assert half.exit_code == 2 and "--site" in half.output
