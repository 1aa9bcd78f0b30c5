from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend.data import Sentence, Treebank
from tracemend.errors import ProbeError
from tracemend.probing.tasks import depths, frequent_words, items


def sentence(words, heads, deprel, feats=None, upos=None):
    n = len(words)
    tags = {"deprel": tuple(deprel), "feats": tuple(feats or [""] * n), "upos": tuple(upos or ["NOUN"] * n)}
    return Sentence(words=tuple(words), heads=tuple(heads), tags=tags, id="s", document="d")


EATEN = sentence(
    ["The", "pie", "was", "eaten"],
    [1, 3, 3, -1],
    ["det", "nsubj:pass", "aux:pass", "root"],
    ["", "Number=Sing", "Mood=Ind|Tense=Past|VerbForm=Fin", "Tense=Past|VerbForm=Part"],
    ["DET", "NOUN", "AUX", "VERB"],
)
SEE = sentence(
    ["Dogs", "see", "the", "cat", "the", "dog", "fears"],
    [1, -1, 3, 1, 5, 6, 3],
    ["nsubj", "root", "det", "obj", "det", "nsubj", "acl:relcl"],
    ["Number=Plur", "Tense=Pres|VerbForm=Fin", "", "Number=Sing", "", "Number=Sing", "Tense=Pres|VerbForm=Fin"],
    ["NOUN", "VERB", "DET", "NOUN", "DET", "NOUN", "VERB"],
)
BANK = Treebank(sentences=(EATEN, SEE))


def labels(task, bank=BANK, **more):
    found = items(bank, task, **more)
    return dict(zip(zip(found.sentence.tolist(), found.word.tolist(), strict=True), found.label, strict=True))


def test_tasks_of_words():
    assert labels("upos")[0, 2] == "AUX"
    assert labels("deprel")[0, 1] == "nsubj" and labels("deprel")[1, 6] == "acl"
    assert labels("Number") == {(0, 1): "Sing", (1, 0): "Plur", (1, 3): "Sing", (1, 5): "Sing"}
    assert items(BANK, "upos").form[:2] == ("the", "pie")


def test_tasks_of_sentences():
    assert labels("tense") == {(0, 0): "Past", (1, 0): "Pres"}
    assert labels("voice") == {(0, 0): "passive", (1, 0): "active"}
    assert labels("subject-number") == {(1, 0): "Plur"}
    assert labels("object-number") == {(1, 0): "Sing"}
    assert labels("length") == {(0, 0): "0", (1, 0): "1"}
    assert labels("depth") == {(0, 0): "2", (1, 0): "4"}


def test_neighbours_are_asked_for_where_they_are_frequent():
    assert frequent_words(BANK, 1) == ["the"]
    assert labels("previous-word", known=["the"]) == {(0, 1): "the", (1, 3): "the", (1, 5): "the"}
    assert labels("next-word", known=["the"]) == {(1, 1): "the", (1, 3): "the"}


@given(st.integers(0, 50))
def test_a_shifted_sentence_has_two_neighbours_swapped(seed):
    found = items(BANK, "bigram-shift", seed=seed)
    for i, label in zip(found.sentence, found.label, strict=True):
        old, new = BANK.sentences[i].words, found.words[i]
        moved = [j for j in range(len(old)) if old[j] != new[j]]
        assert (len(moved) == 2 and moved[1] == moved[0] + 1) if label == "shifted" else not moved
        assert sorted(old) == sorted(new)


@given(st.integers(1, 12), st.integers(0, 9))
def test_a_sample_keeps_whole_sentences(most, seed):
    found = items(BANK, "upos")
    part = found.sample(most, seed=seed)
    assert len(part) in (4, 7, 11) and (len(part) >= most or len(part) == 11)
    for place in range(len(part)):
        assert part.words[part.sentence[place]][part.word[place]].lower() == part.form[place]
    assert set(part.sentence.tolist()) == set(range(len(part.words)))


def test_depths():
    assert depths(SEE.heads) == [1, 0, 2, 1, 4, 3, 2]


def test_a_task_that_nothing_is_labelled_for_is_refused():
    with pytest.raises(ProbeError, match=r"'uops'.*did you mean 'upos'"):
        items(BANK, "uops")
    bare = Treebank(sentences=(Sentence(words=("a", "b"), id="s"),))
    with pytest.raises(ProbeError, match="tense"):
        items(bare, "tense")


def test_empty_cells_are_no_labels():
    made = Treebank(sentences=(Sentence(words=("a", "b"), tags={"ner": ("O", "")}, id="s"),))
    assert items(made, "ner").label == ("O",)
    assert np.array_equal(items(made, "ner").word, [0])


def test_a_task_that_nothing_is_labelled_for_is_not_called_unknown():
    bare = Treebank(sentences=(Sentence(words=("a", "b"), tags={"upos": ("DET", "NOUN")}, id="s"),))
    with pytest.raises(ProbeError, match="there is such a task") as said:
        items(bare, "tense")
    assert "did you mean" not in str(said.value)
    with pytest.raises(ProbeError, match="did you mean 'tense'"):
        items(bare, "tence")
