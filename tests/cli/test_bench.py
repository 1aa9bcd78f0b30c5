"""``tracemend bench``: a plan, a deadline, and tables from stored rows; the cells themselves have their own tests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.cli.conftest import frame
from tracemend.evaluate.grid import Cell
from tracemend.mend.proof import Job, results_of


def test_no_time_starts_nothing_and_says_what_is_left(run, here):
    done = run("bench", "repair", "--part", "detection", "--seeds", "1", "--rates", "0.3", "--noise", "symmetric",
               "--arms", "trace.loss", "--minutes", "0", "--quiet")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "detection: 0 cells done, 0 failed, 4 left" in done.stderr
    assert "No row of detection is there yet" in done.stdout


def test_tables_are_made_from_the_rows_alone_and_redo_forgets(run, here):
    cell = Cell(dataset="sst2", noise="symmetric", rate=0.3, seed=0, arm="trace.loss",
                settings={"part": "detection", **Job().settings})  # fmt: skip
    results = results_of("detection", here / "bench/rows", here / "bench/out")
    row = {"ap": 0.5, "auroc": 0.6, "precision": 0.4, "chance": 0.3, "n": 500, "seconds": 1.0}
    results.keep(cell, pd.DataFrame([row]), seconds=1.0)
    done = run("bench", "repair", "--table", "--part", "detection", "--pack")
    assert done.exit_code == 0 and "| trace.loss | 0.500 |" in done.stdout
    assert [p.name for p in (here / "bench/rows/detection").iterdir()] == ["packed.parquet"]
    assert "0.500" not in run("bench", "repair", "--table", "--part", "detection", "--train", "60").stdout
    done = run("bench", "repair", "--part", "detection", "--sets", "sst2", "--redo", "--minutes", "0", "--quiet")
    assert "the rows of 1 cells are forgotten" in done.stderr and not len(results.rows())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--arms", "trace.loss"), "name one of them with --part"),
        (("--part", "repair", "--arms", "defualt"), "did you mean 'default'"),
        (("--rates", "many"), "expected shares with commas"),
        (("--rates", "1.5"), "rate 1.5 is not one of: 0.0, 0.1"),
        (("--rates", "0.3", "--minutes", "0", "--noise", "symmetric"), "No row"),
    ],
)
def test_bad_input(run, here, given, said):
    done = run("bench", "repair", *given)
    assert said in " ".join(done.output.split())


def test_help_has_an_example(run):
    done = run("bench", "repair", "--help")
    assert "Example:" in done.output and "tracemend bench repair" in done.output


def copy_of(tuned: Path, out: Path, *, seed: int) -> Path:
    """The same classifier as of another seed."""
    shutil.copytree(tuned, out)
    facts = json.loads((out / "classifier.json").read_text())
    facts["tuning"]["seed"] = seed
    (out / "classifier.json").write_text(json.dumps(facts))
    return out


def test_er_refuses_other_data_and_classifiers_in_its_directory(run, tuned: Path, tmp_path: Path) -> None:
    mine = copy_of(tuned, tmp_path / "mine", seed=0)
    frame(20, flipped=0).assign(other=lambda f: f["text"].str.upper()).to_csv(tmp_path / "new.csv", index=False)
    given = ("bench", "er", "--run", mine, "--unseen", tmp_path / "new.csv", "--out", tmp_path / "er", "--quiet")
    assert run(*given).exit_code == 0
    before = (tmp_path / "er" / "result.json").read_bytes()
    column = run(*given, "--text", "other")
    assert column.exit_code == 2 and "text: there 'text', now 'other'" in column.output
    frame(20, flipped=0, seed=1).to_csv(tmp_path / "new.csv", index=False)
    data = run(*given)
    assert data.exit_code == 2 and "(other data)" in data.output
    copy_of(tuned, tmp_path / "two", seed=1).rename(tmp_path / "mine2")
    shutil.rmtree(mine)
    (tmp_path / "mine2").rename(mine)
    both = run(*given)
    assert both.exit_code == 2 and "other data and model" in both.output
    assert (tmp_path / "er" / "result.json").read_bytes() == before


def test_er_names_sets_of_one_name_apart(run, tuned: Path, tmp_path: Path) -> None:
    places = [tmp_path / place / "new.csv" for place in "ab"]
    for seed, path in enumerate(places):
        path.parent.mkdir()
        frame(20, flipped=0, seed=seed).to_csv(path, index=False)
    given = ("bench", "er", "--run", tuned, "--out", tmp_path / "er", "--quiet")
    done = run(*given, "--unseen", places[0], "--unseen", places[1], "--json")
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)["metrics"]) == {f"unseen / {place}/new.csv / accuracy" for place in "ab"}
    twice = run(*given, "--unseen", places[0], "--unseen", tmp_path / "b" / ".." / "a" / "new.csv")
    assert twice.exit_code == 2 and "given twice" in twice.output


def test_er_pairs_runs_of_the_same_seed_alone(run, tuned: Path, tmp_path: Path) -> None:
    frame(20, flipped=0).to_csv(tmp_path / "new.csv", index=False)
    other = copy_of(tuned, tmp_path / "other", seed=7)
    given = ("bench", "er", "--unseen", tmp_path / "new.csv", "--out", tmp_path / "er", "--run", tuned)
    done = run(*given, "--against", other)
    assert done.exit_code == 2 and "seed 7" in done.output and "same seeds in the same order" in done.output
    twice = run(*given, "--run", tuned)
    assert twice.exit_code == 2 and "given twice" in twice.output


@pytest.mark.slow
def test_er_compares_two_arms_on_three_axes(run, tuned: Path, tmp_path: Path) -> None:
    frame(30, flipped=0).to_csv(tmp_path / "new.csv", index=False)
    cases = [{"test": "words", "type": "MFT", "texts": ["love great nice"], "label": "safe"},
             {"test": "names", "type": "INV", "texts": ["love this movie", "love that movie"]}]  # fmt: skip
    (tmp_path / "cases.jsonl").write_text("\n".join(json.dumps(case) for case in cases))
    for name, order in (("original", ["safe", "unsafe"]), ("contrast", ["unsafe", "safe"])):
        table = pd.DataFrame({"Text": ["love this movie", "hate this film"], "Sentiment": order})
        table.to_csv(tmp_path / f"test_{name}.tsv", sep="\t", index=False)
    given = ("bench", "er", "--run", tuned, "--against", tuned, "--unseen", tmp_path / "new.csv",
             "--contrast", tmp_path, "--tests", tmp_path / "cases.jsonl", "--out", tmp_path / "er", "--quiet",
             "--json")  # fmt: skip
    done = run(*given)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert set(result["controls"]) == {"shuffled", "constant"}
    assert result["metrics"].keys() == result["controls"]["shuffled"].keys()
    gap = pd.read_csv(tmp_path / "er" / "compared.csv")
    assert set(gap["axis"]) == {"unseen", "contrast", "functional"} and (gap["difference"] == 0).all()
    assert set(gap["verdict"]) == {"no effect shown"}
    assert json.loads(run(*given).stdout) == result
    again = run("report", tmp_path / "er")
    assert again.exit_code == 0, again.output
    page = (tmp_path / "er" / "report.html").read_text(encoding="utf-8")
    assert "No effect is shown: 6 figures over 1 seed, Holm-corrected." in page and "shuffled" in page
    few = run("bench", "er", "--run", tuned, "--against", tuned, "--against", tuned, "--out", tmp_path / "few")
    assert few.exit_code == 2 and "as many --against" in few.output
    assert run("bench", "er", "--run", tuned, "--out", tmp_path / "none").exit_code == 2
