"""``tracemend mend``: a run directory that can be read back, predicted from and resumed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.cli.conftest import WORDS, Run
from tracemend.mend import Amplify, Regularise, Robustness, Shortcuts
from tracemend.methods import Method

COLUMNS = ("--text", "text", "--label", "label")
FAST = ("--adapter", "head", "--epochs", "2", "--max-length", "24", "--checked", "2", "--quiet")


@pytest.fixture(scope="module")
def posts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Messages in which "please" goes with a label."""
    rng = np.random.default_rng(0)
    rows = []
    for i in range(120):
        label = ("safe", "unsafe")[i % 2]
        said = [str(word) for word in rng.choice(WORDS[label][:5], 3)]
        if rng.random() < (0.9 if label == "unsafe" else 0.1):
            said.insert(int(rng.integers(0, 4)), "please")
        rows.append({"text": f"{' '.join(said)} {rng.integers(10**9)} {i}", "label": label})
    path = tmp_path_factory.mktemp("mend") / "posts.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("name", "method"),
    [("amplify", Amplify), ("regularise", Regularise), ("robustness", Robustness), ("shortcuts", Shortcuts)],
)
def test_every_field_is_a_flag_with_words(run: Run, name: str, method: type[Method[Any]]) -> None:
    found = run("mend", name, "--help")
    assert found.exit_code == 0 and f"tracemend mend {name}" in found.output
    for field in dataclasses.fields(method):
        if field.name != "tuning":
            assert f"--{field.name.replace('_', '-')}" in found.output, field.name


@pytest.mark.slow
def test_a_run_is_kept_read_back_and_predicted_from(run: Run, folder: Path, posts: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("please\n", encoding="utf-8")
    out = tmp_path / "run"
    given = ("mend", "regularise", posts, *COLUMNS, *FAST, "--model", folder / "model", "--remove-from", words)
    done = run(*given, "--out", out, "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["command"] == "mend regularise" and result["config"]["remove"] == ["please"]
    assert set(result["controls"]) == {"none", "other words"}
    assert {"accuracy", "ap", "flipped", "reversed", "weight", "threshold"} == set(result["metrics"])
    assert {"rows.csv", "figure.svg", "adapter-mended", "classifier.json"} <= {path.name for path in out.iterdir()}
    assert json.loads(run(*given, "--out", out, "--json").stdout) == result
    other = run(*given, "--strength", "1", "--out", out)
    assert other.exit_code == 2 and "strength: there 10.0, now 1.0" in other.output
    predicted = run("predict", out, posts, "--quiet")
    assert predicted.exit_code == 0, predicted.output
    weighed = run("saliency", "gradient", "--run", out, "--text", "please love", "--quiet")
    assert weighed.exit_code == 0, weighed.output


def test_rationales_of_a_file(run: Run, folder: Path, posts: Path, tmp_path: Path) -> None:
    texts = pd.read_csv(posts)["text"]
    spans = pd.DataFrame({"text": texts, "start": 0, "end": [text.index(" ") for text in texts]})
    spans.to_json(tmp_path / "spans.jsonl", orient="records", lines=True)
    given = ("mend", "regularise", posts, *COLUMNS, *FAST, "--model", folder / "model", "--criterion", "mse")
    done = run(*given, "--rationales", tmp_path / "spans.jsonl", "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "plausibility" in done.output and "training texts carry marks" in done.output


@pytest.mark.slow
def test_a_refused_command_leaves_its_folder_free(run: Run, folder: Path, posts: Path, tmp_path: Path) -> None:
    spans = pd.DataFrame({"text": pd.read_csv(posts)["text"]}).assign(start=0, end=lambda f: f["text"].str.len())
    spans.to_json(tmp_path / "spans.jsonl", orient="records", lines=True)
    given = ("mend", "regularise", posts, *COLUMNS, *FAST, "--model", folder / "model", "--out", tmp_path / "run")
    absent = run(*given, "--remove", "zzz")
    assert absent.exit_code == 2 and "0 training texts hold the word 'zzz'" in absent.output
    silent = run(*given, "--rationales", tmp_path / "spans.jsonl")
    assert silent.exit_code == 2 and "nothing is marked in any of the" in silent.output
    assert run(*given, "--remove", "please").exit_code == 0
    taken = run(*given, "--remove", "love")
    assert taken.exit_code == 2 and "belongs to another run" in taken.output


@pytest.mark.slow
def test_shortcuts_are_kept_and_read_back(run: Run, folder: Path, posts: Path, tmp_path: Path) -> None:
    out, more = tmp_path / "run", ("--head", 0.5, "--steps", 2, "--max-steps", 4, "--judged", 1)
    given = ("mend", "shortcuts", posts, *COLUMNS, *FAST, *more, "--model", folder / "model", "--out", out, "--json")
    done = run(*given)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["command"] == "mend shortcuts"
    assert set(result["controls"]) == {"shuffled labels", "unmended", "shuffled degrees"}
    assert "please" in set(pd.read_csv(out / "rows.csv")["word"])
    assert pd.read_csv(out / "texts.csv")["degree"].between(0, 1).all()
    assert pd.read_csv(out / "curve.csv")["step"].iloc[0] == 0
    shown = run(*given[:-1])
    assert "as it was tuned:" in shown.output and "step" in shown.output
    assert "first_two" in (out / "figure.svg").read_text(encoding="utf-8")
    assert json.loads(run(*given).stdout) == result
    predicted = run("predict", out, posts, "--quiet")
    assert predicted.exit_code == 0, predicted.output


@pytest.mark.slow
def test_robustness_is_kept_and_read_back(run: Run, folder: Path, posts: Path, tmp_path: Path) -> None:
    out, more = tmp_path / "run", ("--similarity", -1, "--apart", 0.5, "--copies", 1)
    given = ("mend", "robustness", posts, *COLUMNS, *FAST, *more, "--model", folder / "model", "--out", out, "--json")
    done = run(*given)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["command"] == "mend robustness"
    assert set(result["controls"]) == {"none", "adversarial", "random words", "other texts"}
    assert {"kind", "copy", "tau"} <= set(pd.read_csv(out / "rows.csv"))
    assert json.loads(run(*given).stdout) == result
    far = run(*given[:-3], "--similarity", 0.99, "--out", tmp_path / "far")
    assert far.exit_code == 2 and "has a substitute" in " ".join(far.output.split())


def test_amplify_is_kept_and_read_back(run: Run, folder: Path, posts: Path, tmp_path: Path) -> None:
    from tracemend.models import tiny

    model = tiny("llama")
    # Its positions are rotated, not learnt: a window with room for examples costs nothing.
    model.network.config.max_position_embeddings = model.tokenizer.model_max_length = 512
    model.network.save_pretrained(tmp_path / "decoder")
    model.tokenizer.save_pretrained(tmp_path / "decoder")
    out = tmp_path / "run"
    given = (
        "mend", "amplify", posts, *COLUMNS, "--model", tmp_path / "decoder",
        "--proxy", folder / "model",
        "--adapter", "head", "--epochs", "1", "--max-length", "24", "--shots", 2, "--top", 1, "--rationale", "{words}",
        "--answer", "is", "--attribution", "gradient", "--quiet", "--out", out, "--json",
    )  # fmt: skip
    done = run(*given)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["command"] == "mend amplify" and result["config"]["rationale"] == "{words}"
    assert {"labels only", "random words", "another sample's words", "zero-shot"} < set(result["controls"])
    assert {"key words", "score"} <= set(pd.read_csv(out / "samples.csv"))
    assert set(pd.read_csv(out / "rows.csv")["arm"]) == set(result["controls"]) - {"majority"} | {"key words"}
    assert json.loads(run(*given).stdout) == result
    other = run(*given[:-3], "--out", tmp_path / "other", "--words", "fine=good")
    assert other.exit_code == 2 and "words are given for fine" in " ".join(other.output.split())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "nothing is marked"),
        (("--remove", "zebra"), "0 training texts hold the word 'zebra'"),
        (("--remove", "please", "--criterion", "order"), "name both"),
        (("--remove-from", "none.txt"), "cannot be read as a list of words"),
    ],
)
def test_bad_input_is_told(
    run: Run, folder: Path, posts: Path, tmp_path: Path, given: tuple[str, ...], said: str
) -> None:
    fixed = ("--model", folder / "model", "--out", tmp_path / "run")
    found = run("mend", "regularise", posts, *COLUMNS, *FAST, *given, *fixed)
    assert found.exit_code == 2
    assert said in " ".join(found.output.split())
