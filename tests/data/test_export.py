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
    odd = Labelled.make(["a", "b"], ["0", "1"], extra=pd.DataFrame({"mixed": [1, "x"]}))
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
