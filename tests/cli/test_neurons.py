"""``tracemend neurons``: methods on units as commands."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.cli.conftest import Run
from tests.neurons.planted import UNIT, planted_unit
from tracemend.circuits import SparseAutoencoder
from tracemend.concepts.sasc import tiny_corpus
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.fixture
def planted(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A tiny encoder, a treebank, and an autoencoder one of whose features fires on nouns."""
    model, bank, _ = planted_unit()
    dense = model.network.encoder.layer[1].intermediate.dense
    w_enc, b_enc = dense.weight.detach().T.clone(), dense.bias.detach().clone()
    w_dec = torch.nn.functional.normalize(w_enc.T, dim=-1)
    code = SparseAutoencoder("l1", w_enc, b_enc, w_dec, torch.zeros(len(w_enc)), site="blocks.1.hook_resid_mid")
    code.save(tmp_path / "sae")
    fresh = tiny("bert")
    fresh.network.save_pretrained(tmp_path / "bert")
    fresh.tokenizer.save_pretrained(tmp_path / "bert")
    rows = []
    for i, of in enumerate(bank.sentences):
        tags = of.tags["upos"]
        # The first word is the root, and the others hang on it.
        words = [
            f"{k}\t{word}\t_\t{tag}\t_\t_\t{int(k > 1)}\t{'dep' if k > 1 else 'root'}\t_\t_"
            for k, (word, tag) in enumerate(zip(of.words, tags, strict=True), start=1)
        ]
        rows.append("\n".join([f"# newdoc id = d{i}", f"# sent_id = s{i}", *words, "", ""]))
    (tmp_path / "nouns.conllu").write_text("".join(rows))
    return tmp_path / "bert", tmp_path / "nouns.conllu", tmp_path / "sae"


@pytest.mark.slow
def test_a_feature_of_an_autoencoder_is_a_unit(run: Run, planted: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, bank, sae = planted
    given = ("--data", bank, "--model", model, "--sae", sae, "--quiet", "--json")
    small = ("--train-items", 200, "--test-items", 60)
    said = run("neurons", "explain", *given, *small, "--units", UNIT, "--units", 20, "--parts", 6, "--ablated", 1,
               "--out", tmp_path / "explain")  # fmt: skip
    assert said.exit_code == 0, said.output
    result = json.loads(said.stdout)
    assert result["config"]["site"].startswith("blocks.1.hook_resid_mid.features.")
    assert "random_weights" in result["controls"]
    (own,) = [row for row in pd.read_csv(tmp_path / "explain" / "rows.csv").to_dict("records") if row["unit"] == UNIT]
    nouns = {f"'{word}'" for word in ("movie", "film", "people", "reply")}
    assert nouns <= set(own["explanation"].split("; ")) and own["score"] > 0.8
    formulas = run("neurons", "compose", *given, *small, "--units", UNIT, "--top", 0.4, "--length", 1, "--fewest", 5,
                   "--draws", 20, "--out", tmp_path / "compose")  # fmt: skip
    assert formulas.exit_code == 0, formulas.output
    assert pd.read_csv(tmp_path / "compose" / "rows.csv")["formula"][0] == "upos=NOUN"
    taken = run("neurons", "ablate", *given, *small, "--units", UNIT, "--sizes", 1, "--at", 1, "--how", "zero",
                "--fewest", 5, "--read", "blocks.1.hook_resid_post", "--out", tmp_path / "ablate")  # fmt: skip
    assert taken.exit_code == 0, taken.output
    result = json.loads(taken.stdout)
    assert result["facts"]["order"][0] == UNIT
    # Read behind the block, so that what is taken went through the decoder.
    assert result["metrics"]["loss_rise"] > 5 * abs(result["controls"]["random"]["loss_rise"]) > 0


@pytest.mark.slow
def test_features_explained_by_sasc(run: Run, planted: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, _, sae = planted
    done = run("concepts", "sasc", "--model", model, "--sae", sae, "--unit", UNIT, "--data", tmp_path / "nowhere.csv")
    assert done.exit_code == 2 and "nowhere.csv" in done.output
    pd.DataFrame({"text": tiny_corpus()}).to_csv(tmp_path / "texts.csv", index=False)
    done = run("concepts", "sasc", "--model", model, "--sae", sae, "--unit", UNIT, "--data", tmp_path / "texts.csv",
               "--encoder", model, "--grams", 300, "--shuffles", 1, "--directions", 1, "--out", tmp_path / "sasc",
               "--quiet", "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert ".features." in json.loads(done.stdout)["config"]["site"]


def test_an_autoencoder_of_another_site_is_refused(run: Run, planted: tuple[Path, Path, Path], tmp_path: Path) -> None:
    model, bank, sae = planted
    given = ("neurons", "explain", "--data", bank, "--model", model, "--quiet")
    done = run(*given, "--sae", sae, "--site", "blocks.0.hook_resid_post")
    assert done.exit_code == 2 and "was trained on" in done.output
    done = run(*given, "--sae", tmp_path)
    assert done.exit_code == 2 and "no sparse autoencoder" in done.output
    replace(SparseAutoencoder.read(sae), site="").save(tmp_path / "unnamed")
    done = run(*given, "--sae", tmp_path / "unnamed")
    assert done.exit_code == 2 and "give --site as well" in " ".join(done.output.split())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("ablate", "--run", "x", "--order", "linear", "--fewest", 5), "--order, --fewest would do nothing with --run"),
        (("ablate", "--run", "x", "--model", "minilm"), "--model would do nothing with --run"),
        (("ablate", "--run", "x", "--label", "gold"), "--label would do nothing without --data"),
        (("ablate", "--data", "x", "--texts", 5), "--texts would do nothing without --run"),
        (("compose", "--run", "x", "--no-near", "--pooling", "last"), "--pooling, --near would do nothing with --run"),
        (("compose", "--data", "x", "--sides"), "--sides would do nothing without --run"),
    ],
    ids=str,
)
def test_options_that_mean_nothing_are_refused(run: Run, given: tuple[str, ...], said: str) -> None:
    done = run("neurons", *given)
    assert done.exit_code == 2 and said in " ".join(done.output.split())


@pytest.mark.slow
def test_another_layer_or_seed_without_a_name_is_another_run(run: Run, tuned: Path, here: Path) -> None:
    given = ("neurons", "compose", "--run", tuned, "--neurons", 2, "--length", 1, "--edited", 1, "--quiet")
    for further, folder in (((), ""), (("--seed", 1), "-2"), (("--site", "blocks.0.mlp.hook_post"), "-3")):
        done = run(*given, *further)
        assert done.exit_code == 0, done.output
        name = f"runs/neurons-compose-classifier-{tuned.name}{folder}"
        assert (here / name / "result.json").exists()
        assert ("belongs to another run" in " ".join(done.output.split())) == bool(folder)
