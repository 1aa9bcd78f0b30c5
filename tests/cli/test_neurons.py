"""``tracemend neurons``: methods on units as commands."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tracemend.models import tiny
from tracemend.neurons.run import methods

_WORDS = {"DET": ("the", "a", "my"), "NOUN": ("movie", "film"), "VERB": ("stop", "go", "love", "hate")}


def sentence(i: int) -> str:
    rows = [
        f"{at + 1}\t{of[i % len(of)]}\t_\t{tag}\t_\t_\t{(2, 3, 0)[at]}\t{('det', 'nsubj', 'root')[at]}\t_\t_"
        for at, (tag, of) in enumerate(_WORDS.items())
    ]
    return "\n".join([f"# newdoc id = d{i}", f"# sent_id = s{i}", *rows, "", ""])


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_field_is_a_flag(run: Run, name: str) -> None:
    found = run("neurons", name, "--help")
    assert found.exit_code == 0, found.output
    for field in dataclasses.fields(methods()[name]):
        assert f"--{field.name.replace('_', '-')}" in found.output, field.name


def test_a_run_is_kept_and_read_back(run: Run, tmp_path: Path) -> None:
    model = tiny("bert")
    model.network.save_pretrained(tmp_path / "bert")
    model.tokenizer.save_pretrained(tmp_path / "bert")
    bank = tmp_path / "made_up.conllu"
    bank.write_text("".join(sentence(i) for i in range(60)))
    given = ("neurons", "gaussian", "--data", bank, "--model", tmp_path / "bert", "--dims", 4, "--at", 2, "--fewest", 5,
             "--out", tmp_path / "run", "--quiet", "--json")  # fmt: skip
    done = run(*given)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["command"] == "neurons gaussian" and result["config"]["dims"] == 4
    assert {"rows.csv", "figure.svg", "method.json"} <= {path.name for path in (tmp_path / "run").iterdir()}
    assert json.loads(run(*given).stdout) == result
