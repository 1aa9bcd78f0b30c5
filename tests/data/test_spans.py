from __future__ import annotations

import json

import pytest

from tracemend.data.spans import entity_spans, read_spans
from tracemend.data.treebanks import Sentence, Treebank
from tracemend.errors import DataError


def line(*targets, text="the cat saw a dog", **more):
    return json.dumps({"text": text, "targets": list(targets), **more})


def test_one_and_two_spans_are_read(save):
    one = {"span1": [0, 2], "label": "animal"}
    two = {"span1": [1, 2], "span2": [4, 5], "label": "agent"}
    found = read_spans(save("a.jsonl", line(one, {"span1": [3, 5], "label": "animal"}, part="dev") + "\n"))
    assert (found.first, found.second, found.of("dev").label) == (((0, 2), (3, 5)), None, ("animal", "animal"))
    found = read_spans(save("b.jsonl", line(two) + "\n" + line(two, text="x y z u v w")))
    assert found.second == ((4, 5), (4, 5)) and found.sentence == (0, 1)
    assert found.take([1]).sentence == (1,)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (line({"span1": [2, 2], "label": "x"}), r"span \[2, 2\)"),
        (line({"span1": [3, 9], "label": "x"}), "5 words"),
        (line({"span1": [0, 1], "label": "x"}, {"span1": [0, 1], "span2": [1, 2], "label": "x"}), "needs both"),
        (line({"span1": [0, 1]}), "line 1"),
        (line({"span1": [0, 1], "label": 3}), "not a string"),
        ("[1]", "cannot be read"),
        ("", "no labelled span"),
    ],
)
def test_bad_spans_are_refused(save, content, word):
    with pytest.raises(DataError, match=word):
        read_spans(save("a.jsonl", content))


def test_entities_are_the_spans_of_bio_tags():
    tags = ("B-PER", "I-PER", "B-PER", "O", "I-LOC", "I-ORG", "S-PER", "E-PER")
    sentence = Sentence(words=tuple("abcdefgh"), tags={"ner": tags}, id="s", part="test")
    found = entity_spans(Treebank(sentences=(sentence,)))
    spans = list(zip(found.first, found.label, strict=True))
    assert spans[:4] == [((0, 2), "PER"), ((2, 3), "PER"), ((4, 5), "LOC"), ((5, 6), "ORG")]
    assert found.part == ("test",)
    with pytest.raises(DataError, match="no tags"):
        entity_spans(Treebank(sentences=(sentence,)), tag="other")
