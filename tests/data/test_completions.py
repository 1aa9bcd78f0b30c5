"""Prompts with completions come in as they are, bad rows are named, and noise made on purpose is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.data import Completions, read_completions
from tracemend.errors import DataError
from tracemend.progress import Progress

CSV = "ask,answer,bad,who\nName a colour.,Red.,no,ann\n2 + 2?,5,yes,bob\nCapital of Italy?,Rome,,\n"


def read(source, **more):
    return read_completions(source, text="ask", completion="answer", **more)


def test_formats_agree(save, tmp_path):
    data = read(save("a.csv", CSV), corrupted="bad", group="who")
    frame = pd.DataFrame(
        {
            "ask": ["Name a colour.", "2 + 2?", "Capital of Italy?"],
            "answer": ["Red.", "5", "Rome"],
            "bad": [False, True, None],
            "who": ["ann", "bob", None],
        }
    )
    frame.to_parquet(tmp_path / "a.parquet")
    lines = save("a.jsonl", frame.to_json(orient="records", lines=True))
    for other in (frame, tmp_path / "a.parquet", lines):
        found = read(other, corrupted="bad", group="who")
        assert found.pairs == data.pairs and found.fingerprint == data.fingerprint
    assert data.pairs[1] == ("2 + 2?", "5")
    assert list(data.frame["corrupted"]) == [False, True, None]
    assert list(data.frame["group"]) == ["ann", "bob", None]
    assert data.labels == () and data.y.tolist() == [0, 0, 0]


def test_texts_stand_alone_and_other_columns_ride_along(save):
    data = read_completions(save("a.csv", "text,corrupted,note\none two,maybe,x\nthree,no,y\n"), text="text")
    assert data.pairs == [("one two", None), ("three", None)]
    assert not data.has_truth
    assert list(data.frame["original_corrupted"]) == ["maybe", "no"]
    assert list(data.frame["note"]) == ["x", "y"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("ask,answer\na,b\nc,\nd,  \n", ["2 of 3", "lines 3, 4"]),
        ("ask,reply\na,b\n", ["no column 'answer'", "--completion"]),
        ("ask,answer\na,same\nb,same\n", ["all 2 completions are the same", "'same'"]),
        ("ask,answer\nsame,a\nsame,b\n", ["all 2 prompts are the same", "leave the completions out"]),
    ],
)
def test_bad_tables_are_named(save, content, words):
    with pytest.raises(DataError) as error:
        read(save("a.csv", content))
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_flag_is_true_or_false(save):
    with pytest.raises(DataError, match=r"holds 'perhaps' in line 3.*neither true nor false"):
        read(save("a.csv", "ask,answer,bad\na,b,1\nc,d,perhaps\n"), corrupted="bad")
    with pytest.raises(DataError, match="given as --text and as --completion"):
        read_completions(save("b.csv", CSV), text="ask", completion="ask")
    with pytest.raises(DataError, match="not known which completions are corrupted"):
        _ = read(save("c.csv", CSV), corrupted="bad").wrong


def test_rows_without_a_completion_are_dropped_when_asked(save):
    heard = []

    class Ear(Progress):
        def note(self, event, **facts):
            heard.append((event, facts["rows"]))

    data = read(save("a.csv", "ask,answer\na,b\nc,\nd,e\n"), drop_empty=True, progress=Ear())
    assert data.pairs == [("a", "b"), ("d", "e")] and heard == [("dropped empty texts", 1)]


def test_columns_of_unequal_length_and_other_cells_are_refused():
    with pytest.raises(DataError, match="2 texts and 1 in the column reply"):
        Completions.make(["a", "b"], ["c"])
    with pytest.raises(DataError, match="completion in row 1 is 3, a int"):
        Completions.make(["a", "b"], pd.Series(["c", 3], dtype=object))
    with pytest.raises(DataError, match=r"1 of 2 completions are empty, the first in row 1"):
        Completions.make(["a", "b"], ["c", " "])


def test_ids_are_of_both_texts_and_stay():
    data = Completions.make(["a", "a", "a", "b"], ["x", "x", "y", "x"])
    hashes = [uid.split("-")[0] for uid in data.uid]
    assert hashes[0] == hashes[1] and len(set(hashes)) == 3 and len(set(data.uid)) == 4
    part = data.take([3, 1])
    assert part.uid == [data.uid[3], data.uid[1]] and part.pairs == [("b", "x"), ("a", "x")]
    assert data.without([data.uid[0]]).uid == data.uid[1:]
    assert part.fingerprint != data.take([1, 3]).fingerprint


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=8, max_size=40), st.floats(0.05, 1), st.integers(0, 5))
def test_swapping_gives_everyone_drawn_another_completion(answers, share, seed):
    if len(set(answers)) == 1:
        return
    data = Completions.make([f"prompt {i}" for i in range(len(answers))], answers)
    try:
        noisy = data.swapped(share, seed=seed)
    except DataError as error:
        assert "so not all of them can be" in str(error)  # noqa: PT017
        return
    drawn = max(2, round(share * len(answers)))
    before, after = np.array(answers), noisy.frame["reply"].to_numpy()
    assert noisy.wrong.sum() == drawn
    assert ((before != after) == noisy.wrong).all()
    assert sorted(before[noisy.wrong]) == sorted(after[noisy.wrong])
    assert list(noisy.frame["text"]) == list(data.frame["text"])
    assert [a == b for a, b in zip(noisy.uid, data.uid, strict=True)] == (~noisy.wrong).tolist()
    assert noisy.fingerprint == data.swapped(share, seed=seed).fingerprint


def test_swapping_needs_completions_that_differ():
    with pytest.raises(DataError, match="have no completions to swap"):
        Completions.make(["a", "b"]).swapped(0.5)
    with pytest.raises(DataError, match=r"share is 1\.5"):
        Completions.make(["a", "b"], ["c", "d"]).swapped(1.5)
    with pytest.raises(DataError, match="3 of the 4 completions drawn are 'x'"):
        Completions.make(list("abcd"), list("xxxy")).swapped(1.0)


def test_swapping_keeps_what_is_known():
    data = Completions.make(list("abcdefghij"), list("klmnopqrst"), corrupted=[True] * 4 + [None] * 6)
    noisy = data.swapped(0.2, seed=1)
    assert noisy.has_truth and noisy.wrong[:4].all() and noisy.wrong.sum() >= 4
