"""What a command leaves a person with: files to go on from, a next step, and no work that cannot be kept."""

from __future__ import annotations

import shlex
from dataclasses import replace
from itertools import pairwise

import pandas as pd
import pytest
from rich.console import Console

from tests.cli.conftest import DARING, FAST, repair_of
from tracemend.cli.labelled import TrueData
from tracemend.cli.next_step import print_next
from tracemend.errors import MissingColumnError
from tracemend.mend.rounds import measure

ASKED = ("--text", "text", "--label", "label", "--model", "model")


def said(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize(("rows", "share"), [(260, "86 rows, a third of them,"), (2600, "300 to 600 rows")])
def test_as_many_rows_are_to_be_checked_as_the_file_can_spare(rows, share, tmp_path, capsys):
    data, given = TrueData(file="a.csv", text="my text", label="y"), {"model": None, "seed": None}
    print_next(Console(width=200), data, given, rows=rows, out=tmp_path / "out")
    sentence, command = capsys.readouterr().out.strip().split("\n")
    assert sentence == f"Next: check the labels of {share} drawn at random, save these rows as checked.csv, and repair:"
    words = ["repair", "a.csv", "--text", "my text", "--label", "y", "--valid", "checked.csv", "--fix-splits"]
    assert shlex.split(command) == ["tracemend", *words, "--out", str(tmp_path / "out")]
    print_next(Console(width=200), replace(data, valid="v.csv"), given, rows=rows, out=tmp_path / "out")
    assert "check" not in capsys.readouterr().out.replace("checked", "")


@pytest.mark.slow
def test_the_next_command_has_the_options_of_this_one(run, here):
    """Without them it would be refused, or be of another model."""
    table = pd.read_csv("noisy.csv")
    table.assign(text=table["text"].where(table.index > 0)).to_csv("a.csv", index=False)
    more = shlex.split(
        "--method trace.loss --drop-empty --positive safe --class-weights --learning-rate 0.001 --seed 3"
    )
    done = run("detect", "a.csv", *ASKED, *FAST, *more, "--out", "found")
    assert done.exit_code == 0, done.output
    (command,) = (line for line in done.output.splitlines() if line.strip().startswith("tracemend repair"))
    words = shlex.split(command)
    assert "False" not in words and "None" not in words
    told = " ".join(words)
    for pair in ("--drop-empty --model", "--positive safe", "--seed 3", "--adapter head", "--epochs 2",
                 "--max-length 24", "--learning-rate 0.001", "--valid checked.csv", "--precision fp32",
                 "--class-weights "):  # fmt: skip
        assert pair in told


@pytest.mark.slow
def test_a_repair_that_is_not_shown_to_help_says_what_would(run, here):
    done = run(*repair_of("clean.csv", "out"))
    assert done.exit_code == 0, done.output
    assert "Next: check the labels of 40 rows" in said(done.output) and "--out out-checked" in said(done.output)
    assert all(pair in said(done.output) for pair in ("--model model", "--adapter head", "--epochs 2"))
    told = run(*repair_of("noisy.csv", "told"), "--truth", "truth")
    assert told.exit_code == 0 and "Next:" not in told.output


@pytest.mark.slow
def test_what_was_tried_and_taken_back_is_told(run, here, monkeypatch):
    """Where no round is better on validation, everything it did is taken back; it is not lost, nor called nothing."""

    def no_better(tuned, splits):
        found = measure(tuned, splits)
        return {**found, "validation": {**found["validation"], "ap": 0.0}}

    monkeypatch.setattr("tracemend.mend.rounds.measure", no_better)
    done = run(*repair_of("noisy.csv", "out"), *DARING)
    assert done.exit_code == 0, done.output
    tried = pd.read_csv(here / "out" / "taken-back.csv")
    assert len(tried) and not len(pd.read_parquet(here / "out" / "decisions.parquet"))
    said_there = said((here / "out" / "report.html").read_text("utf-8"))
    assert f"Nothing was changed: {len(tried)} training examples were acted on in rounds" in said_there
    assert "by similarity" not in said(done.output)  # the controls acted on nobody either
    exported = run("export", "out", "--to", "csv", "--out", "review.csv")
    assert exported.exit_code == 2 and "taken-back.csv" in said(exported.stderr)


def test_suspects_carry_the_columns_that_a_row_is_known_by(run, here):
    table = pd.read_csv("noisy.csv")
    table = table.assign(uid=[f"u{i}" for i in range(len(table))], rank=range(len(table)), by="me")
    table.to_csv("mine.csv", index=False)
    done = run("detect", "mine.csv", *ASKED, *FAST, "--method", "trace.loss", "--out", "suspects")
    assert done.exit_code == 0, done.output
    suspects = pd.read_csv(here / "suspects" / "suspects.csv")
    texts = dict(zip(table["uid"], table["text"], strict=True))
    assert [texts[own] for own in suspects["original_uid"]] == list(suspects["text"])
    assert set(suspects["by"]) == {"me"} and "original_rank" in suspects
    assert list(suspects["rank"]) == list(range(1, len(suspects) + 1))


def test_where_nothing_can_be_said_nobody_is_suggested(run, here):
    """The tiny model's states do not tell these labels."""
    done = run("detect", "noisy.csv", *ASKED, *FAST, "--out", "suspects")
    assert done.exit_code == 0 and "No suspect can be named" in said(done.output), done.output
    assert "read the first rows" not in said(done.output)
    assert pd.read_csv(here / "suspects" / "suspects.csv")["suggested"].isna().all()
    for to, out in (("argilla", "a.json"), ("label-studio", "l.json"), ("csv", "c.csv")):
        assert run("export", "suspects", "--to", to, "--out", out, "--top", "5").exit_code == 0


def test_what_cannot_be_written_is_told_before_the_work(run, tuned, tmp_path):
    (tmp_path / "a file.csv").write_text("no such column\n1\n", "utf-8")
    done = run("predict", tuned, tmp_path / "a file.csv", "--out", tmp_path / "a file.csv" / "predicted.csv")
    assert done.exit_code == 2 and "cannot be written" in said(done.stderr) and "another --out" in said(done.stderr)


def test_the_column_that_is_suggested_is_the_likeliest():
    names = ["Unnamed: 0", "id", "Kommentar Text (final)", "Label?"]
    assert MissingColumnError("a.csv", "text", "comment", names, names).instead == "Kommentar Text (final)"
    assert MissingColumnError("a.csv", "text", "comment", names[:2], names[:2]).instead == "id"


@pytest.mark.parametrize("command", [("repair",), ("mend", "regularise"), ("store", "build")])
def test_help_is_broken_by_the_window_alone(command, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = run(*command, "--help").output.split("Example:")[0].split("\n")
    paragraphs = "\n".join(line.rstrip() for line in lines).strip().split("\n\n")[1:]
    assert paragraphs
    for paragraph in paragraphs:
        one = paragraph.split("\n")
        # The first word of a line would not have fitted on the one before.
        assert all(len(a) + 1 + len(b.split()[0]) > 79 for a, b in pairwise(one)), paragraph
