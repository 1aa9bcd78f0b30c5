"""Concept sets: read from tables, each text once, with what cannot be used refused."""

from __future__ import annotations

import pandas as pd
import pytest

from tracemend.data import Concepts, read_concepts
from tracemend.errors import DataError

ROWS = pd.DataFrame({"text": ["So  good", "so good", "lovely", "awful"], "concept": ["a", "a", "a", "b"]})
RANDOM = pd.DataFrame({"text": ["the road home", "a plate", "The road home"]})
TEXTS = [("a nice film", None)]


def test_each_text_stands_once_whatever_its_case_and_spaces():
    found = read_concepts(ROWS, RANDOM, TEXTS, labels=["good"])
    assert found.sets == {"a": ("So  good", "lovely"), "b": ("awful",)}
    assert found.random == ("the road home", "a plate")
    assert found.texts == (("a nice film", None),) and found.labels == ("good",)


def test_without_a_column_of_names_all_rows_are_of_one_concept():
    found = read_concepts(ROWS[["text"]], RANDOM, TEXTS)
    assert list(found.sets) == ["concept"] and found.labels is None


def test_a_row_that_names_no_concept_is_refused(tmp_path):
    (tmp_path / "sets.csv").write_text("text,concept\nso good,praise\nwhat,\nlovely,praise\nwho, \n", "utf-8")
    with pytest.raises(DataError, match=r"2 of 4 cells in column 'concept' of \S+ are empty: lines 3, 5\. Name"):
        read_concepts(tmp_path / "sets.csv", RANDOM, TEXTS)


def test_the_fingerprint_knows_sets_and_labels():
    one, other = (read_concepts(ROWS, RANDOM, TEXTS, labels=[name]) for name in ("good", "bad"))
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == read_concepts(ROWS, RANDOM, TEXTS, labels=["good"]).fingerprint


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sets": {}}, "0 concepts"),
        ({"sets": {"a": ("x", " ")}}, "text 1 of concept 'a' is empty"),
        ({"random": ()}, "0 random texts"),
        ({"texts": ()}, "0 texts"),
        ({"labels": ("good", "bad")}, "2 labels for 1 texts"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_refused(given, said):
    whole = {"sets": {"a": ("x",)}, "random": ("y",), "texts": (("z", None),)} | given
    with pytest.raises(DataError, match=said):
        Concepts(**whole)


def test_a_missing_column_is_named():
    with pytest.raises(DataError, match="words"):
        read_concepts(ROWS, RANDOM, TEXTS, text="words")
