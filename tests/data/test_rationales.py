"""Lists of words and spans of characters, out of files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracemend.data import Labelled, Splits, read_rationales, read_words
from tracemend.errors import DataError


@pytest.fixture
def splits() -> Splits:
    def part(*texts: str) -> Labelled:
        return Labelled.make(texts, ["a", "b"], label_names=["a", "b"])

    return Splits(train=part("so it goes", "you, fool"), validation=part("x", "y"), verdict=part("u", "v"))


def table(folder: Path, *rows: str, header: str = "text,start,end") -> Path:
    path = folder / "spans.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_words_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("# groups\nwomen\n\n  muslims \nwomen\n", encoding="utf-8")
    assert read_words(path) == ["women", "muslims"]
    path.write_text("# none\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no word"):
        read_words(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="a word a line"):
        read_words(path)
    with pytest.raises(DataError, match="a word a line"):
        read_words(tmp_path / "none.txt")


def test_spans_by_uid(tmp_path: Path, splits: Splits) -> None:
    found = read_rationales(table(tmp_path, '"you, fool",5,9', '"you, fool",0,3', "u,0,1"), splits)
    assert found == {splits.train.uid[1]: [(5, 9), (0, 3)], splits.verdict.uid[0]: [(0, 1)]}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("so it goes,3,11", "line 2: the span 3-11 is not of its text, which has 10 characters"),
        ("so it goes,3,3", "the span 3-3"),
        ("so it goes,three,4", "are no places"),
        ("so it went,0,2", "no text of the data is 'so it went'"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, splits: Splits, row: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_rationales(table(tmp_path, row), splits)


def test_a_missing_column_is_named(tmp_path: Path, splits: Splits) -> None:
    with pytest.raises(DataError, match="no column 'end'"):
        read_rationales(table(tmp_path, "so it goes,0,2", header="text,start,ende"), splits)
