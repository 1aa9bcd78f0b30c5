"""A run knows what it was made of: with another tokenizer or other further columns it is another run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.cli.conftest import FAST, frame

pytestmark = pytest.mark.slow
TUNE = ("tune", "notes.csv", "--text", "text", "--label", "label", "--model", "mine", "--out", "out", *FAST)


@pytest.fixture
def tuned_on_notes(here: Path, run) -> Path:
    shutil.copytree("model", "mine")
    frame(flipped=0).assign(note="old").to_csv("notes.csv", index=False)
    done = run(*TUNE)
    assert done.exit_code == 0, done.output
    return here / "out"


def test_another_tokenizer_is_another_model(tuned_on_notes, run):
    before = (tuned_on_notes / "result.json").read_bytes()
    path = Path("mine/tokenizer.json")
    facts = json.loads(path.read_text("utf-8"))
    words = facts["model"]["vocab"]
    words["love"], words["hate"] = words["hate"], words["love"]
    path.write_text(json.dumps(facts), "utf-8")
    again, predicted = run(*TUNE), run("predict", "out", "notes.csv", "--text", "text")
    assert again.exit_code == predicted.exit_code == 2
    assert "belongs to another run" in again.stderr and "fingerprint" in predicted.stderr
    assert (tuned_on_notes / "result.json").read_bytes() == before


def test_changed_further_columns_are_other_data(tuned_on_notes, run):
    frame(flipped=0).assign(note="new").to_csv("notes.csv", index=False)
    done = run(*TUNE)
    assert done.exit_code == 2 and "other columns beside text and label" in done.stderr
    assert set(pd.read_parquet(tuned_on_notes / "examples.parquet")["note"]) == {"old"}


def test_trace_and_predict_agree_on_what_is_predicted(tuned_on_notes, run):
    facts = json.loads(Path("out/classifier.json").read_text("utf-8"))
    sure = pd.DataFrame(json.loads(run("predict", "out", "notes.csv", "--text", "text", "--json").stdout))
    name = f"p_{facts['positive']}"
    # Between the probabilities of two texts, and far from a half: what is likelier and what is predicted part ways.
    facts["threshold"] = float(sure[name].quantile(0.25))
    Path("out/classifier.json").write_text(json.dumps(facts), "utf-8")
    chosen = sure[(sure[name] >= facts["threshold"]) & (sure[name] < 0.5)].iloc[0]
    done = run("trace", "out", "--query", f"{chosen['text']} indeed", "--top", "2", "--json")
    assert done.exit_code == 0, done.output
    told = pd.read_csv(next(Path("out/trace").glob("text-*/rows.csv")))
    asked = pd.DataFrame({"text": [f"{chosen['text']} indeed"]})
    asked.to_csv("asked.csv", index=False)
    (predicted,) = json.loads(run("predict", "out", "asked.csv", "--text", "text", "--json").stdout)
    assert set(told["query_predicted"]) == set(told["query_label"]) == {predicted["label"]}
