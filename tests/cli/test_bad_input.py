"""Bad input: a message that says what to do, status 2, and nothing lost."""

from __future__ import annotations

import gzip
import json
import pickle
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.cli.conftest import DARING, FAST, frame, repair_of

pytestmark = pytest.mark.slow


def refused(run, *arguments):
    """What is said on standard error of a command that must be refused."""
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    return " ".join(done.stderr.split())


def repair_refused(run, table, *more, text="text", label="label"):
    """The same for a repair of this table."""
    table.to_csv("bad.csv", index=False)
    before = Path("bad.csv").read_bytes()
    given = ("repair", "bad.csv", "--text", text, "--label", label, "--model", "model", "--out", "out")
    said = refused(run, *given, *FAST, *more)
    assert Path("bad.csv").read_bytes() == before
    assert not Path("out", "result.json").exists()
    return said


@pytest.mark.usefixtures("here")
class TestTables:
    def test_missing_column(self, run):
        said = repair_refused(run, frame(), text="txt")
        assert "bad.csv has no column 'txt'; it has text, label, truth (did you mean 'text'?)." in said
        assert said.endswith("Name the column that holds the text, such as --text text.")

    def test_missing_column_of_another_file(self, run):
        frame(60, seed=1, offset=1000).rename(columns={"text": "comment"}).to_csv("valid.csv", index=False)
        said = repair_refused(run, frame(), "--valid", "valid.csv")
        assert "valid.csv has no column 'text'; it has comment, label, truth." in said
        assert "All files of a run name their columns alike: rename the column in valid.csv." in said
        assert "--text" not in said

    def test_missing_column_of_what_is_predicted(self, run, tuned):
        frame().rename(columns={"text": "comment"}).to_csv("other.csv", index=False)
        said = refused(run, "predict", tuned, "other.csv")
        assert "it has comment, label, truth. Name the column that holds the text, such as --text comment." in said
        assert "alike" not in said

    def test_missing_file(self, run):
        said = refused(run, *repair_of("nosy.csv", "out"))
        assert "there is no file nosy.csv; did you mean noisy.csv?" in said
        Path("tiny.csv").write_text("text,label\n", "utf-8")
        assert "there is no file missing.csv; check the path." in refused(run, *repair_of("missing.csv", "out"))

    def test_duplicate_columns(self, run):
        Path("bad.csv").write_text("text,text,label\na,b,safe\nc,d,unsafe\n", "utf-8")
        assert "more than one column named 'text'" in refused(run, *repair_of("bad.csv", "out"))

    def test_one_column_for_two_roles(self, run):
        assert "name two columns" in repair_refused(run, frame(), label="text")

    def test_unknown_label(self, run):
        said = repair_refused(run, frame(), "--positive", "Unsafe")
        assert "the positive label 'Unsafe' is not one of: safe, unsafe; did you mean 'unsafe'?" in said

    def test_labels_that_no_text_tells(self, run):
        table = frame(80)
        table["label"] = table["label"].sample(frac=1.0, random_state=0).to_numpy()
        assert "the labels carry no signal" in repair_refused(run, table)

    def test_one_class(self, run):
        said = repair_refused(run, frame().assign(label="safe"))
        assert "all 120 labels in column 'label' of bad.csv are 'safe'" in said

    def test_empty_texts_are_refused_or_dropped(self, run):
        table = frame()
        table.loc[[3, 7], "text"] = ["", "   "]
        said = repair_refused(run, table)
        assert "2 of 120 texts in bad.csv are empty: lines 5, 9" in said and "--drop-empty" in said
        done = run(*repair_of("bad.csv", "out"), "--drop-empty", "--validation", "clean", "--json")
        assert "Dropped 2 rows without text (lines 5, 9)." in json.loads(done.stdout)["notes"]

    def test_all_texts_the_same(self, run):
        assert "all 120 texts in bad.csv are the same" in repair_refused(run, frame().assign(text="again"))

    def test_every_row_twice_is_no_leak(self, run):
        table = pd.concat([frame(60), frame(60)])
        table.to_csv("bad.csv", index=False)
        done = run(*repair_of("bad.csv", "out"))
        assert done.exit_code == 0, done.output
        examples = pd.read_parquet("out/examples.parquet")
        assert (examples.groupby("text")["tracemend_split"].nunique() == 1).all()

    def test_missing_labels(self, run):
        table = frame()
        table.loc[[0, 5], "label"] = None
        said = repair_refused(run, table)
        assert "2 of 120 labels in column 'label' of bad.csv are missing: lines 2, 7" in said
        assert "frame.dropna(subset=['label'])" in said

    def test_a_label_that_training_lacks(self, run):
        frame(60, seed=1, offset=1000).replace({"label": {"unsafe": "rude"}}).to_csv("valid.csv", index=False)
        said = repair_refused(run, frame(), "--valid", "valid.csv")
        assert "label 'rude'" in said and "does not occur in the training data" in said and "safe, unsafe" in said

    def test_a_file_that_is_not_what_its_ending_says(self, run):
        Path("bad.csv").write_bytes(gzip.compress(b"text,label\n"))
        assert "gzip-compressed; add .gz to its name" in refused(run, *repair_of("bad.csv", "out"))
        Path("bad.parquet").write_text("text,label\na,b\n", "utf-8")
        assert "bad.parquet" in refused(run, *repair_of("bad.parquet", "out"))
        Path("bad.xyz").write_text("text,label\na,b\n", "utf-8")
        assert "known are .csv" in refused(run, *repair_of("bad.xyz", "out"))

    def test_a_pickled_table(self, run):
        Path("bad.pkl").write_bytes(pickle.dumps(frame()))
        assert "never loaded" in refused(run, *repair_of("bad.pkl", "out"))

    def test_wrong_encoding(self, run):
        Path("bad.csv").write_bytes("text,label\ncafé,safe\nthé,unsafe\n".encode("latin-1"))
        said = refused(run, *repair_of("bad.csv", "out"))
        assert "UTF-8" in said

    def test_a_group_across_given_splits_can_be_fixed(self, run):
        train, valid = frame().assign(author=range(120)), frame(60, seed=1, offset=1000).assign(author=range(110, 170))
        valid.to_csv("valid.csv", index=False)
        said = repair_refused(run, train, "--valid", "valid.csv", "--group", "author")
        assert "share groups" in said and "--fix-splits" in said
        done = run(*repair_of("bad.csv", "out"), "--valid", "valid.csv", "--group", "author", "--fix-splits", "--json")
        assert done.exit_code == 0, done.output
        assert any(note.startswith("Dropped 10 rows") for note in json.loads(done.stdout)["notes"])

    def test_checked_rows_of_the_file_itself_leave_the_training_part(self, run):
        frame(160).to_csv("whole.csv", index=False)
        frame(160, flipped=0)[:60].to_csv("checked.csv", index=False)
        given = (*repair_of("whole.csv", "out"), "--valid", "checked.csv", "--fix-splits")
        done = run(*given, "--rank", "trusted", "--json")
        assert done.exit_code == 0, done.output
        sizes = json.loads(done.stdout)["data"]["sizes"]
        assert sizes == {"train": 100, "validation": 30, "verdict": 30}
        said = refused(run, *repair_of("whole.csv", "two"), "--valid", "whole.csv", "--fix-splits")
        assert "--valid holds every row of FILE; leave some out of it." in said

    def test_too_few_rows_to_split(self, run):
        assert "at least 2 are needed" in repair_refused(run, frame(8, flipped=0))

    def test_fewer_rows_than_a_batch_do(self, run):
        frame(60, seed=1, offset=1000).to_csv("valid.csv", index=False)
        frame(8, flipped=0).to_csv("few.csv", index=False)
        done = run(*repair_of("few.csv", "out"), "--valid", "valid.csv", "--json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["data"]["sizes"]["train"] == 8

    def test_texts_longer_than_the_window_are_counted(self, run):
        table = frame()
        table["text"] += " love" * 100
        table.to_csv("long.csv", index=False)
        done = run(*repair_of("long.csv", "out"), "--validation", "clean")
        assert done.exit_code == 0, done.output
        trained = json.loads(Path("out/result.json").read_text("utf-8"))["data"]["sizes"]["train"]
        assert f"{trained} of {trained} training texts were cut to 24 tokens." in done.stdout


@pytest.mark.usefixtures("here")
class TestModels:
    def given(self):
        return ("tune", "clean.csv", "--text", "text", "--label", "label", *FAST, "--out", "out", "--model")

    def copied(self, folder):
        shutil.copytree(folder / "model", "mine")
        return Path("mine")

    def test_no_such_model(self, run):
        said = refused(run, *self.given(), "minillm")
        assert "did you mean 'minilm'?" in said and "without one, give a folder" in said

    def test_a_folder_without_tokenizer(self, run, folder):
        mine = self.copied(folder)
        for file in mine.glob("*token*"):
            file.unlink()
        assert "mine has no tokenizer; save it there" in refused(run, *self.given(), "mine")

    def test_pickled_weights(self, run, folder):
        mine = self.copied(folder)
        (mine / "model.safetensors").unlink()
        torch.save({}, mine / "pytorch_model.bin")
        assert "pickle (pytorch_model.bin)" in refused(run, *self.given(), "mine")

    def test_a_folder_that_is_no_model(self, run):
        Path("empty").mkdir()
        assert "empty has no config.json" in refused(run, *self.given(), "empty")

    def test_another_model_under_the_same_name(self, run, folder):
        from tracemend.models import tiny

        self.copied(folder)
        assert run(*self.given(), "mine").exit_code == 0
        tiny("bert", seed=1).network.save_pretrained("mine")
        assert "bring back the model it was tuned on" in refused(run, "predict", "out", "clean.csv")


@pytest.mark.usefixtures("here")
class TestRuns:
    def test_another_configuration(self, run, folder, repaired):
        given = (*repair_of("noisy.csv", repaired), *DARING)
        before = (repaired / "result.json").read_bytes()
        said = refused(run, *given, "--action", "remove")
        assert "belongs to another run (action: there 'auto', now 'remove')" in said
        assert (repaired / "result.json").read_bytes() == before

    def test_other_data(self, run, repaired):
        assert "and other data)" in refused(run, *repair_of("clean.csv", repaired))

    def test_another_command(self, run, tuned):
        assert "(command: there 'tune', now 'repair')" in refused(run, *repair_of("noisy.csv", tuned))

    def test_a_directory_of_the_users(self, run):
        Path("mine").mkdir()
        Path("mine/thesis.txt").write_text("all my work", "utf-8")
        assert "not a run of tracemend" in refused(run, *repair_of("noisy.csv", "mine"))
        assert [p.name for p in Path("mine").iterdir()] == ["thesis.txt"]

    def test_a_file_as_directory(self, run):
        assert "is a file, not a directory" in refused(run, *repair_of("noisy.csv", "clean.csv/"))

    @pytest.mark.parametrize(
        "command", [("predict", "nowhere", "clean.csv"), ("trace", "nowhere"), ("undo", "nowhere", "x")]
    )
    def test_no_run(self, run, command):
        assert "name the --out directory of a finished" in refused(run, *command)

    def test_no_run_to_report(self, run):
        Path("empty").mkdir()
        assert "empty/result.json does not exist" in refused(run, "report", "empty")
        assert "there is no folder nowhere" in refused(run, "report", "nowhere")

    @pytest.mark.parametrize("written", ["{}", "[]", '{"model": "model"}'])
    def test_a_damaged_classifier(self, run, tuned, written):
        shutil.copytree(tuned, "mine")
        Path("mine/classifier.json").write_text(written, "utf-8")
        said = refused(run, "predict", "mine", "clean.csv")
        assert "mine/classifier.json is damaged (" in said and "delete it and result.json" in said
        for name in ("classifier.json", "result.json"):
            Path("mine", name).unlink()
        given = ("tune", "noisy.csv", "--text", "text", "--label", "label", "--model", "model", *FAST, "--out", "mine")
        assert run(*given).exit_code == 0
        assert run("predict", "mine", "clean.csv").exit_code == 0

    def test_a_damaged_tuning_in_the_classifier(self, run, tuned):
        shutil.copytree(tuned, "mine")
        facts = json.loads(Path("mine/classifier.json").read_text("utf-8"))
        Path("mine/classifier.json").write_text(json.dumps({**facts, "tuning": {"layers": 3}}), "utf-8")
        assert "classifier.json is damaged" in refused(run, "predict", "mine", "clean.csv")

    @pytest.mark.parametrize("written", ["{}", "[]"])
    def test_a_damaged_result(self, run, repaired, written):
        shutil.copytree(repaired, "mine")
        Path("mine/result.json").write_text(written, "utf-8")
        for command in (("report", "mine"), (*repair_of("noisy.csv", "mine"), *DARING)):
            assert "mine/result.json is damaged (it names no command); delete it" in refused(run, *command)

    def test_usage(self, run):
        assert "--label" in refused(run, "repair", "noisy.csv", "--text", "text")
        said = refused(run, *repair_of("noisy.csv", "out"), "--rank", "vote")
        assert "'vote' is not one of: consensus, trusted," in said and "did you mean 'votes'?" in said

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            (("--preset", "gbiar"), "'gbiar' is not one of: default, gbair; did you mean 'gbair'?"),
            (("--fdr", "10"), "10 is not a share between 0 and 1, such as 0.1."),
            (("--noise", "-1"), "-1 is not a share between 0 and 1, such as 0.3."),
            (("--rounds", "0"), "0 is too small; give at least 1."),
            (("--rounds", "some"), "'some' is no whole number."),
        ],
    )
    def test_values_that_an_option_does_not_take(self, run, given, told):
        said = " ".join(refused(run, *repair_of("noisy.csv", "out"), *given).replace("│", " ").split())
        assert told in said and "Input should" not in said and "Value error" not in said


@pytest.mark.usefixtures("here")
class TestDecisions:
    def test_validation_labels_that_are_all_wrong(self, run):
        turned = frame(200, seed=1, offset=1000, flipped=0).replace({"label": {"safe": "unsafe", "unsafe": "safe"}})
        turned.to_csv("valid.csv", index=False)
        said = repair_refused(run, frame(300, flipped=0.05), "--valid", "valid.csv", "--fdr", "0.1")
        assert "carry no signal" in said and "--validation noisy" in said

    def test_a_rank_that_gives_no_probabilities(self, run):
        said = repair_refused(run, frame(), "--preset", "gbair", "--fdr", "0.1")
        assert "rank 'votes' (as in the preset gbair) gives none; choose rank 'consensus' or 'trusted'" in said

    def test_answers_to_nothing(self, run):
        assert "answers.csv does not exist" in repair_refused(run, frame(), "--answers", "answers.csv")
        Path("answers.csv").write_text("uid,answer\nnobody-0,safe\n", "utf-8")
        assert "not in the training part" in repair_refused(run, frame(), "--answers", "answers.csv")
        Path("answers.csv").write_text("uid,answer\nnobody-0,\n", "utf-8")
        assert "none of the 1 questions" in repair_refused(run, frame(), "--answers", "answers.csv")
