from __future__ import annotations

import pytest

from tracemend.data.constituents import constituent_spans, read_trees, trees_beside, with_constituents
from tracemend.data.treebanks import Sentence, Treebank, read_treebank
from tracemend.errors import DataError

TREES = """; newdoc a
(ROOT (S (NP-SBJ-1 (DT The) (NN cat)) (VP (VBZ sleeps)
   (NP (-NONE- *T*))) (. .)))

( (FRAG (-LRB- -LRB-) (NP (NN x)) (-RRB- -RRB-)))
"""


def bank(*sentences):
    return Treebank(sentences=tuple(Sentence(words=tuple(s.split()), id=s) for s in sentences))


def test_phrases_and_tops(save):
    found = with_constituents(bank("The cat sleeps .", "( x )"), read_trees(save("a.ptb", TREES)))
    first, second = (s.tags for s in found.sentences)
    assert first["phrase"] == ("NP", "NP", "VP", "S") and first["top"][0] == "NP VP ."
    assert second["phrase"] == ("FRAG", "NP", "FRAG") and second["top"][0] == "-LRB- NP -RRB-"


def test_phrases_are_spans_and_the_outermost_of_equal_ones_counts(save):
    trees = read_trees(save("a.ptb", TREES))
    given = bank("The cat sleeps .", "( x )")
    found = constituent_spans(given, trees)
    assert sorted(zip(found.sentence, found.first, found.label, strict=True)) == [
        (0, (0, 2), "NP"), (0, (0, 4), "S"), (0, (2, 3), "VP"), (1, (0, 3), "FRAG"), (1, (1, 2), "NP"),
    ]  # fmt: skip
    (deep,) = read_trees(save("b.ptb", "(ROOT (NP (NP (NN a)) ) )"))
    assert constituent_spans(bank("a"), [deep]).label == ("NP",)
    (chain,) = read_trees(save("c.ptb", "(ROOT (S (VP (VB go) (PP (IN on)))))"))
    assert list(chain.phrases()) == [((0, 2), "S"), ((1, 2), "PP")]
    with pytest.raises(DataError, match="2 trees for the 1"):
        constituent_spans(given.take([0]), trees)


def test_trees_lie_beside_their_file(save):
    words = ("The", "cat", "sleeps", ".")
    lines = "\n".join(f"{i + 1}\t{w}\t_\t_\t_\t_\t_\t_\t_\t_" for i, w in enumerate(words))
    file = save("a.conllu", lines + "\n\n")
    assert trees_beside(file) is None
    save("a.ptb", TREES)
    assert len(trees_beside(file) or []) == 2


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("(S (NP", "still open"),
        ("(NN a))", "never opened"),
        ("1\tThe\tthe", "outside of any bracket"),
        ("(NP the (NN cat))", "mixes words and nodes"),
        ("; only a comment", "no tree"),
    ],
)
def test_what_is_no_tree_is_refused(save, content, word):
    with pytest.raises(DataError, match=word):
        read_trees(save("a.ptb", content))


def test_trees_of_other_sentences_are_refused(save):
    trees = read_trees(save("a.ptb", TREES))
    with pytest.raises(DataError, match="2 trees for the 1"):
        with_constituents(bank("The cat sleeps ."), trees)
    with pytest.raises(DataError, match="same sentences in their order"):
        with_constituents(bank("( x )", "The cat sleeps ."), trees)
    with pytest.raises(DataError, match="same sentences in their order"):
        with_constituents(bank("The dog barks .", "( x )"), trees)


def test_trees_beside_a_treebank_are_read_with_it(tmp_path):
    row = "{}\t{}\t_\tX\t_\t_\t{}\tx\t_\t_"
    words = ["The", "cat", "sleeps", "."]
    text = "\n".join(row.format(i + 1, word, 0 if i == 2 else 3) for i, word in enumerate(words))
    (tmp_path / "train.conllu").write_text(text + "\n", "utf-8")
    assert "phrase" not in read_treebank(tmp_path).sentences[0].tags
    (tmp_path / "train.ptb").write_text(TREES.split("\n\n")[0], "utf-8")
    assert read_treebank(tmp_path).sentences[0].tags["phrase"] == ("NP", "NP", "VP", "S")
