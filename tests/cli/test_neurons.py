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
    found = run("neurons", name.removesuffix("-classifier"), "--help")
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


def test_explained_units_are_kept_as_coloured_text(run: Run, tmp_path: Path) -> None:
    model = tiny("bert")
    model.network.save_pretrained(tmp_path / "bert")
    model.tokenizer.save_pretrained(tmp_path / "bert")
    bank = tmp_path / "made_up.conllu"
    bank.write_text("".join(sentence(i) for i in range(60)))
    given = ("neurons", "explain", "--data", bank, "--model", tmp_path / "bert", "--neurons", 3, "--ablated", 1,
             "--excerpts", 3, "--out", tmp_path / "run", "--quiet", "--json")  # fmt: skip
    done = run(*given)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert "ablation" in result["metrics"] and "units.html" in done.output
    page = (tmp_path / "run" / "units.html").read_text()
    assert page.count('<article class="unit">') == 3
    (tmp_path / "run" / "units.html").unlink()
    assert json.loads(run(*given).stdout) == result and (tmp_path / "run" / "units.html").read_text() == page


def test_units_of_a_tuned_classifier_are_taken_and_read_back(run: Run, tuned: Path, here: Path) -> None:
    given = (
        "neurons",
        "ablate",
        "--run",
        tuned,
        "--sizes",
        2,
        "--sizes",
        8,
        "--at",
        8,
        "--draws",
        2,
        "--quiet",
        "--json",
    )
    done = run(*given)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["command"] == "neurons ablate-classifier"
    assert {"random", "same_norm", "last", "shuffled_labels"} == set(result["controls"])
    assert len(result["facts"]["driving"]) == 10 and result["facts"]["driving"][0]["texts"][0]["uid"]
    assert json.loads(run(*given).stdout) == result
    by_file = run(*given, "--data", "clean.csv", "--out", here / "file")
    assert by_file.exit_code == 0, by_file.output


def test_units_of_a_tuned_classifier_are_put_into_formulas(run: Run, tuned: Path, here: Path) -> None:
    given = ("neurons", "compose", "--run", tuned, "--neurons", 3, "--length", 2, "--edited", 3, "--quiet", "--json")
    done = run(*given)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["command"] == "neurons compose-classifier" and result["config"]["top"] == 0.1
    assert {"shuffled", "random_word"} == set(result["controls"])
    assert "--data" in run("neurons", "compose", "--quiet").output


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "--run"),
        (("--run", "nowhere"), "nowhere"),
        (("--units", 999), "out of range"),
        (("--sizes", 9), "at is 50"),
    ],
    ids=str,
)
def test_a_bad_ablation_says_what_to_do(run: Run, tuned: Path, here: Path, given: tuple[str, ...], said: str) -> None:
    of = () if not given or "--run" in given else ("--run", tuned)
    done = run("neurons", "ablate", *of, *given, "--quiet")
    assert done.exit_code == 2 and said in done.output
