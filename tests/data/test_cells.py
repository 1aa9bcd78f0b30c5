"""What a user's cells hold comes back as it was: ids, dates, lists, and who belongs to whom."""

from __future__ import annotations

import datetime as dt
import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tracemend.data import read, write
from tracemend.data.examples import read_examples, write_examples
from tracemend.data.readers import read_unlabelled
from tracemend.data.schema import Splits
from tracemend.data.splits import make_splits
from tracemend.errors import DataError

BIG = 1_234_567_890_123_456_789  # no float holds it


def table(n: int = 40) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"sentence number {i} {'abcdefghij'[i % 10] * 9}" for i in range(n)],
                         "label": ["a", "b"] * (n // 2)})  # fmt: skip


def test_an_author_is_one_whatever_the_file_made_of_the_number(tmp_path):
    frame = table().assign(author=[i // 4 for i in range(40)])
    frame.to_csv(tmp_path / "whole.csv", index=False)
    frame.assign(author=frame["author"].where(frame.index > 0)).to_csv(tmp_path / "one-missing.csv", index=False)
    whole, missing = (
        read(tmp_path / name, text="text", label="label", group="author") for name in ("whole.csv", "one-missing.csv")
    )
    assert set(missing.frame["group"].dropna()) == set(whole.frame["group"]) == {str(i) for i in range(10)}


@pytest.mark.parametrize("kind", ["parquet", "datasets"])
def test_ids_beside_a_missing_one_keep_their_last_digit(kind, tmp_path):
    ids = [BIG, BIG + 1, None, 4]
    made = pa.table({"text": ["one", "two", "three", "four"], "label": ["a", "b", "a", "b"], "id": ids})
    if kind == "parquet":
        pq.write_table(made, tmp_path / "ids.parquet")
        source = tmp_path / "ids.parquet"
    else:
        from datasets import Dataset

        source = Dataset(made)
    data = read(source, text="text", label="label", group="id")
    assert list(data.frame["group"]) == [str(BIG), str(BIG + 1), None, "4"]
    _, carried = read_unlabelled(source, text="text")
    assert list(carried["id"]) == ids


@pytest.mark.parametrize("ids", [range(100, 140), [7 * i % 97 for i in range(40)]], ids=["in a row", "any"])
def test_a_named_index_of_a_parquet_file_is_a_column(ids, tmp_path):
    table().assign(id=list(ids)).set_index("id").to_parquet(tmp_path / "indexed.parquet")
    assert list(read(tmp_path / "indexed.parquet", text="text", label="label").frame["id"]) == list(ids)


def test_an_index_without_a_name_is_no_column(tmp_path):
    pd.concat([table().iloc[::2], table().iloc[1:9:2]]).to_parquet(tmp_path / "rows.parquet")
    data = read(tmp_path / "rows.parquet", text="text", label="label")
    assert not [name for name in data.frame.columns if "index" in name]


def carrying() -> Splits:
    cells = {
        "id": [None, BIG, *range(38)],
        "day": [dt.date(2024, 1, 2)] * 40,
        "when": [pd.Timestamp("2024-01-02 03:04:05")] * 40,
        "score": [0.1 + 0.2] * 40,
        "tags": [["p", "q"], [], *[["r"]] * 38],
        "meta": [{"src": "x"}, {"score": 1}, *[None] * 38],
        "many": [np.arange(1500)] * 40,
    }
    frame = table()
    for name, values in cells.items():
        frame[name] = pd.Series(values, dtype=object)
    return make_splits(read(frame, text="text", label="label"), seed=0)


def test_further_columns_come_back_from_a_run_as_they_went(tmp_path):
    before = carrying()
    write_examples(before, tmp_path)
    after = read_examples(tmp_path)
    for name, part in before.parts.items():
        write(part, tmp_path / "before.jsonl")
        write(after.parts[name], tmp_path / "after.jsonl")
        assert (tmp_path / "after.jsonl").read_text("utf-8") == (tmp_path / "before.jsonl").read_text("utf-8")


@pytest.mark.parametrize("other", [[0.5, 1.5], [np.nan, 1.0]], ids=["fractions", "a gap"])
def test_whole_numbers_of_one_part_stay_whole_beside_floats_of_another(other, tmp_path):
    whole = [BIG + i for i in range(40)]
    parts = [read(table(n).assign(id=ids, text=[f"{name} {t}" for t in table(n)["text"]]), text="text", label="label")
             for name, n, ids in (("first", 40, whole), ("second", 4, other * 2), ("third", 4, other * 2))]  # fmt: skip
    splits = Splits(*parts)
    write_examples(splits, tmp_path)
    after = read_examples(tmp_path)
    assert list(after.train.frame["id"]) == whole
    assert after.fingerprints == splits.fingerprints


@pytest.mark.parametrize("first", [2**63, 2**70, -(2**64)])
def test_whole_numbers_beyond_64_bits_keep_every_digit(first, tmp_path):
    ids = pd.Series([first, 1, None, *range(first, first + 37)], dtype=object)
    splits = make_splits(read(table().assign(id=ids), text="text", label="label"), seed=0)
    write_examples(splits, tmp_path)
    after = read_examples(tmp_path)
    assert after.fingerprints == splits.fingerprints
    assert [list(part.frame["id"]) for part in after.parts.values()] == [
        list(part.frame["id"]) for part in splits.parts.values()
    ]


def test_numbers_too_large_beside_text_are_refused(tmp_path):
    splits = make_splits(read(table().assign(id=[2**70, *["x"] * 39]), text="text", label="label"), seed=0)
    with pytest.raises(DataError, match=r"'id'.*values of one type"):
        write_examples(splits, tmp_path)


def test_exports_hold_dates_lists_and_every_digit(tmp_path):
    part = carrying().train
    first = part.frame["id"].map(lambda cell: cell == BIG)
    at = int(first.to_numpy().argmax()) if first.any() else 0
    row = part.frame.iloc[at]
    write(part, tmp_path / "out.jsonl")
    said = json.loads((tmp_path / "out.jsonl").read_text("utf-8").splitlines()[at])
    assert said["day"] == "2024-01-02" and said["when"] == "2024-01-02T03:04:05" and said["score"] == 0.1 + 0.2
    assert said["id"] == row["id"] and said["tags"] == row["tags"] and said["many"] == list(range(1500))
    write(part, tmp_path / "out.csv")
    line = pd.read_csv(tmp_path / "out.csv", dtype=str).iloc[at]
    assert json.loads(line["many"]) == list(range(1500)) and json.loads(line["tags"]) == row["tags"]


def test_one_text_in_two_unicode_forms_is_one():
    from unicodedata import normalize

    from tracemend.data.duplicates import contents

    frame = pd.DataFrame({"text": [normalize(form, "Le café est fermé") for form in ("NFC", "NFD")] + ["no"],
                          "label": ["a", "b", "a"]})  # fmt: skip
    one, other, _ = contents(read(frame, text="text", label="label"))
    assert one == other


@pytest.mark.parametrize(
    ("sign", "said"), [("\\ud83d", "half a character (a lone surrogate)"), ("\\u0000", "a NUL character")]
)
def test_what_no_text_file_can_hold_is_refused_wherever_it_is(sign, said, tmp_path):
    row = '{{"text": "a{}", "label": 0, "more{}": "x{}"}}\n'.format
    fine = row("", "", "")
    for bad, found in (
        (row(sign, "", ""), f"column 'text' of {tmp_path}/a.jsonl holds {said} in line 2"),
        (row("", "", sign), f"column 'more' of {tmp_path}/a.jsonl holds {said} in line 2"),
        (row("", sign, ""), f"of {tmp_path}/a.jsonl holds {said}; give it another name"),
    ):
        (tmp_path / "a.jsonl").write_text(fine + bad, "utf-8")
        with pytest.raises(DataError, match=re.escape(found)) as error:
            read(tmp_path / "a.jsonl", text="text", label="label")
        assert str(error.value).isprintable()
