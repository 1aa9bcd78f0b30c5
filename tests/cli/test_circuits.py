"""``tracemend circuits``: the methods as commands, their fields as flags."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pandas as pd
import pytest

from tests.cli.conftest import Run
from tracemend.circuits import MarkovSource
from tracemend.circuits.run import circuits as methods
from tracemend.circuits.run import prompts_for
from tracemend.cli.circuits import NAMES
from tracemend.data.choices import letter_choices
from tracemend.data.prompts import PromptPairs
from tracemend.errors import CircuitError, DataError
from tracemend.models import tiny

ROW = {"clean": "you love this good movie so", "corrupted": "you hate this good movie so", "answer": "happy",
       "foil": "sad"}  # fmt: skip


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    model = tiny("llama")
    model.network.save_pretrained(path)
    model.tokenizer.save_pretrained(path)
    return path


def test_the_commands_are_the_methods(run: Run) -> None:
    assert set(NAMES) == set(methods())
    listed = run("circuits", "--help").output
    assert all(name in listed for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_a_flag_with_words(run: Run, name: str) -> None:
    found = run("circuits", name, "--help")
    assert found.exit_code == 0, found.output
    assert "Example:" in found.output and f"tracemend circuits {name}" in found.output
    words = " ".join(found.output.split())
    for field in dataclasses.fields(methods()[name]):
        flag = f"--{field.name.replace('_', '-')}"
        assert flag in words, flag


def test_a_run_is_kept_and_read_back(run: Run, llama: Path, tmp_path: Path) -> None:
    words = ("--prompt", "you are so", "--answer", "nice", "--foil", "bad", "--neurons", 3, "--draws", 2)
    given = ("circuits", "logits", *words, "--model", llama, "--out", tmp_path / "run", "--quiet", "--json")
    done = run(*given)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["command"] == "circuits.logits" and result["config"]["neurons"] == 3
    assert result["controls"].keys() <= result["metrics"].keys()
    assert {"rows.parquet", "rows.csv", "figure.svg", "method.json"} <= {p.name for p in (tmp_path / "run").iterdir()}
    assert json.loads(run(*given).stdout) == result
    other = run(*given[:-4], "--out", tmp_path / "run", "--seed", 1)
    assert other.exit_code == 2 and "belongs to another run" in other.output


def test_a_file_of_pairs_and_values_with_commas(run: Run, llama: Path, tmp_path: Path) -> None:
    pd.DataFrame([ROW, ROW]).to_csv(tmp_path / "pairs.csv", index=False)
    given = ("circuits", "patch", "--data", tmp_path / "pairs.csv", "--count", 1, "--parts", "stream,direct", "--draws",
             5, "--floor", "-1e9", "--model", llama, "--out", tmp_path / "run", "--quiet")  # fmt: skip
    done = run(*given)
    assert done.exit_code == 0, done.output
    assert set(pd.read_csv(tmp_path / "run" / "rows.csv")["part"]) == {"stream", "direct"}


def test_repeats_are_drawn_for_the_model(run: Run, llama: Path, tmp_path: Path) -> None:
    given = ("circuits", "induction", "--length", 8, "--texts", 2, "--silence", "1,2", "--model", llama)
    done = run(*given, "--out", tmp_path / "run", "--quiet")
    assert done.exit_code == 0, done.output
    assert "random heads" in done.output


@pytest.mark.slow
def test_small_models_are_trained_on_the_spot(run: Run, llama: Path, tmp_path: Path) -> None:
    MarkovSource.draw(symbols=24, rules=0).texts(60).frame.to_csv(tmp_path / "texts.csv", index=False)
    few = ("--data", tmp_path / "texts.csv", "--train-steps", 2, "--length", 8, "--texts", 2, "--quiet")
    done = run("circuits", "induction", "--model", "attention-only-2", *few, "--out", tmp_path / "one")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "one-model" / "model" / "config.json").is_file()
    done = run("circuits", "growth", *few, "--out", tmp_path / "two")
    assert done.exit_code == 0, done.output
    assert set(pd.read_csv(tmp_path / "two" / "rows.csv")["model"]) == {"found", "beside"}
    done = run("circuits", "growth", "--model", tmp_path / "two-model", "--length", 8, "--out", tmp_path / "three")
    assert done.exit_code == 0, done.output
    assert pd.read_csv(tmp_path / "three" / "rows.csv")["step"].tolist() == [0, 2]
    for given, words in ((("growth",), "holds 0 checkpoints"), (("induction", "--train-steps", 3), "trained already")):
        done = run("circuits", *given, "--model", llama, "--out", tmp_path / "four")
        assert done.exit_code == 2 and words in " ".join(done.output.split()), done.output


@pytest.mark.slow
def test_another_seed_needs_no_name(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    MarkovSource.draw(symbols=24, rules=0).texts(60).frame.to_csv("texts.csv", index=False)
    few = ("--data", "texts.csv", "--train-steps", 2, "--length", 8, "--texts", 2, "--quiet")
    for seed in (0, 1, 0):
        for given in (("induction", "--model", "attention-only-2"), ("growth",)):
            done = run("circuits", *given, *few, "--seed", seed)
            assert done.exit_code == 0, done.output
    kinds = ("induction", "induction-model", "growth", "growth-model", "growth-one-layer")
    assert {path.name for path in Path("runs").iterdir()} == {*kinds, *(f"{name}-2" for name in kinds)}


def test_a_small_model_needs_texts_to_be_trained_on(run: Run, tmp_path: Path) -> None:
    done = run("circuits", "ngrams", "--text", "a few", "--model", "attention-only-1", "--out", tmp_path / "run")
    assert done.exit_code == 2 and "1000 at least are needed" in " ".join(done.output.split())
    assert not (tmp_path / "run-model").exists()


def test_methods_of_texts_read_the_clean_prompts_of_pairs(run: Run, llama: Path, tmp_path: Path) -> None:
    pd.DataFrame([ROW, ROW]).to_csv(tmp_path / "pairs.csv", index=False)
    for name, source, count in (("ioi", "ioi", 3), ("file", tmp_path / "pairs.csv", 1)):
        given = ("circuits", "attention", "--data", source, "--count", count, "--length", 8, "--model", llama)
        done = run(*given, "--out", tmp_path / name, "--quiet")
        assert done.exit_code == 0, done.output
        assert "clean prompts of pairs" in " ".join(done.output.split())
        found = json.loads((tmp_path / name / "method.json").read_text())
        assert found["facts"]["texts"] == count and "clean prompts" in found["findings"][-1]
    assert (
        prompts_for("Texts", "letters", {}, count=2).frame["text"].tolist() == letter_choices(2).frame["clean"].tolist()
    )


@pytest.mark.parametrize("source", ["ioi", "letters", "markov", "pairs.csv"])
@pytest.mark.parametrize("count", [0, -1])
def test_no_rows_are_refused(run: Run, llama: Path, tmp_path: Path, source: str, count: int) -> None:
    path = tmp_path / "pairs.csv"
    pd.DataFrame([ROW, ROW]).to_csv(path, index=False)
    source = str(path) if source == path.name else source
    given = ("circuits", "attention", "--data", source, "--count", count, "--model", llama, "--out", tmp_path / "run")
    done = run(*given)
    assert done.exit_code == 2 and "--count" in done.output
    with pytest.raises(CircuitError, match=f"count is {count}"):
        prompts_for("Texts", source, {}, count=count)
    with pytest.raises(DataError, match="expected at least 1"):
        PromptPairs.make([ROW]).head(count)


EDIT = ("edit", "--prompt", "the nice people love", "--subject", "nice people", "--answer", "film", "--target", "movie")


def test_an_edit_is_kept_as_a_small_file(run: Run, llama: Path, tmp_path: Path) -> None:
    words = "the movie is good and this film was sad so we hate it but they love to stop the awful toxic text"
    pd.DataFrame({"text": [words] * 20}).to_csv(tmp_path / "texts.csv", index=False)
    small = (
        "--layer",
        0,
        "--floor",
        0,
        "--tokens",
        128,
        "--held-out",
        60,
        "--prefixes",
        2,
        "--prefix",
        3,
        "--steps",
        3,
    )
    given = ("circuits", *EDIT, "--neighbours", "the sad people love", "--corpus", tmp_path / "texts.csv", *small)
    done = run(*given, "--model", llama, "--out", tmp_path / "run", "--quiet")
    assert done.exit_code == 0, done.output
    assert "other key" in done.output
    assert (tmp_path / "run" / "edits.safetensors").stat().st_size < 2000
    assert pd.read_csv(tmp_path / "run" / "rows.csv")["neighbours"].notna().all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (EDIT, "needs a corpus"),
        (("ngrams", "--text", "too few words"), "tables need 10"),
        (("patch", "--data", "markov"), "made of texts"),
        (("features", "--text", "you", "--kind", "relu"), "not one of: l1, topk"),
        (("logits",), "give the prompts once"),
        (("logits", "--data", "ioi", "--prompt", "a"), "give the prompts once"),
        (("logits", "--prompt", "you"), "--answer is missing"),
        (("trace-facts", "--data", "ioi"), "made of pairs"),
        (("patch", "--data", "nowhere.csv"), "nowhere.csv"),
        (("attention", "--data", "{empty}"), "at least a header and one row"),
        (("attention", "--data", "{header}"), "no rows; at least one is needed"),
        (("induction", "--silence", "a,b"), "expected values with commas"),
        (("logits", "--prompt", "you", "--answer", "nice", "--foil", "bad", "--max-memory", "0"), "GiB"),
    ],
)
def test_bad_input_exits_2_with_a_message(
    run: Run, llama: Path, tmp_path: Path, given: tuple[str, ...], words: str
) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("text\n")
    given = tuple(word.format(empty=tmp_path / "empty.csv", header=tmp_path / "header.csv") for word in given)
    done = run("circuits", *given, "--model", llama, "--out", tmp_path / "run", "--quiet")
    assert done.exit_code == 2, done.output
    assert words in " ".join(done.output.split())
