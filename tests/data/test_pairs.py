from __future__ import annotations

import json
from pathlib import Path

import pytest

from tracemend.data.pairs import MinimalPairs, read_pairs
from tracemend.errors import DataError


def test_known_sets_and_two_columns_are_read(save):
    blimp = [{"uid": "u", "phenomenon": "island", "good": f"a {i}", "bad": f"b {i}"} for i in range(3)]
    found = read_pairs(save("blimp.jsonl", "\n".join(map(json.dumps, blimp))))
    assert (found.good[1], found.bad[1], found.phenomenon[1], found.paradigm[1]) == ("a 1", "b 1", "island", "u")
    published = {"sentence_good": "x", "sentence_bad": "y", "linguistics_term": "npi"}
    assert read_pairs(save("p.jsonl", json.dumps(published))).phenomenon == ("npi",)
    two = read_pairs(save("two.csv", "right,wrong\nThe cat sleeps,The cat sleep\n"))
    assert (two.good, two.bad, two.phenomenon) == (("The cat sleeps",), ("The cat sleep",), ("all",))
    named = save("three.csv", "id,r,w\n1,a b,a c\n")
    assert read_pairs(named, good="r", bad="w").bad == ("a c",)


@pytest.mark.parametrize(
    ("good", "bad", "word"),
    [
        (["a", "b"], ["c"], "2 good and 1 bad"),
        ([], [], "no pair"),
        (["a"], ["a"], "same sentence twice"),
        (["a", "b"], ["c", "  "], "pair 2"),
        (["a", None], ["c", "d"], "pair 2"),
    ],
)
def test_bad_pairs_are_refused(good, bad, word):
    with pytest.raises(DataError, match=word):
        MinimalPairs.make(good, bad)


def test_columns_that_are_not_there_are_refused(save):
    three = save("three.csv", "id,r,w\n1,a b,a c\n")
    with pytest.raises(DataError, match="name those"):
        read_pairs(three)
    with pytest.raises(DataError, match=r"no column 'rr'.*did you mean 'r'"):
        read_pairs(three, good="rr", bad="w")
    with pytest.raises(DataError, match="no file"):
        read_pairs("none.csv")


def test_a_sample_takes_of_each_paradigm():
    pairs = MinimalPairs.make(
        [f"g{i}" for i in range(20)], [f"b{i}" for i in range(20)], paradigm=["x"] * 15 + ["y"] * 5
    )
    found = pairs.sample(8, seed=3)
    assert found.paradigm == ("x",) * 8 + ("y",) * 5
    assert found == pairs.sample(8, seed=3) != pairs.sample(8, seed=4)
    assert all(g[1:] == b[1:] for g, b in zip(found.good, found.bad, strict=True))


def test_a_file_is_read_without_the_pairs_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text("good,bad\nshe sings,she sing\nit is,it is\n", encoding="utf-8")
    with pytest.warns(UserWarning, match="1 pairs of .* hold one sentence twice"):
        assert read_pairs(file).good == ("she sings",)
    file.write_text("good,bad\nit is,it is\n", encoding="utf-8")
    with pytest.raises(DataError, match="same sentence twice"):
        read_pairs(file)
