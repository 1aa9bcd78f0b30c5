"""Tasks of spans: no wording, fact or document crosses the parts, and spans are where they say."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend.data import (
    Fact,
    Facts,
    Sentence,
    Treebank,
    coreference_spans,
    pos_spans,
    question_spans,
    read_evidence,
    relation_spans,
)
from tracemend.data.span_tasks import _passages
from tracemend.errors import DataError

PATTERNS = {
    "born": ("[X] was born in [Y].", "[X], who is from [Y]", "[Y] is the home of [X]", "[Y]'s child [X]"),
    "plays": ("[X] plays the [Y].", "[X] is a [Y] player", "the [Y] that [X] plays"),
    "few": ("[X] is [Y]", "[X] was [Y]"),
}


def facts(n=20):
    made = [Fact(r, f"Ann {r}{i}", f"{r} place {i}") for r in PATTERNS for i in range(n)]
    return Facts(facts=tuple(made), patterns=PATTERNS)


def test_relations_keep_wordings_and_facts_apart():
    found = relation_spans(facts(), seed=3)
    assert set(found.label) == {"born", "plays"}
    wordings: dict[str, set[str]] = {}
    subjects: dict[str, set[str]] = {}
    for sentence, first, second in zip(found.sentence, found.first, found.second, strict=True):
        words, part = found.words[sentence], found.part[sentence]
        subject, place = (words[begin:end] for begin, end in (first, second))
        assert subject[0] == "Ann" and place[1] == "place" and subject[1].startswith(found.label[sentence])
        rest = tuple(
            word for i, word in enumerate(words) if not (first[0] <= i < first[1] or second[0] <= i < second[1])
        )
        wordings.setdefault(part, set()).add(rest)
        subjects.setdefault(part, set()).add(subject)
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not wordings[one] & wordings[other] and not subjects[one] & subjects[other]
    assert len(subjects["test"]) == 8 and len(subjects["dev"]) == 4
    assert relation_spans(facts(), per_relation=5).sentence == tuple(range(10))
    assert (
        relation_spans(facts(), seed=3).fingerprint == found.fingerprint != relation_spans(facts(), seed=4).fingerprint
    )


def test_relations_without_a_wording_for_each_part_are_refused():
    with pytest.raises(DataError, match="fewer than two relations with 3 patterns"):
        relation_spans(facts().of(["born", "few"]))


def asked(words, ints=(), upos=None, **more):
    words = tuple(words.split())
    feats = tuple("PronType=Int" if i in ints else "" for i in range(len(words)))
    return Sentence(words=words, tags={"feats": feats, "upos": upos or ("X",) * len(words)}, id=words[0], **more)


def test_questions_are_labelled_by_their_word_and_the_span_lies_behind_it():
    bank = Treebank(
        sentences=(
            asked("Where is it ?", (0,), part="test"),
            asked("And how many are there ?", (1,)),
            asked("How come you left ?", (0,)),
            asked("How do you do ?", (0,)),
            asked("Is it ?", upos=("AUX", "PRON", "PUNCT")),
            asked("You know ?", upos=("PRON", "VERB", "PUNCT")),
            asked("I know who you are .", (2,)),
            asked("why ?", (0,)),
        )
    )
    found = question_spans(bank)
    assert found.label == ("place", "quantity", "reason", "manner", "yes-no")
    assert found.first == ((1, 4), (3, 6), (2, 5), (1, 5), (1, 3))
    assert found.of("test").label == ("place",)
    assert {begin for begin, _ in question_spans(bank, whole=True).first} == {0}


def test_treebanks_without_features_or_questions_are_refused():
    with pytest.raises(DataError, match="no features"):
        question_spans(Treebank(sentences=(Sentence(words=("why", "not", "?"), id="s"),)))
    with pytest.raises(DataError, match="no question"):
        question_spans(Treebank(sentences=(asked("You know ."),)))


def document(number, marked=((2, 3), (7, 8))):
    text = "\n".join(f"doc{number} s{i} z" for i in range(4))
    return json.dumps({"text": text, "rationale_token_spans": [list(span) for span in marked]})


def test_evidence_is_balanced_and_documents_do_not_cross_parts(save):
    path = save("a.jsonl", "\n".join(document(i) for i in range(20)))
    found = read_evidence(path, longest=7)
    assert len(found) == 80 and sorted(found.label).count("evidence") == 40
    where: dict[str, set[str]] = {}
    for sentence, (begin, end), label in zip(found.sentence, found.first, found.label, strict=True):
        words = found.words[sentence]
        assert len(words) <= 7 and end - begin == 3
        assert (label == "evidence") == (words[begin + 1] in ("s0", "s2"))
        where.setdefault(words[begin], set()).add(found.part[sentence])
    assert len(where) == 20 and all(len(parts) == 1 for parts in where.values())
    assert {part for parts in where.values() for part in parts} == {"train", "dev", "test"}
    assert len(read_evidence(path, documents=10)) == 40
    empty = save("b.jsonl", "\n".join(document(i, ((2, 3), (7, 8), (5, 5))) for i in range(20)))
    assert sorted(read_evidence(empty).label) == sorted(found.label)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (document(1), "1 documents; train, dev and test need one each"),
        ("\n".join([document(1)] * 2 + [document(2, ((5, 99),))]), r"span \[5, 99\) in a text of 12 words"),
        ('{"text": "a"}\n' * 3, "rationale_token_spans"),
        ("[]\n" * 3, "cannot be read"),
        ("\n".join([document(1, ())] * 3), "no labelled span"),
    ],
)
def test_evidence_that_cannot_be_read_is_refused(save, content, said):
    with pytest.raises(DataError, match=said):
        read_evidence(save("a.jsonl", content))
    with pytest.raises(DataError, match="no file"):
        read_evidence("nowhere.jsonl")


@given(st.lists(st.integers(0, 30), max_size=30), st.integers(1, 25))
def test_passages_hold_each_sentence_that_fits_once_in_order(lengths, longest):
    found = _passages(lengths, longest)
    assert [i for passage in found for i in passage] == [i for i, n in enumerate(lengths) if 0 < n <= longest]
    assert all(sum(lengths[i] for i in passage) <= longest for passage in found)


def test_a_question_of_a_part_stays_there():
    bank = Treebank(sentences=(replace(asked("Where is it ?", (0,)), part="dev"),))
    assert question_spans(bank).part == ("dev",)


def gum(words, misc, document="d", i=0):
    cells = tuple(f"Entity={m}" if m else "" for m in misc)
    return Sentence(words=tuple(words), tags={"misc": cells}, id=f"s{i}", document=document, part="test")


def test_pairs_of_mentions_are_of_one_cluster_as_often_as_not():
    first = gum(["Ann", "met", "Bob"], ["(1-person)", "", "(2-person)"])
    second = gum(["She", "left", "him"], ["(1-person)", "", "(2-person)"], i=1)
    found = coreference_spans(Treebank(sentences=(first, second)))
    assert found.words == (("Ann", "met", "Bob", "She", "left", "him"),) and found.part == ("test",)
    rows = sorted(zip(found.first, found.second or (), found.label, strict=True))
    same = [row for row in rows if row[2] == "same"]
    assert same == [((0, 1), (3, 4), "same"), ((2, 3), (5, 6), "same")]
    assert [row[:2] for row in rows if row[1] == (3, 4) and row[2] == "other"] == [((2, 3), (3, 4))]
    assert len(rows) == 4 and found.document == ("d",)
    apart = replace(second, document="e")
    with pytest.raises(DataError, match="no mentions of one cluster"):
        coreference_spans(Treebank(sentences=(first, apart)))


def test_parts_of_speech_are_spans_of_a_word():
    sentence = Sentence(words=("a", "b", "c"), tags={"upos": ("DET", "", "NOUN")}, id="s")
    found = pos_spans(Treebank(sentences=(sentence,)))
    assert (found.first, found.label) == (((0, 1), (2, 3)), ("DET", "NOUN"))
    with pytest.raises(DataError, match="no word"):
        pos_spans(Treebank(sentences=(Sentence(words=("a",), id="s"),)))
