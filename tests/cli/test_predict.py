"""``tracemend predict``: what is printed and written is what the file held, and what its name says."""

from __future__ import annotations

import io
import json
import sys

import pandas as pd
import pytest
import typer

from tests.cli.test_bad_input import refused
from tracemend.cli import main


def test_json_holds_numbers_and_bytes_of_the_file(run, tuned, tmp_path):
    frame = pd.DataFrame({"text": ["nice", "bad"], "score": [0.12345678901234567, 1e-12], "key": [b"a", None]})
    frame.to_parquet(tmp_path / "mine.parquet")
    done = run("predict", tuned, tmp_path / "mine.parquet", "--json", "--quiet")
    assert done.exit_code == 0, done.output
    assert [(row["score"], row["key"]) for row in json.loads(done.stdout)] == [
        (0.12345678901234567, "a"),
        (1e-12, None),
    ]


@pytest.mark.parametrize("name", ["o.parquet", "o.tsv", "o"])
def test_a_file_is_called_what_it_is(run, folder, tmp_path, name):
    said = refused(run, "predict", tmp_path, folder / "clean.csv", "--out", tmp_path / name)
    assert f"{name}: name a file that ends in .csv" in said


def test_a_file_holds_any_text_whatever_the_locale(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    monkeypatch.setattr(sys.modules["tracemend.cli.app"], "app", lambda: typer.echo("fine \N{SLIGHTLY SMILING FACE}"))
    main()
    assert written.getvalue().decode() == "fine \N{SLIGHTLY SMILING FACE}\n"
