import gzip
import json
import pickle
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tracemend.data import Labelled, read, read_texts
from tracemend.data.tables import table_from_file
from tracemend.errors import DataError
from tracemend.progress import Progress

CSV = "comment,toxic,author\nyou rock,0,ann\ngo away,1,bob\nfine,0,\n"


def take(source, **more):
    return read(source, text="comment", label="toxic", **more)


def refused(source, *words, **more):
    with pytest.raises(DataError) as error:
        take(source, **more)
    message = str(error.value)
    for word in words:
        assert word in message, message
    return message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", CSV),
        ("a.csv", "\ufeff" + CSV),
        ("a.csv", CSV.replace("\n", "\r\n")),
        ("a.csv", CSV.replace(",", ";")),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("A.CSV", CSV),
        ("a.tsv", CSV.replace(",", "\t")),
        (
            "a.jsonl",
            '{"comment": "you rock", "toxic": 0, "author": "ann"}\n{"comment": "go away", "toxic": 1, "author": "bob"}'
            '\n\n{"comment": "fine", "toxic": 0}\n',
        ),
        (
            "a.jsonl",
            '{"comment": "you rock", "toxic": 0, "author": "ann"}\r{"comment": "go away", "toxic": 1, "author": "bob"}'
            '\r{"comment": "fine", "toxic": 0}\r',
        ),
        (
            "a.json",
            json.dumps(
                [
                    {"comment": "you rock", "toxic": 0, "author": "ann"},
                    {"comment": "go away", "toxic": 1, "author": "bob"},
                    {"comment": "fine", "toxic": 0, "author": None},
                ]
            ),
        ),
    ],
)
def test_text_formats_agree(save, name, content):
    data = take(save(name, content), group="author")
    assert list(data.frame["text"]) == ["you rock", "go away", "fine"]
    assert list(data.frame["label"]) == ["0", "1", "0"]
    assert list(data.frame["group"]) == ["ann", "bob", None]
    assert (data.labels, data.positive) == (("0", "1"), "1")


def test_parquet_frame_and_datasets_agree(tmp_path):
    import datasets

    frame = pd.DataFrame({"comment": ["a b", "c d", "e f"], "toxic": [True, False, True]})
    frame.to_parquet(tmp_path / "a.parquet")
    dataset = datasets.Dataset.from_pandas(frame)
    dataset.save_to_disk(str(tmp_path / "folder"))
    for source in (frame, tmp_path / "a.parquet", dataset, tmp_path / "folder"):
        data = take(source)
        assert list(data.frame["label"]) == ["True", "False", "True"]
        assert data.uid == take(frame).uid
    named = dataset.map(lambda row: {"toxic": int(row["toxic"])}).cast_column(
        "toxic", datasets.ClassLabel(names=["fine", "toxic"])
    )
    assert list(take(named).frame["label"]) == ["toxic", "fine", "toxic"]
    datasets.DatasetDict({"train": dataset}).save_to_disk(str(tmp_path / "dict"))
    refused(tmp_path / "dict", "several parts", "train")


@pytest.mark.parametrize(
    ("values", "names"),
    [([0, 1], ["0", "1"]), ([0.0, 1.0], ["0", "1"]), ([True, False], ["True", "False"]), ([" x", "y "], ["x", "y"]),
     ([Decimal(0), Decimal("1.00")], ["0", "1"])],
)  # fmt: skip
def test_labels_become_strings(values, names):
    assert list(take(pd.DataFrame({"comment": ["a", "b"], "toxic": values})).frame["label"]) == names


def test_cells_are_not_interpreted(save):
    data = take(save("a.csv", "comment,toxic,code\nNA,none,007\nnull,some,\n"))
    assert list(data.frame["text"]) == ["NA", "null"]
    assert list(data.frame["label"]) == ["none", "some"]
    assert list(data.frame["code"]) == ["007", None]


def test_reply_truth_and_clashing_columns(save):
    path = save("a.csv", "comment,answer,toxic,gold,text,uid\nhi,ho,0,0,x,u1\nhi,he,1,0,y,u2\n")
    data = take(path, reply="answer", truth="gold")
    assert data.pairs == [("hi", "ho"), ("hi", "he")]
    assert data.wrong.tolist() == [False, True]
    kept = ["uid", "text", "reply", "label", "group", "truth", "original_text", "original_uid", "source_row"]
    assert list(data.frame.columns) == kept and list(data.frame["original_uid"]) == ["u1", "u2"]


def test_the_ids_of_an_export_are_made_anew(save):
    path = save("a.csv", "uid,comment,toxic\n8f434346648f-0,hi,0\naaaaaaaaaaaa-12,ho,1\n")
    assert list(take(path).frame.columns) == ["uid", "text", "reply", "label", "group", "truth", "source_row"]


def test_an_example_knows_its_row_in_the_file(save):
    path = save("a.csv", 'source_row,comment,toxic\nx,hi,0\ny,,0\nz,"two\nlines",1\n\nw,ho,1\n')
    data = take(path, drop_empty=True)
    assert list(data.frame["source_row"]) == [0, 2, 3] and list(data.frame["original_source_row"]) == ["x", "z", "w"]
    assert data.notes == ("Dropped 1 row without text (line 3).",)


def test_columns_that_a_spreadsheet_left_without_a_name_are_left_out(save):
    assert "toxic" not in take(save("a.csv", "comment,toxic,,\nhi,0,,\nho,1, ,\n")).frame
    with pytest.raises(DataError, match=r"3 columns have no name in line 1. If a title stands there"):
        take(save("b.csv", "Export of May,,,\ncomment,toxic,a,b\nhi,0,1,2\n"))


def test_every_label_that_is_spelt_in_several_ways_is_told_at_once(save):
    with pytest.raises(DataError, match=r"4 labels of .*'Bad' in line 3.*Likewise 'Good' in line 5"):
        take(save("a.csv", "comment,toxic\na,bad\nb,Bad\nc,good\nd,Good\n"))


@pytest.mark.parametrize("cell", ["#N/A", "#REF!", "#DIV/0!"])
def test_an_error_of_a_spreadsheet_is_no_label(save, cell):
    with pytest.raises(DataError, match="line 3"):
        take(save("a.csv", f"comment,toxic\na,bad\nb,{cell}\nc,good\n"))


def test_a_whole_number_is_one_label_however_it_is_written(save):
    assert list(take(save("a.csv", "comment,toxic\na,1\nb,1.0\nc,0.0\n")).frame["label"]) == ["1", "1", "0"]
    both = take(save("b.csv", "comment,toxic\na,1.0\nb,0.0\n"), label_names=["0.0", "1.0"])
    assert both.labels == ("0", "1")
    versions = take(save("c.csv", "comment,toxic\na,1.0.0\nb,v1.0\nc,1.5\n"))
    assert list(versions.frame["label"]) == ["1.0.0", "v1.0", "1.5"]


def test_labels_given_in_python_are_named_as_cells_are():
    made = Labelled.make(
        ["a", "b", "c"], [np.int64(1), True, "x"], truth=[0, None, "x"], label_names=[np.int64(1), True, "x"]
    )
    assert list(made.frame["label"]) == ["1", "True", "x"] and list(made.frame["truth"]) == ["0", None, "x"]
    missing: list[Any] = [None, float("nan"), 0.5, ["x"]]
    for label in missing:
        with pytest.raises(DataError, match="in row 1 is none"):
            Labelled.make(["a", "b"], ["x", label])


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"labels": ["x", "y"]}, "3 texts and 2 labels were given"),
        ({"groups": ["g"]}, "3 texts and 1 groups"),
        ({"truth": list("xyxy")}, "3 texts and 4 truth"),
        ({"replies": []}, "3 texts and 0 replies"),
        ({"texts": ["a", None, "c"]}, "text None in row 1 is no text"),
        ({"texts": [], "labels": []}, "no text was given"),
        ({"positive": 3}, "the positive label '3' is not one of: x, y"),
    ],
)
def test_columns_that_do_not_go_together_are_refused(columns, said):
    with pytest.raises(DataError, match=said):
        Labelled.make(**{"texts": list("abc"), "labels": ["x", "y", "x"], **columns})
    assert Labelled.make(["a", "b"], [0, 1], positive=1).positive == "1"


def test_truth_may_hold_a_label_that_the_labels_lack():
    frame = pd.DataFrame({"comment": ["a", "b"], "toxic": ["x", "y"], "gold": ["x", "z"]})
    assert take(frame, truth="gold").labels == ("x", "y", "z")


def test_tsv_with_lone_quotation_marks(save):
    data = take(save("a.tsv", 'comment\ttoxic\n"well\t0\nhe said "no"\t1\n"quoted ""cell"""\t0\n'))
    assert list(data.frame["text"]) == ['"well', 'he said "no"', 'quoted "cell"']


def test_tsv_with_quoted_line_breaks(save):
    data = take(save("a.tsv", 'comment\ttoxic\n"two\nlines"\t0\nb\t1\n'))
    assert list(data.frame["text"]) == ["two\nlines", "b"]


def test_lines_are_those_of_the_file(save):
    path = save("a.csv", 'comment,toxic\n"two\nlines",0\n\nb,1\n,0\n')
    refused(path, "1 of 3 texts", "line 6", "--drop-empty")


def test_drop_empty_says_so(save):
    heard = []

    class Heard(Progress):
        def note(self, event, **facts):
            heard.append((event, facts))

    data = take(save("a.csv", CSV + "  ,1,\n"), drop_empty=True, progress=Heard())
    assert len(data) == 3
    assert heard == [("dropped empty texts", {"rows": 1, "where": "line 5"})]


def test_missing_labels(save):
    rows = "".join(f"t{i},{'' if i % 2 else i % 4}\n" for i in range(20))
    message = refused(save("a.csv", "comment,toxic\n" + rows), "10 of 20 labels", "lines 3, 5, 7, 9, 11 and 5 more")
    assert "'toxic'" in message
    refused(pd.DataFrame({"comment": ["a", "b", "c"], "toxic": [0, np.nan, 1]}), "row 1 (counted from 0)", "missing")


def test_missing_and_duplicate_columns(save):
    refused(save("a.csv", "coment,toxic\na,0\nb,1\n"), "no column 'comment'", "did you mean 'coment'?")
    refused(save("b.csv", "comment,toxic,toxic\na,0,0\nb,1,1\n"), "more than one column", "'toxic'")
    refused(save("c.jsonl", '{"comment": "a", "toxic": 0, "toxic": 1}\n'), "line 1", "'toxic'")
    refused(pd.DataFrame([["a", 0, 1]], columns=["comment", "toxic", "toxic"]), "more than one column")
    refused(save("d.csv", CSV), "--text and as --group", group="comment")


def test_files_that_are_not_there_or_empty(save, tmp_path):
    save("train.csv", CSV)
    refused(tmp_path / "trian.csv", "there is no file", "did you mean", "train.csv")
    refused(save("a.csv", ""), "is empty")
    refused(save("a.csv.gz", gzip.compress(b"", mtime=0)), "is empty")
    refused(save("b.csv", "comment,toxic\n"), "no rows")
    refused(save("b.xyz", CSV), "'.xyz'", ".parquet")
    refused(save("table", CSV), "has no file ending", ".parquet")
    refused(save("b.txt", CSV), "rename it .csv", ".tsv")
    refused(save("b.xlsx", CSV), "save the sheet as CSV (UTF-8)")
    assert "did you mean" not in refused(tmp_path / "missing.csv", "check the path")
    refused("a text where a path belongs " * 20, "cannot be looked up", "give the path of a file")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"PAR1\x00\x00", "Parquet"),
        ("a.csv", b"PK\x03\x04zip", "spreadsheet"),
        ("a.csv", gzip.compress(CSV.encode(), mtime=0), ".gz"),
        ("a.csv", pickle.dumps({"a": 1}), "pickle"),
        ("a.pkl", pickle.dumps({"a": 1}), "never loaded"),
        ("a.csv", CSV.encode("utf-16"), "iconv -f UTF-16 -t UTF-8 "),
        ("a.csv", b"comment,toxic\na\x00b,1\n", "NUL"),
        ("a.csv", "<!DOCTYPE html><html></html>", "web page"),
        ("a.jsonl", "<html></html>", "web page"),
        ("a.csv", '{"comment": "a", "toxic": 0}\n', ".jsonl"),
        ("a.csv", '[\n {"comment": "a",\n "toxic": 0}]', "JSON"),
        ("a.csv", CSV.replace(",", "\t"), "name it .tsv"),
        ("a.tsv", CSV, "name it .csv"),
        ("a.jsonl", CSV, "line 1 is not JSON"),
        ("a.jsonl", '[{"comment": "a"}]', "must be one JSON object"),
        ("a.json", '{"comment": "a"}\n{"comment": "b"}\n', ".jsonl"),
        ("a.json", '{"comment": ["a"]}', "list of objects"),
        ("a.json", "[" * 100_000, "too deep"),
        ("a.jsonl", '{"comment":' * 100_000, "line 1 holds lists or objects within one another too deep"),
        ("a.csv", "[" * 100_000 + ",x", "no rows"),
        ("a.parquet", CSV, "not a whole Parquet"),
        ("a.csv.gz", CSV, "not a whole gzip"),
        ("a.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:-9], "not a whole gzip"),
        ("a.csv", 'comment,toxic\na,0\n"never closed,1\nb,0\n', "begins in line 3"),
        ("a.csv", "comment,toxic\na,0\nb, c,1\n", "line 3 has 3 cells, the header has 2"),
    ],
)
def test_not_what_the_ending_says(save, name, content, words):
    refused(save(name, content), words)


def test_wrong_encoding_names_the_byte(save):
    refused(
        save("a.csv", "comment,toxic\nok,1\ncafé,0\n".encode("latin-1")),
        "0xe9",
        "position 22",
        "line 3",
        "a.csv > utf8.csv",
    )
    packed = gzip.compress("comment,toxic\ncafé,0\n".encode("latin-1"), mtime=0)
    refused(save("a.tsv.gz", packed), "gzip -dc", "a.tsv.gz | iconv -f WINDOWS-1252 -t UTF-8 > utf8.tsv")


def test_labels_and_texts_that_cannot_be_used(save):
    refused(save("a.csv", "comment,toxic\na,1\nb,1\n"), "all 2 labels", "'1'")
    refused(save("b.csv", "comment,toxic\na,1\na,0\n"), "all 2 texts", "the same")
    refused(save("c.csv", "comment,toxic\na,Safe\nb,Unsafee\n"), "line 3", "'Unsafe'?", label_names=["Safe", "Unsafe"])
    refused(save("d.csv", "comment,toxic\na,Safe\nb,Unsafe\n"), "positive label", positive="bad")
    refused(pd.DataFrame({"comment": ["a", "b"], "toxic": [0.2, 0.9]}), "row 0", "threshold")
    refused(pd.DataFrame({"comment": ["a", "b"], "toxic": [Decimal("0.5"), Decimal(1)]}), "row 0", "threshold")
    refused(pd.DataFrame({"comment": [1, 2], "toxic": [0, 1]}), "not text", "row")
    refused(save("e.jsonl", '{"comment": "\\ud83d", "toxic": 0}\n{"comment": "b", "toxic": 1}\n'), "half a character")
    lines = '{"comment": "a", "toxic": "0", "note": "\\ud83d"}\n{"comment": "b", "toxic": "1"}\n'
    refused(save("note.jsonl", lines), "column 'note'", "half a character")
    lines = '{"comment": "a", "toxic": "\\ud83d"}\n{"comment": "b", "toxic": "1"}\n'
    refused(save("toxic.jsonl", lines), "column 'toxic'", "half a character")
    refused(pd.DataFrame({"comment": list("abcdefghijklmnopqrst"), "toxic": range(20)}), "20 different labels")
    refused(save("f.csv", "comment,toxic,author\na,1,\nb,0,\n"), "group column", group="author")


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (["Bad", "bad"], ["'Bad' in row 0", "'bad' in row 1", "label_names"]),
        (["bad", "bad\u200b"], [r"'bad\u200b' in row 1", "invisible characters"]),
        (["not  bad", "not\u00a0bad"], [r"'not\xa0bad'"]),
        (["sch\u00f6n", "scho\u0308n"], [r"'sch\xf6n'", r"'scho\u0308n'"]),
        (["STRASSE", "straße"], ["'STRASSE'", "'straße'"]),
    ],
)
def test_one_label_in_two_spellings(labels, said):
    frame = pd.DataFrame({"comment": list("abcd"), "toxic": [*labels, "good", "good"]})
    refused(frame, *said)
    assert read(frame, text="comment", label="toxic", label_names=[*labels, "good"]).labels == (*labels, "good")
    clean = frame.assign(toxic=["good", "ill"] * 2, truth=frame["toxic"])
    with pytest.raises(DataError, match="column 'truth'"):
        read(clean, text="comment", label="toxic", truth="truth")


def test_labels_that_only_look_alike_are_different():
    labels = ["not bad", "notbad", "x2", "x²", "+1", "-1"]
    frame = pd.DataFrame({"comment": [f"text {i}" for i in range(12)], "toxic": labels * 2})
    assert set(read(frame, text="comment", label="toxic").labels) == set(labels)


def test_hub_name_that_cannot_be_had():
    refused("nobody/nothing-there", "there is no file", "'nobody/nothing-there'", "network")
    refused("hub:nobody/nothing-there:test", "split 'test'")
    refused("data/nothing.csv", "there is no file")
    refused(3.5, "cannot read a float")
    refused({"train": 1}, "choose one: train")


def test_texts_without_labels(save):
    assert read_texts(save("a.csv", CSV), text="comment") == [("you rock", None), ("go away", None), ("fine", None)]
    assert read_texts(save("a.csv", CSV), text="comment", reply="toxic")[0] == ("you rock", "0")
    with pytest.raises(DataError, match="no column 'x'"):
        read_texts(save("a.csv", CSV), text="x")


@pytest.mark.parametrize(
    ("text", "empty"),
    [
        ("comment;toxic\n{}", 3),
        ("comment|toxic\n{}", 3),
        ("sep=;\ncomment;toxic\n{}", 4),
        ("sep=; \ncomment;toxic\n{}", 4),
        ('"sep=|"\r\ncomment|toxic\n{}', 4),
        ("\n\nsep=|\ncomment|toxic\n{}", 6),
        ("SEP=\t\ncomment\ttoxic\n{}", 4),
    ],
)
def test_other_separators_than_a_comma(save, text, empty):
    sign = next(sign for sign in ";|\t" if f"comment{sign}toxic" in text)
    path = save("a.csv", text.format(f"a, b{sign}0\n{sign}1\n"))
    refused(path, f"line {empty}", "--drop-empty")
    data = take(save("b.csv", text.format(f"a, b{sign}0\nc{sign}1\n")))
    assert list(data.frame["text"]) == ["a, b", "c"] and data.labels == ("0", "1")


@pytest.mark.parametrize(
    ("header", "rows", "column"),
    [
        ('"text, english";label', '"hi"; a\nyo, you;b\n', "text, english"),
        ("Kommentar, Text;label", "hi;a\nyo;b\n", "Kommentar, Text"),
        ("Kommentar, Text;label", "hi, you;a\nyo;b\n", "Kommentar, Text"),
        ('"one\ntwo";label', "hi;a\nyo;b\n", "one\ntwo"),
        ("\n\ntext;label", "hi, you;a\n\nyo;b\n", "text"),
        ("\r\n\r\ntext|label", "hi, you|a\r\nyo|b\r\n", "text"),
        ("text,label;x", "hi,a;1\nyo,b;1\n", "text"),  # either would do
        ("text,note;x,label", "hi,q,a\nyo;,r,b\n", "text"),
    ],
)
def test_the_separator_is_the_one_that_the_rows_agree_with(save, header, rows, column):
    """Not any that stands somewhere in the first line."""
    path = save("a.csv", f"{header}\n{rows}")
    labels = [str(name) for name in table_from_file(path).frame if str(name).startswith("label")]
    assert len(read(path, text=column, label=labels[0])) == 2


@pytest.mark.parametrize(("name", "sign"), [("a.csv", ";"), ("a.csv", ","), ("a.tsv", "\t")])
def test_a_carriage_return_may_end_a_line(save, name, sign):
    table = table_from_file(save(name, f'text{sign}label\r"hi, you"{sign}a\ryo{sign}b\r'))
    assert table.frame.to_numpy().tolist() == [["hi, you", "a"], ["yo", "b"]] and list(table.places) == [2, 3]
    assert list(table_from_file(save(f"b{name}", f"sep={sign}\rtext{sign}label\ryo{sign}b\r")).frame["label"]) == ["b"]


def test_empty_lines_may_stand_before_the_header_of_a_tsv(save):
    table = table_from_file(save("a.tsv", '\n\ntext\tlabel\n"so" they said\ta\nyo, you\tb\n'))
    assert list(table.frame["text"]) == ['"so" they said', "yo, you"] and list(table.places) == [4, 5]


def test_a_tsv_may_say_its_separator(save):
    assert list(take(save("a.tsv", "sep=\t\ncomment\ttoxic\na\t0\nb\t1\n")).frame["text"]) == ["a", "b"]


@pytest.mark.parametrize("line", ["sep=", "sep=;;", "sep=:", '"sep=x"'])
def test_a_separator_that_is_none_is_named(save, line):
    refused(save("a.csv", f"{line}\ncomment;toxic\na;0\n"), "names no separator")


@pytest.mark.parametrize(("names", "read_as"), [(["0", "1", "1.0"], ("0", "1")), ([1.0, 0], ("1", "0"))])
def test_label_names_are_read_as_cells_are(save, names, read_as):
    path = save("a.csv", "comment,toxic\na,1.0\nb,0\n")
    assert take(path, label_names=names, positive="1.0").labels == read_as
    assert take(path, label_names=names, positive="1.0").positive == "1"
    with pytest.raises(DataError, match="label_names holds ''"):
        take(path, label_names=["0", "1", ""])


def test_a_column_alone_is_not_parted(save):
    refused(save("a.csv", "comment\nhi; you\nyo, yo\n"), "line 3 has 2 cells")


def test_a_separator_alone_is_no_table(save):
    refused(save("a.csv", "sep=;\n"), "no header and no row")
