from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend.data.treebanks import Sentence, Treebank, check_tree, read_bio, read_conllu, read_treebank
from tracemend.errors import DataError


def row(number, word, head="0", deprel="root", feats="_"):
    return f"{number}\t{word}\t{word.lower()}\tNOUN\tNN\t{feats}\t{head}\t{deprel}\t_\t_"


DONT = "\n".join(
    [
        "# newdoc id = letters",
        "# sent_id = letters-1",
        row(1, "I", 4, "nsubj", "Number=Sing|Person=1"),
        "2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_",
        row(2, "do", 4, "aux"),
        row(3, "n't", 4, "advmod"),
        row(4, "know", 0),
        "4.1\tghost\t_\t_\t_\t_\t_\t_\t_\t_",
    ]
)


def bank(documents, *, words=4, parts=None):
    made = [
        Sentence(words=(f"w{i}",) * words, id=f"s{i}", document=document, part=parts[i] if parts else "")
        for i, document in enumerate(documents)
    ]
    return Treebank(sentences=tuple(made))


def test_multi_word_tokens_and_empty_nodes_are_left_out(save):
    (sentence,) = read_conllu(save("a.conllu", DONT + "\n\n")).sentences
    assert sentence.words == ("I", "do", "n't", "know")
    assert sentence.heads == (3, 3, 3, -1)
    assert sentence.tags["deprel"] == ("nsubj", "aux", "advmod", "root")
    assert sentence.feature("Number") == ("Sing", "", "", "")
    assert (sentence.id, sentence.document, sentence.part) == ("letters-1", "letters", "")


def test_a_document_goes_on_over_its_sentences_and_line_ends_do_not_matter(save):
    text = DONT + "\n\n" + row(1, "Yes") + "\n\n# newdoc id = b\n" + row(1, "No")
    for content in (text, text.replace("\n", "\r\n"), "\ufeff" + text):
        assert [s.document for s in read_conllu(save("a.conllu", content)).sentences] == ["letters", "letters", "b"]


def test_a_folder_gives_parts(tmp_path):
    for name in ("en-ud-train", "en-ud-dev", "test"):
        (tmp_path / f"{name}.conllu").write_text(f"# newdoc id = {name}\n{row(1, name)}\n", "utf-8")
    (tmp_path / "notes.conllu").write_text("nothing", "utf-8")
    found = read_conllu(tmp_path)
    assert {s.part: s.words[0] for s in found.sentences} == {"train": "en-ud-train", "dev": "en-ud-dev", "test": "test"}
    parts = found.split()
    assert [parts[p].sentences[0].words[0] for p in ("train", "dev", "test")] == ["en-ud-train", "en-ud-dev", "test"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("(ROOT (NP (NN tree)))", ["not CoNLL-U", "ten columns"]),
        (row(1, "a", 2) + "\n" + row(2, "b", 1), ["0 roots"]),
        (row(1, "a") + "\n" + row(2, "b"), ["2 roots"]),
        (row(1, "a") + "\n" + row(2, "b", 3) + "\n" + row(3, "c", 2), ["cycle", "word 2"]),
        (row(1, "a", 7), ["outside the sentence"]),
        (row(1, "a") + "\n" + row(3, "b", 1), ["not numbered"]),
        (row(1, "a", "x"), ["not CoNLL-U"]),
        ("1\ta\ta\tNOUN", ["ten columns"]),
        ("# only a comment", ["no words"]),
        ("\n\n", ["no sentence"]),
        (b"\xff\xfe1\ta", ["not UTF-8"]),
    ],
)
def test_what_is_no_treebank_is_refused(save, content, words):
    with pytest.raises(DataError) as error:
        read_conllu(save("a.conllu", content))
    assert all(word in str(error.value) for word in words), error.value


def test_no_such_file_and_a_folder_without_parts(tmp_path):
    with pytest.raises(DataError, match="there is no file or folder"):
        read_conllu(tmp_path / "none.conllu")
    (tmp_path / "x.conllu").write_text(DONT, "utf-8")
    with pytest.raises(DataError, match="train, dev or test"):
        read_conllu(tmp_path)


@given(st.lists(st.integers(-2, 8), min_size=1, max_size=8))
def test_a_tree_is_what_reaches_one_root_from_every_word(heads):
    def reaches(i):
        for _ in heads:
            if heads[i] == -1:
                return True
            if not 0 <= heads[i] < len(heads):
                return False
            i = heads[i]
        return heads[i] == -1

    good = heads.count(-1) == 1 and all(reaches(i) for i in range(len(heads)))
    if good:
        check_tree(heads, "s")
    else:
        with pytest.raises(DataError):
            check_tree(heads, "s")


@given(st.integers(3, 30), st.integers(0, 5))
def test_no_document_crosses_a_split_and_nothing_is_lost(documents, seed):
    made = bank([f"d{i % documents}" for i in range(4 * documents)])
    parts = made.split(seed=seed)
    of = {part: {s.document for s in found.sentences} for part, found in parts.items()}
    assert all(of.values())
    assert not of["train"] & of["test"] and not of["train"] & of["dev"] and not of["dev"] & of["test"]
    assert sum(len(found) for found in parts.values()) == len(made)


def test_published_parts_stay_and_missing_ones_are_made_of_documents():
    made = bank([f"d{i}" for i in range(12)], parts=["train"] * 10 + ["test"] * 2)
    parts = made.split()
    assert [s.id for s in parts["test"].sentences] == ["s10", "s11"]
    assert 1 <= len(parts["dev"]) < 5 and len(parts["train"]) + len(parts["dev"]) == 10
    without_train = bank([f"d{i}" for i in range(8)], parts=["dev"] * 5 + ["test"] * 3).split()
    assert {s.part for s in without_train["train"].sentences} == {"dev"}
    assert {s.part for s in without_train["test"].sentences} == {"test"}


def test_a_document_in_two_parts_and_one_document_are_refused():
    with pytest.raises(DataError, match="lies in"):
        bank(["a", "b", "a"], parts=["train", "dev", "test"]).split()
    with pytest.raises(DataError, match="1 document"):
        bank(["a", "a", "a"]).split()


def test_a_sample_has_whole_sentences_and_follows_its_seed():
    made = bank([f"d{i}" for i in range(20)], words=5)
    assert len(made.sample(22)) == 5
    assert len(made.sample(10_000)) == 20
    assert made.sample(22, seed=1).words == made.sample(22, seed=1).words != made.sample(22, seed=2).words


@pytest.mark.parametrize(
    ("heads", "found"), [((1, 0, -1, 2), "cycle"), ((1, -1, -1, 2), "2 roots"), ((1, -1), "2 heads for 4 words")]
)
def test_a_sentence_made_in_python_has_a_tree_or_none(heads, found):
    with pytest.raises(DataError, match=found):
        Sentence(words=("my", "film", "is", "good"), heads=heads, id="s")


def test_bio(save):
    text = "# newdoc id = d\n# sent_id = one\n1\tin\tO\n2\tNew\tB-LOC\n3\tYork\tI-LOC\n\nBob B-PER\n# O\n"
    first, second = read_bio(save("a.iob2", text)).sentences
    assert (first.words, first.tags["ner"], first.id) == (("in", "New", "York"), ("O", "B-LOC", "I-LOC"), "one")
    assert second.words == ("Bob", "#") and second.document == "d"
    assert read_treebank(save("b.bio", "a O\n")).sentences[0].tags == {"ner": ("O",)}
    with pytest.raises(DataError, match="line 2"):
        read_bio(save("c.bio", "a O\nb LOC\n"))


def test_the_word_of_a_tagged_line_is_its_first_column_whatever_lies_between(save):
    conll = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\n1996 CD I-NP O\n\n-DOCSTART- -X- -X- O\n\n5 CD B-NP O\n"
    first, second = read_bio(save("a.conll", conll)).sentences
    assert (first.words, first.tags["ner"]) == (("EU", "1996"), ("B-ORG", "O"))
    assert second.words == ("5",) and first.document != second.document
    numbered = read_bio(save("b.iob2", "1\tEU\tB-ORG\n2\tsays\tO\n\n1\tNo\tO\n"))
    assert numbered.words == [("EU", "says"), ("No",)]
    assert read_bio(save("c.bio", "1 O\n2 O\n")).words == [("1", "2")]


def test_a_document_without_a_name_is_one(save):
    rows = ["# newdoc\n" + row(1, "a"), row(1, "b"), "# newdoc\n" + row(1, "c")]
    one, two, three = (s.document for s in read_conllu(save("a.conllu", "\n\n".join(rows))).sentences)
    assert one == two != three
    assert read_conllu(save("b.conllu", "\n\n".join(rows[1:2] * 3))).by_sentence
    assert not read_conllu(save("a.conllu", "\n\n".join(rows))).by_sentence
    tagged = read_bio(save("a.bio", "# newdoc\na O\n\nb O\n\n# newdoc\nc O\n")).sentences
    assert tagged[0].document == tagged[1].document != tagged[2].document


def test_a_validation_file_is_dev(tmp_path):
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.conllu").write_text(f"# newdoc id = {name}\n{row(1, name)}\n", "utf-8")
    assert {s.words[0]: s.part for s in read_conllu(tmp_path).sentences}["val"] == "dev"
