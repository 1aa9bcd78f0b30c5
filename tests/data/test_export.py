import base64
import datetime as dt
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tracemend.data import Labelled, read, write
from tracemend.data.schema import uids
from tracemend.errors import DataError

# Any character of UTF-8 text but NUL, which marks a file as binary.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20).filter(str.strip)
CELL = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"]),
    st.lists(st.tuples(TEXT, TEXT, CELL), min_size=2, max_size=8, unique_by=lambda row: row[0]),
)
def test_round_trip(tmp_path_factory, ending, rows):
    texts, replies, cells = zip(*rows, strict=True)
    labels = ["bad" if i % 2 else "good, mostly" for i in range(len(rows))]
    truth = labels[::-1]
    extra = pd.DataFrame({"note": pd.Series(cells, dtype=object)})
    data = Labelled.make(texts, labels, replies=replies, truth=truth, extra=extra)
    path = write(data, tmp_path_factory.mktemp("out") / f"data{ending}")
    back = read(path, text="text", reply="reply", label="label", truth="truth")
    assert back.fingerprint == data.fingerprint
    assert back.pairs == data.pairs
    assert list(back.frame["truth"]) == truth
    if "note" in back.frame:
        assert [None if pd.isna(c) else c for c in back.frame["note"]] == list(cells)


@given(st.lists(TEXT, min_size=2, max_size=10), st.randoms())
def test_uid_is_independent_of_the_label(texts, random):
    one = Labelled.make(texts, ["a"] * len(texts))
    other = Labelled.make(texts, [random.choice("ab") for _ in texts])
    assert one.uid == other.uid == uids(texts, [None] * len(texts))
    assert len(set(one.uid)) == len(texts)


def test_names_and_empty_columns(tmp_path):
    data = Labelled.make(["a", "b"], ["0", "1"])
    path = write(data, tmp_path / "deep" / "out.csv", names={"text": "comment", "label": "toxic"})
    assert path.read_text() == f"uid,comment,toxic\n{data.uid[0]},a,0\n{data.uid[1]},b,1\n"
    with pytest.raises(DataError, match="two columns named 'text'"):
        write(data, tmp_path / "out.csv", names={"label": "text"})
    with pytest.raises(DataError, match=r"'.xlsx'; known are .csv"):
        write(data, tmp_path / "out.xlsx")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = write(Labelled.make(["a", "b"], ["0", "1"]), tmp_path / "out.parquet")
    before = path.read_bytes()
    odd = Labelled.make(["a", "b"], ["0", "1"], extra=pd.DataFrame({"odd": [object(), object()]}))
    with pytest.raises(DataError, match="cannot hold"):
        write(odd, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


NAMES = [
    f"{before}{name}" for before in ("", "original_", "original_original_") for name in ("text", "label", "uid", "x")
]


@given(st.lists(st.sampled_from(NAMES), unique=True, min_size=2, max_size=7), st.sampled_from(NAMES))
def test_a_users_columns_come_back_under_their_own_names(tmp_path_factory, own, label):
    """Whatever they are called, and whichever is the label's; of two named ``uid`` ours keeps the name."""
    texts, label = own[0], label if label not in own else own[1]
    assume("uid" not in (texts, label))
    rest = [name for name in own if name not in (texts, label)]
    cells = {texts: ["a", "b"], label: ["p", "q"]} | {name: ["1", f"of {name}"] for name in rest}
    path = tmp_path_factory.mktemp("own") / "a.csv"
    data = read(pd.DataFrame(cells), text=texts, label=label)
    back = pd.read_csv(write(data, path, names={"text": texts, "label": label}), dtype=str)
    assert list(back.columns[:3]) == ["uid", texts, label] and back["uid"].tolist() == data.uid
    assert back[texts].tolist() == ["a", "b"] and back[label].tolist() == ["p", "q"]
    for name in rest:
        if name != "uid":
            assert back[name].tolist() == ["1", f"of {name}"]
    if "uid" in rest:
        (moved,) = set(back.columns) - {"uid", texts, label, *rest}
        assert moved.endswith("original_uid") and back[moved].tolist() == ["1", "of uid"]


def test_a_users_column_keeps_another_name_where_its_own_is_needed(tmp_path):
    frame = pd.DataFrame({"text": ["a", "b"], "toxic": ["x", "y"], "uid": ["7", "8"], "label": ["p", "q"]})
    path = write(read(frame, text="text", label="toxic"), tmp_path / "a.csv")
    back = pd.read_csv(path, dtype=str)
    assert list(back.columns) == ["uid", "text", "label", "original_uid", "original_label"]
    assert list(back["original_uid"]) == ["7", "8"] and list(back["label"]) == ["x", "y"]


def test_groups_in_a_column_of_ids_are_exported_as_groups(tmp_path):
    frame = pd.DataFrame({"text": ["a", "b"], "toxic": ["x", "y"], "uid": ["ann", "bob"]})
    data = read(frame, text="text", label="toxic", group="uid")
    back = pd.read_csv(write(data, tmp_path / "a.csv", names={"group": "uid", "label": "toxic"}), dtype=str)
    assert list(back.columns) == ["uid", "text", "toxic", "group"] and list(back["group"]) == ["ann", "bob"]


ODD: dict[str, list[Any]] = {
    "one key or another": [{"s": 1}, {"t": 2}, None],
    "an object beside text": [{"s": 1}, "high", None],
    "no keys": [{}, {}, {}],
    "numbers beside text": [1, "x", 2**63],
    "larger than any column's": [2**70, 1, None],
    "whole beside fractions": [[1, 0.5], [2], None],
    "infinities": [float("-inf"), 0.5, float("inf")],
    "infinities within": [[float("-inf")], [float("inf"), 1.0], []],
    "bytes": [b"\x00\xff", b"", None],
    "bytes within": [{"image": b"\x00\xff"}, {"image": b"x"}, {"image": None}],
    "sets": [{"a"}, {"b"}, set()],
    "a day beside a time": [dt.date(2024, 1, 2), dt.datetime(2024, 1, 2, 3), None],
}


def turned_back(cell: Any, like: Any) -> Any:
    """What was written of a cell, in the form of the cell itself."""
    if isinstance(like, bytes) and isinstance(cell, str):
        return base64.b64decode(cell)
    if isinstance(like, float) and isinstance(cell, str):
        return float(cell)
    if isinstance(like, dict):
        return {name: turned_back(cell[name], value) for name, value in like.items()}
    if isinstance(like, list | set):
        return type(like)(turned_back(a, b) for a, b in zip(cell, like, strict=True))
    return type(like).fromisoformat(cell) if isinstance(like, dt.date) and isinstance(cell, str) else cell


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_no_further_column_stops_an_export_or_loses_anything(ending, name, tmp_path):
    cells = ODD[name]
    extra = pd.DataFrame({"riding": pd.Series(cells, dtype=object)})
    path = write(Labelled.make(["a", "b", "c"], ["0", "1", "0"], extra=extra), tmp_path / f"out{ending}")
    if ending in (".csv", ".tsv"):
        assert len(pd.read_csv(path, sep="\t" if ending == ".tsv" else ",")) == 3
        return
    if ending == ".jsonl":
        found = [json.loads(line)["riding"] for line in path.read_text("utf-8").splitlines()]
    else:
        found = list(pd.read_parquet(path)["riding"])
        as_json = name not in ("infinities", "bytes", "bytes within", "infinities within", "sets")
        found = [json.loads(cell) if as_json and isinstance(cell, str) else cell for cell in found]
        found = [cell.tolist() if isinstance(cell, np.ndarray) else cell for cell in found]
    back = [None if cell is None or cell != cell else turned_back(cell, like)
            for cell, like in zip(found, cells, strict=True)]  # fmt: skip
    assert back == cells


def test_parquet_keeps_lists_and_objects_that_it_gives_back(tmp_path):
    extra = pd.DataFrame({"tags": [["p", "q"], []], "meta": [{"s": 1}, {"s": 2}], "many": [np.arange(3), np.arange(2)]})
    back = pd.read_parquet(write(Labelled.make(["a", "b"], ["0", "1"], extra=extra), tmp_path / "out.parquet"))
    assert [list(cell) for cell in back["tags"]] == [["p", "q"], []] and list(back["meta"]) == [{"s": 1}, {"s": 2}]
    assert [list(cell) for cell in back["many"]] == [[0, 1, 2], [0, 1]]
