"""Tables on a narrow screen: what names a row stays readable, and no figure is lost."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from tests.cli.test_neurons import sentence
from tracemend.cli import app
from tracemend.cli.output import json_rows, print_table
from tracemend.models import tiny


def printed(table: pd.DataFrame, width: int, **options: int) -> str:
    file = io.StringIO()
    print_table(Console(file=file, width=width, highlight=False, soft_wrap=True), table, **options)
    return file.getvalue()


def wide(arms: int) -> pd.DataFrame:
    names = ["score", "detection", "accuracy where the unit fires"]
    return pd.DataFrame({"figure": names, **{f"random_direction_{k}": [k + 0.123, 1.5, np.nan] for k in range(arms)}})


def test_a_table_that_fits_is_one_piece() -> None:
    assert printed(wide(2), 80).count("figure") == 1


@pytest.mark.parametrize("width", [60, 80, 120])
def test_each_piece_of_a_wide_table_names_its_rows(width: int) -> None:
    said = printed(wide(9), width)
    pieces = said.strip().split("\n\n")
    assert len(pieces) > 1 and max(map(len, said.splitlines())) <= width
    for piece in pieces:
        head, *rows = piece.splitlines()
        assert head.split()[0] == "figure" and len(rows) == 3
        assert [row.strip().startswith(name) for row, name in zip(rows, wide(1)["figure"], strict=True)] == [True] * 3
    # Every column and every figure is there once.
    for k in range(9):
        assert said.count(f"random_direction_{k}") == 1 and said.count(f"{k}.123") == 1


def test_what_stands_before_the_first_figure_names_a_row_if_it_is_short() -> None:
    table = pd.DataFrame(
        {"layer": [1, 2], "concept": ["praise", "blame"], **{f"figure_{k}": [0.5, 0.25] for k in range(12)}}
    )
    pieces = printed(table, 80).strip().split("\n\n")
    assert len(pieces) > 1 and all(piece.split()[:2] == ["layer", "concept"] for piece in pieces)
    long = table.assign(concept="a concept that is told in so many words that nothing else has room")
    assert all("concept" not in piece.split()[1:] for piece in printed(long, 80).strip().split("\n\n")[1:])


@given(st.integers(1, 12), st.integers(1, 40), st.integers(40, 130))
@settings(max_examples=40, deadline=None)
def test_no_cell_is_lost(columns: int, longest: int, width: int) -> None:
    table = pd.DataFrame({"name": ["first", "second"], **{f"c{k}": ["x" * longest, f"v{k}"] for k in range(columns)}})
    said = printed(table, width)
    assert all(re.search(rf"\bv{k}\b", said) and re.search(rf"\bc{k}\b", said) for k in range(columns))
    assert said.count("first") == said.count("second") == said.count("name")
    assert max(map(len, said.splitlines())) <= width


def test_an_empty_table_and_one_of_a_single_long_column_are_printed() -> None:
    assert printed(pd.DataFrame(), 80) is not None
    said = printed(pd.DataFrame({"text": ["so it goes " * 20]}), 40, widest=200)
    assert "".join(said.split()).count("soitgoes") >= 17


def test_a_commands_figures_have_names_in_eighty_columns(tmp_path: Path) -> None:
    model = tiny("bert")
    model.network.save_pretrained(tmp_path / "bert")
    model.tokenizer.save_pretrained(tmp_path / "bert")
    (tmp_path / "made_up.conllu").write_text("".join(sentence(i) for i in range(60)))
    given = ["neurons", "explain", "--data", tmp_path / "made_up.conllu", "--model", tmp_path / "bert", "--neurons", 3,
             "--ablated", 1, "--excerpts", 3, "--out", tmp_path / "run", "--quiet"]  # fmt: skip
    done = CliRunner().invoke(app, [str(part) for part in given], env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    # The last of these says where the drawing lies.
    heads = [line for line in lines if line.split()[:1] == ["figure"] and "/" not in line]
    assert heads and any("competence" in head for head in heads)
    for name in ("score", "detection", "fuzzing", "ablation", "defined"):
        assert sum(line.split()[:1] == [name] for line in lines) == len(heads)
    tables = "\n".join(lines).split("figure ")[0]
    assert {"unit", "explanation", "shuffled", "other_unit", "fuzzing", "fires"} <= set(tables.split())


def test_rows_as_json_lose_no_digit_and_take_any_cell() -> None:
    cells = {"score": 0.12345678901234567, "small": 1e-12, "id": 2**63 + 1, "key": b"a\xff", "gap": np.nan,
             "most": np.float32("inf"), "tags": np.array([b"x", 1], dtype=object), "day": pd.Timestamp("2024-01-02"),
             "of": {"key": b"y", "few": [1e-12, -np.inf]}}  # fmt: skip
    table = pd.DataFrame({name: pd.Series([cell], dtype=object) for name, cell in cells.items()})
    (row,) = json_rows(table.astype({"score": float, "small": float}))
    assert json.loads(json.dumps(row, allow_nan=False)) == {
        "score": 0.12345678901234567, "small": 1e-12, "id": 2**63 + 1, "key": "a\\xff", "gap": None, "most": None,
        "tags": ["x", 1], "day": "2024-01-02T00:00:00", "of": {"key": "y", "few": [1e-12, None]},
    }  # fmt: skip
