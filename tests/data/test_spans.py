from __future__ import annotations

import json

import pytest

from tracemend.data.reference import available, reference_folder
from tracemend.data.spans import dependency_spans, entity_spans, gum_entities, read_spans
from tracemend.data.treebanks import Sentence, Treebank, read_conllu
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
        (line({"span1": [0.9, 2.7], "label": "x"}), "whole numbers"),
        (line({"span1": [0, 1], "label": "x"}, part="devtest"), "part 'devtest'"),
        (json.dumps({"words": "the cat", "targets": []}), "list of strings"),
        (b'{"text": "caf\xe9", "targets": []}', "not UTF-8"),
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


def test_dependencies_are_pairs_of_a_word_and_its_head():
    tags = {"deprel": ("nsubj:pass", "root", "obj")}
    bank = Treebank(sentences=(Sentence(words=("a", "b", "c"), tags=tags, heads=(1, -1, 1), id="s", part="dev"),))
    found = dependency_spans(bank)
    assert (found.first, found.second, found.label) == (((0, 1), (2, 3)), ((1, 2), (1, 2)), ("nsubj", "obj"))
    with pytest.raises(DataError, match="no dependency tree"):
        dependency_spans(Treebank(sentences=(Sentence(words=("a",), id="s"),)))


def test_a_split_keeps_sentences_whole(save):
    target = {"span1": [0, 1], "label": "x"}
    found = read_spans(save("a.jsonl", "\n".join(line(target, target, text=f"w{i} x") for i in range(20))))
    parts = found.split(seed=1)
    of = {part: {parts[part].sentence[i] for i in range(len(parts[part]))} for part in parts}
    assert not of["train"] & of["test"] and not of["train"] & of["dev"] and not of["dev"] & of["test"]
    assert sum(map(len, parts.values())) == 40 and len(of["test"]) == 4 and len(of["dev"]) == 2
    given = read_spans(save("b.jsonl", "\n".join(line(target, part=p) for p in ("train", "dev", "test", "test"))))
    assert [len(given.split()[p]) for p in ("train", "dev", "test")] == [1, 1, 2]


def many(save, documents, parts=()):
    target = {"span1": [0, 1], "label": "x"}
    parts = parts or [""] * len(documents)
    return read_spans(
        save("m.jsonl", "\n".join(line(target, document=d, part=p) for d, p in zip(documents, parts, strict=True)))
    )


@pytest.mark.parametrize("seed", range(4))
def test_no_document_crosses_a_split(save, seed):
    found = many(save, [f"d{i // 5}" for i in range(60)])
    parts = found.split(seed=seed)
    of = {part: {found.document[i] for i in own.sentence} for part, own in parts.items()}
    assert all(of.values()) and sum(map(len, of.values())) == 12
    assert sum(map(len, parts.values())) == 60


def test_a_published_dev_serves_as_train_beside_a_published_test(save):
    found = many(save, [f"d{i}" for i in range(12)], ["dev"] * 8 + ["test"] * 4)
    parts = found.split()
    assert parts["test"].sentence == (8, 9, 10, 11)
    assert len(parts["train"]) + len(parts["dev"]) == 8 and len(parts["dev"]) >= 1


def test_one_document_and_a_document_in_two_parts_are_refused(save):
    with pytest.raises(DataError, match="1 document to divide"):
        many(save, ["d"] * 9).split()
    with pytest.raises(DataError, match="lies in two parts"):
        many(save, ["a", "b", "c", "a"], ["train", "dev", "test", "test"]).split()


@pytest.mark.skipif(not available("gum"), reason="TRACEMEND_DATA names no folder with gum")
def test_gum_is_split_by_document():
    found = gum_entities(read_conllu(reference_folder("gum") / "test.conllu"))
    of = {part: {found.document[i] for i in own.sentence} for part, own in found.split().items()}
    assert all(of.values()) and sum(map(len, of.values())) == 24


def test_mentions_as_gum_writes_them():
    misc = ("Entity=(1-person-new(2-place-giv-x)", "SpaceAfter=No|Entity=(3-event-new", "Entity=3)1)", "")
    sentence = Sentence(words=("a", "b", "c", "d"), tags={"misc": misc}, id="s", part="train")
    found = gum_entities(Treebank(sentences=(sentence,)))
    assert sorted(zip(found.first, found.label, strict=True)) == [
        ((0, 1), "place"),
        ((0, 3), "person"),
        ((1, 3), "event"),
    ]
    for wrong, word in (("Entity=(1-person", "does not close"), ("Entity=1)", "not open")):
        with pytest.raises(DataError, match=word):
            gum_entities(Treebank(sentences=(Sentence(words=("a",), tags={"misc": (wrong,)}, id="s"),)))
    with pytest.raises(DataError, match="no labelled span"):
        gum_entities(Treebank(sentences=(Sentence(words=("a",), id="s"),)))


def test_parts_have_their_usual_names_and_a_file_is_of_one(save, tmp_path):
    target = {"span1": [0, 1], "label": "x"}
    rows = [line(target, part=part) for part in ("train", " Test", "validation", "val")]
    assert read_spans(save("a.jsonl", "\n".join(rows))).part == ("train", "test", "dev", "dev")
    folder = tmp_path / "parts"
    folder.mkdir()
    for name in ("train", "validation", "devtest", "test"):
        (folder / f"{name}.jsonl").write_text(line(target, text=f"{name} text") + "\n", "utf-8")
    found = read_spans(folder)
    assert {words[0]: part for words, part in zip(found.words, found.part, strict=True)} == {
        "train": "train", "validation": "dev", "test": "test"
    }  # fmt: skip
