"""Each command does its job on small data and says so where it should."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest

from tests.cli.conftest import DARING, FAST, repair_of
from tracemend.cli import app

COMMANDS = (
    "demo",
    "repair",
    "tune",
    "predict",
    "trace",
    "saliency",
    "detect",
    "report",
    "studio",
    "export",
    "review",
    "undo",
    "corrupt",
    "models",
    "methods",
)


@pytest.mark.slow
def test_help_takes_under_a_second() -> None:
    # Processor time, the best of three: what is measured is the command, not what else the machine does.
    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    seconds = []
    for _ in range(3):
        began = spent()
        subprocess.run([sys.executable, "-c", "from tracemend.cli import main; main()", "--help"], check=True,
                       capture_output=True, timeout=60)  # fmt: skip
        seconds.append(spent() - began)
    assert min(seconds) < 1.0


def test_help_imports_nothing_that_works_on_data() -> None:
    code = (
        "import sys\n"
        "from tracemend.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, "--help"], check=True, capture_output=True, text=True)
    loaded = set(done.stderr.split())
    assert "tracemend.cli.corrupt" in loaded
    assert not loaded & {"numpy", "pandas", "pyarrow", "sklearn", "torch", "transformers"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(run, command):
    done = run(command, "--help")
    assert done.exit_code == 0
    assert "Example:" in done.output
    assert f"tracemend {command}" in done.output


def test_no_command_was_forgotten():
    assert {command.name for command in app.registered_commands} == set(COMMANDS)


def test_version(run):
    assert re.fullmatch(r"tracemend \d+\.\d+\S*\n", run("--version").stdout)


def test_shell_completion_is_offered(run):
    assert "--install-completion" in run("--help").output


def test_the_values_of_the_options_are_those_of_the_library():
    from tracemend.cli import corrupt, options
    from tracemend.cli import repair as command
    from tracemend.cli import saliency as words
    from tracemend.cli import trace as tracing
    from tracemend.data import KINDS
    from tracemend.mend import ranking
    from tracemend.mend.decide import Policy
    from tracemend.mend.loop import PRESETS
    from tracemend.saliency.faithfulness import Deletion
    from tracemend.saliency.inputs import Absent, Entry, Output
    from tracemend.trace.candidates import Drivers
    from tracemend.trace.scoring.run import SCORES
    from tracemend.tuning import KINDS as ADAPTERS

    assert get_args(options.Adapter) == ADAPTERS
    assert set(get_args(corrupt.Kind)) == set(KINDS)
    assert set(get_args(command.Preset)) == set(PRESETS)
    assert set(get_args(command.Action)) == set(get_args(Policy))
    assert get_args(command.Rank) == get_args(ranking.Rank)
    assert get_args(command.Validation) == get_args(ranking.Validation)
    assert set(get_args(command.Drivers)) == set(get_args(Drivers))
    assert set(get_args(tracing.Score)) == set(SCORES)
    for given, own in ((words.Output, Output), (words.Deletion, Deletion), (words.Absent, Absent),
                       (words.Entry, Entry)):  # fmt: skip
        assert get_args(given) == get_args(own)


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_person_is_asked_and_answers(run):
    options = ("--rank", "trusted", "--validation", "clean", "--fdr", "0.3", "--ask", "3", "--no-warm-start")
    done = run(*repair_of("noisy.csv", "asked"), *options)
    assert done.exit_code == 0, done.output
    assert "questions.csv" in done.output and "3 questions for a person" in " ".join(done.output.split())
    questions = pd.read_csv("asked/questions.csv", dtype=str, keep_default_na=False)
    assert len(questions) == 3 and set(questions["answer"]) == {""}
    questions.assign(answer=questions["suggested"]).to_csv("answers.csv", index=False)
    done = run(*repair_of("noisy.csv", "answered"), *options, "--answers", "answers.csv")
    assert done.exit_code == 0, done.output
    changes = pd.read_csv("answered/changes.csv", dtype=str)
    assert set(changes.loc[changes["actor"] == "person", "uid"]) == set(questions["uid"])


def test_repair_leaves_a_run_that_says_what_was_found(repaired):
    result = json.loads((repaired / "result.json").read_text("utf-8"))
    wanted = {
        "ap_clean", "ap_corrupted", "ap_repaired", "recovered_share", "acted_precision", "detection_ap",
        "random_recovered_share", "rounds", "seconds",
    }  # fmt: skip
    assert wanted <= set(result["metrics"])
    assert result["status"] == "complete"
    for name in ("report.html", "repaired.csv", "changes.md", "ledger.sqlite", "examples.parquet", "classifier.json"):
        assert (repaired / name).exists()


def test_repair_prints_verdict_figures_notes_and_paths(run, folder, repaired):
    again = run(*repair_of(folder / "noisy.csv", repaired, model=folder / "model"), *DARING)
    assert again.exit_code == 0
    verdict = json.loads((repaired / "result.json").read_text("utf-8"))["verdict"]["sentence"]
    assert " ".join(verdict.split()[:6]) in " ".join(again.stdout.split())
    for shown in ("Average precision", "not shown", "Divided the data with seed 0", "report.html", "changes.md"):
        assert shown in again.stdout


def test_json_is_all_that_stands_on_standard_output(run, folder, repaired):
    given = repair_of(folder / "noisy.csv", repaired, model=folder / "model")
    done = run(*given, *DARING, "--json", "--resume")
    assert json.loads(done.stdout) == json.loads((repaired / "result.json").read_text("utf-8"))
    assert "report.html" in done.stderr


@pytest.mark.slow
def test_the_input_is_never_changed(run, here):
    before = (here / "noisy.csv").read_bytes()
    assert run(*repair_of("noisy.csv", "out"), "--validation", "clean").exit_code == 0
    assert (here / "noisy.csv").read_bytes() == before


def test_out_is_named_after_the_file_by_default(run, here):
    given = ("tune", "clean.csv", "--text", "text", "--label", "label", "--model", "model")
    assert run(*given, *FAST).exit_code == 0
    assert (here / "runs" / "clean" / "result.json").exists()


@pytest.mark.slow
def test_a_moved_file_with_the_same_data_resumes(run, here, folder):
    assert run(*repair_of("noisy.csv", "out"), "--validation", "clean").exit_code == 0
    began = (here / "out" / "result.json").read_bytes()
    shutil.copy(folder / "noisy.csv", here / "elsewhere.csv")
    assert run(*repair_of("elsewhere.csv", "out"), "--validation", "clean").exit_code == 0
    assert (here / "out" / "result.json").read_bytes() == began


@pytest.mark.slow
def test_the_preset_of_the_paper_traces_what_there_is(run, here):
    done = run(*repair_of("noisy.csv", "out"), "--preset", "gbair", "--candidates", "5")
    assert done.exit_code == 0, done.output
    config = json.loads((here / "out" / "result.json").read_text("utf-8"))["config"]
    assert (config["rank"], config["action"], config["tracin"]["parts"]) == ("votes", "remove", [])


def test_tune_measures_beside_its_controls(tuned):
    result = json.loads((tuned / "result.json").read_text("utf-8"))
    assert set(result["controls"]) == {"majority", "words"}
    assert {"ap", "accuracy", "macro_f1", "threshold"} <= set(result["metrics"])
    for control in result["controls"].values():
        assert set(control) == {"ap", "accuracy", "macro_f1"}


@pytest.mark.parametrize("kind", ["tuned", "repaired"])
def test_predict_needs_no_columns_and_prints_csv(run, folder, request, kind):
    done = run("predict", request.getfixturevalue(kind), folder / "clean.csv", "--quiet")
    assert done.exit_code == 0, done.output
    (folder / "predicted.csv").write_text(done.stdout, "utf-8")
    table = pd.read_csv(folder / "predicted.csv")
    assert list(table) == ["text", "label", "p_safe", "p_unsafe", "threshold", "original_label"]
    assert len(table) == 120
    assert ((table.p_safe + table.p_unsafe - 1).abs() < 1e-5).all()
    positive = json.loads((request.getfixturevalue(kind) / "classifier.json").read_text("utf-8"))["positive"]
    clear = (table[f"p_{positive}"] - table.threshold).abs() > 1e-5
    assert ((table.label == positive) == (table[f"p_{positive}"] >= table.threshold))[clear].all()


def test_predict_writes_a_file_and_does_not_replace_it(run, folder, tuned, tmp_path):
    out = tmp_path / "predicted.csv"
    given = ("predict", tuned, folder / "clean.csv", "--quiet", "--out", out)
    assert run(*given).exit_code == 0
    written = out.read_bytes()
    again = run(*given)
    assert (again.exit_code, out.read_bytes()) == (2, written)
    assert "--force" in again.stderr
    assert run(*given, "--force").exit_code == 0


def test_predict_carries_the_other_columns_through(run, tuned, tmp_path):
    mine = pd.DataFrame(
        {"id": ["007", "b", "c"], "comment": ["nice", "", "bad"], "uid": ["x", "y", "z"], "row": [5, 6, 7], "text": "-"}
    )
    mine.to_csv(tmp_path / "mine.csv", index=False)
    out = tmp_path / "predicted.csv"
    given = ("predict", tuned, tmp_path / "mine.csv", "--text", "comment", "--drop-empty", "--quiet", "--out", out)
    done = run(*given)
    assert done.exit_code == 0, done.output
    table = pd.read_csv(out, dtype=str)
    predicted = ["row", "text", "label", "p_safe", "p_unsafe", "threshold"]
    assert list(table) == [*predicted, "id", "uid", "original_row", "original_text"]
    assert list(table.row) == ["0", "2"]
    assert table[["id", "text", "uid", "original_row", "original_text"]].to_numpy().tolist() == [
        ["007", "nice", "x", "5", "-"],
        ["c", "bad", "z", "7", "-"],
    ]


def test_predict_drops_empty_texts_where_it_may(run, tuned, tmp_path):
    pd.DataFrame({"text": ["nice", "", "bad"], "id": [1, 2, 3]}).to_csv(tmp_path / "holes.csv", index=False)
    given = ("predict", tuned, tmp_path / "holes.csv", "--json")
    refused = run(*given)
    assert refused.exit_code == 2 and "--drop-empty" in refused.stderr
    done = run(*given, "--drop-empty")
    assert [row["text"] for row in json.loads(done.stdout)] == ["nice", "bad"]
    assert [(row["row"], row["id"]) for row in json.loads(done.stdout)] == [(0, "1"), (2, "3")]
    assert "dropped 1 row without text (line 3)" in done.stderr


def test_predict_says_how_many_texts_were_cut(run, tuned, tmp_path):
    pd.DataFrame({"text": ["nice", "bad " * 400]}).to_csv(tmp_path / "long.csv", index=False)
    done = run("predict", tuned, tmp_path / "long.csv", "--json")
    assert "1 of 2 texts were cut to 24 tokens" in done.stderr
    assert [row["label"] in ("safe", "unsafe") for row in json.loads(done.stdout)] == [True, True]


@pytest.mark.parametrize("kind", ["tuned", "repaired"])
def test_trace_shows_both_sides_of_the_errors(run, request, kind):
    out = request.getfixturevalue(kind)
    done = run("trace", out, "--top", "4", "--quiet")
    assert done.exit_code == 0, done.output
    rows = pd.read_csv(out / "trace" / "errors" / "rows.csv")
    assert (rows.query_label != rows.query_predicted).all()
    counts = rows.groupby(["query_uid", "side"]).size()
    assert (counts == 4).all()
    assert (rows[rows.side == "opponent"].score.groupby(rows.query_uid).max() < 0).all()
    assert ("the same for every query" if rows.query_uid.nunique() > 1 else "random examples") in done.stdout


def test_trace_takes_a_uid_or_a_text(run, tuned):
    uid = pd.read_parquet(tuned / "examples.parquet")["uid"][0]
    found = json.loads(run("trace", tuned, "--query", uid, "--json", "--top", "2", "--quiet").stdout)
    assert {row["query_uid"] for row in found["rows"]} == {uid}
    found = json.loads(run("trace", tuned, "--query", "what a nice movie", "--json", "--top", "2", "--quiet").stdout)
    assert all(row["query_label"] == row["query_predicted"] for row in found["rows"])
    missing = run("trace", tuned, "--query", "000000000000-0")
    assert (missing.exit_code, "no example of the run has the uid" in missing.stderr) == (2, True)


def test_detect_ranks_the_training_labels_and_measures(run, here):
    given = ("detect", "noisy.csv", "--text", "text", "--label", "label", "--truth", "truth", "--model", "model")
    done = run(*given, *FAST, "--method", "trace.loss", "--out", "suspects", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert {"detection_ap", "denied"} <= set(result["metrics"]) & set(result["controls"])
    table = pd.read_csv(here / "suspects" / "suspects.csv")
    assert table["score"].is_monotonic_decreasing
    assert {"uid", "text", "label", "suggested", "evidence", "truth"} <= set(table)
    assert table["probability"].between(0, 1).all() and "brier" in result["metrics"]  # validation has the true labels
    assert run("predict", "suspects", "clean.csv", "--quiet").exit_code == 0


@pytest.mark.slow
@pytest.mark.parametrize(("given", "used"), [((), "trace.others-labels"), (("--valid", "held.csv"), "trace.consensus")])
def test_detect_trusts_the_validation_labels_that_it_is_given(run, here, given, used):
    whole = pd.read_csv("clean.csv")
    whole[:40].to_csv("held.csv", index=False)
    whole[40:].to_csv("mine.csv", index=False)
    asked = ("detect", "mine.csv", "--text", "text", "--label", "label", "--model", "model", "--fix-splits")
    done = run(*asked, *FAST, *given, "--out", "suspects")
    assert done.exit_code == 0, done.output
    assert used in done.output
    assert pd.read_csv(here / "suspects" / "suspects.csv")["probability"].notna().all() == bool(given)
    assert ("No probability is given" in " ".join(done.output.split())) == (not given)


def test_detect_names_the_detectors(run, here):
    done = run("detect", "clean.csv", "--text", "text", "--label", "label", "--method", "trace.los")
    assert done.exit_code == 2
    assert "did you mean 'trace.loss'?" in done.stderr


def test_corrupt_keeps_the_truth_and_the_names_of_the_columns(run, here):
    pd.read_csv("clean.csv").rename(columns={"text": "comment", "label": "toxic"}).to_csv("mine.csv", index=False)
    given = ("corrupt", "mine.csv", "--text", "comment", "--label", "toxic", "--rate", "0.25", "--out", "bad.csv")
    done = run(*given, "--json")
    assert json.loads(done.stdout)["wrong"] == 30
    made = pd.read_csv("bad.csv")
    assert {"comment", "toxic", "truth"} <= set(made)
    assert (made.toxic != made.truth).sum() == 30
    assert list(made.truth) == list(pd.read_csv("mine.csv").toxic)


def test_corrupt_overwrites_neither_its_input_nor_anything_else(run, here):
    given = ("corrupt", "clean.csv", "--text", "text", "--label", "label")
    before = (here / "clean.csv").read_bytes()
    done = run(*given, "--out", "clean.csv", "--force")
    assert (done.exit_code, "never changed" in done.stderr) == (2, True)
    Path("there.csv").write_text("mine", "utf-8")
    done = run(*given, "--out", "there.csv")
    assert (done.exit_code, Path("there.csv").read_text("utf-8")) == (2, "mine")
    assert (here / "clean.csv").read_bytes() == before


def test_corrupt_takes_a_matrix(run, here):
    given = ("corrupt", "clean.csv", "--text", "text", "--label", "label", "--kind", "class-conditional")
    done = run(*given, "--matrix", '{"safe": {"unsafe": 0.5}}', "--out", "bad.csv", "--json")
    assert json.loads(done.stdout)["wrong"] == 30
    assert "expected JSON" in run(*given, "--matrix", "half", "--out", "worse.csv").stderr


def test_a_matrix_names_numbers_however_they_are_written(run, here):
    lines = [f"{word} text {i},{i % 2}" for i, word in enumerate(["kind", "cruel"] * 10)]
    Path("numbers.csv").write_text("\n".join(["text,label", *lines]), "utf-8")
    given = ("corrupt", "numbers.csv", "--text", "text", "--label", "label", "--kind", "class-conditional")
    done = run(*given, "--matrix", '{"0.0": {"1.0": 0.5}}', "--out", "bad.csv", "--json")
    assert json.loads(done.stdout)["wrong"] == 5


def test_undo_takes_one_decision_back(run, folder, repaired, tmp_path):
    mine = tmp_path / "run"
    shutil.copytree(repaired, mine)
    changes = pd.read_csv(mine / "changes.csv")
    if not len(changes):
        pytest.fail("the repair of the fixture acted on nothing")
    uid = changes["uid"][0]
    done = run("undo", mine, uid)
    assert done.exit_code == 0, done.output
    assert "report.html" in done.output  # it is written again as well
    given = pd.read_parquet(mine / "examples.parquet").set_index("uid")["label"]
    assert pd.read_csv(mine / "repaired.csv").set_index("uid")["label"][uid] == given[uid]
    unknown = run("undo", mine, "nobody-0")
    assert unknown.exit_code == 2


def test_report_is_written_again(run, repaired, tuned):
    (repaired / "report.html").unlink()
    done = run("report", repaired)
    assert done.exit_code == 0
    assert Path(done.stdout.strip()) == repaired / "report.html"
    assert (repaired / "report.html").exists()
    assert run("report", tuned).exit_code == 2


def test_models_and_methods_are_listed(run):
    assert {"minilm", "smollm2"} <= {row["name"] for row in json.loads(run("models", "--json").stdout)}
    assert "safetensors" in run("models").stdout
    rows = json.loads(run("methods", "--json").stdout)
    assert "mend.repair" in {row["name"] for row in rows}
    assert all(set(row) == {"name", "summary", "inputs", "capabilities"} and row["summary"] for row in rows)
