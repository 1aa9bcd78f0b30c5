"""Suspects out to a file and answers back, by the command line."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from tests.cli.conftest import FAST


@pytest.fixture
def suspected(run, here):
    pd.read_csv("noisy.csv").rename(columns={"text": "comment", "label": "toxic"}).to_csv("mine.csv", index=False)
    given = ("detect", "mine.csv", "--text", "comment", "--label", "toxic", "--model", "model")
    done = run(*given, *FAST, "--method", "trace.out-of-fold-loss", "--out", "suspects")
    assert done.exit_code == 0, done.output
    assert "--valid FILE" in " ".join(done.output.split())  # nothing here is trusted, and it says so
    return here / "suspects"


def test_a_detect_run_goes_out_and_comes_back(run, here, suspected):
    done = run("export", "suspects", "--to", "argilla", "--out", "review.json", "--top", "5")
    assert done.exit_code == 0 and "review.json" in done.stdout
    table = pd.read_csv(suspected / "suspects.csv")
    assert table["probability"].isna().all() and table["score"].notna().all()
    records = json.loads((here / "review.json").read_text("utf-8"))
    assert all(record["suggestions"]["label"]["score"] is None for record in records)
    assert len(records) == 5 and records[0]["suggestions"]["label"]["agent"] == "trace.out-of-fold-loss"
    for record in records:
        value = record["suggestions"]["label"]["value"]
        record["responses"] = {"label": [{"value": value, "user_id": "ada"}]}
    (here / "reviewed.json").write_text(json.dumps(records), "utf-8")
    done = run("review", "suspects", "reviewed.json", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["relabelled"] == 5 and json.loads(done.stdout)["reviewers"] == ["ada"]
    repaired = pd.read_csv(suspected / "repaired.csv").set_index("uid")
    assert all(repaired.loc[r["id"], "toxic"] == r["suggestions"]["label"]["value"] for r in records)
    assert list(repaired.columns) == list(pd.read_csv("mine.csv").columns)  # the user's own names
    assert run("undo", "suspects", records[0]["id"]).exit_code == 0
    repaired = pd.read_csv(suspected / "repaired.csv").set_index("uid")
    assert repaired.loc[records[0]["id"], "toxic"] == records[0]["metadata"]["given"]
    # The whole file has the rows that took no part as well.
    assert run("export", "suspects", "--to", "file", "--out", "whole.jsonl").exit_code == 0
    whole, given = pd.read_json("whole.jsonl", lines=True, dtype=False), pd.read_csv("mine.csv", dtype=str)
    assert list(whole["comment"]) == list(given["comment"])
    assert (whole["toxic"] != given["toxic"]).sum() == 4
    assert set(whole["split"]) == {"train", "validation", "verdict", "test"}


def test_a_repair_takes_a_review_and_writes_its_report_again(run, here, repaired, tmp_path):
    import shutil

    shutil.copytree(repaired, here / "mine")
    report = (here / "mine" / "report.html").stat().st_mtime_ns
    assert run("export", "mine", "--to", "csv", "--out", "review.csv").exit_code == 0
    table: Any = pd.read_csv(here / "review.csv", dtype=str, keep_default_na=False)
    table.loc[0, "answer"] = table.loc[0, "label"]
    table.to_csv(here / "review.csv", index=False)
    done = run("review", "mine", "review.csv", "--actor", "Ada")
    assert done.exit_code == 0 and "1 kept as they were" in done.stdout and "by Ada" in done.stdout
    assert (here / "mine" / "report.html").stat().st_mtime_ns > report

    def says() -> str:
        return (here / "mine" / "report.html").read_text(encoding="utf-8")

    # The answer was the label as it came, so the repair's decision is not in force any more.
    assert "Since the run, 1 decision was changed (by Ada)" in says()
    other = table.loc[1, "uid"]
    assert run("undo", "mine", other).exit_code == 0
    assert "Since the run, 2 decisions were changed (by Ada, user)" in says()
    assert says().index('id="since"') < says().index(other)


def test_a_file_beside_the_tasks_is_not_overwritten(run, here, suspected):
    (here / "review.xml").write_text("<View>my own</View>", "utf-8")
    command = ("export", "suspects", "--to", "label-studio", "--out", "review.json")
    done = run(*command)
    assert done.exit_code == 2 and "review.xml is there already" in " ".join(done.output.split())
    assert (here / "review.xml").read_text("utf-8") == "<View>my own</View>" and not (here / "review.json").exists()
    assert run(*command, "--force").exit_code == 0
    assert "my own" not in (here / "review.xml").read_text("utf-8") and (here / "review.json").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("export", "suspects", "--to", "csv", "--out", "noisy.csv"), "is there already"),
        (("export", "nowhere", "--to", "csv", "--out", "x.csv"), "there is no folder nowhere"),
        (("export", "suspects", "--to", "argilla", "--out", "x.csv"), "ends in .json"),
        (("export", "suspects", "--to", "file", "--out", "noisy.csv"), "is there already"),
        (("export", "suspects", "--to", "file", "--out", "whole.txt"), "known are .csv"),
        (("export", "suspects", "--to", "file", "--out", "whole.csv", "--top", "3"), "leave it out"),
        (("review", "suspects", "nothing.json"), "does not exist"),
        (("review", "suspects", "noisy.csv"), "lacks the columns uid, answer"),
    ],
)
def test_bad_input_is_a_message_and_status_2(run, suspected, given, said):
    done = run(*given)
    assert done.exit_code == 2 and said in done.output


def test_the_values_of_the_options_are_those_of_the_library():
    from typing import get_args

    from tracemend.cli import bench, export, review
    from tracemend.data.exchange import Rule
    from tracemend.data.exchange import Target as Known
    from tracemend.mend.proof import PARTS

    assert get_args(export.Target) == (*get_args(Known), "file")
    assert get_args(review.Rule) == get_args(Rule)
    assert get_args(bench.Part) == PARTS
