"""Winogender, WinoBias and GUM as pronouns: spans, answers and groups by hand, and what is not of their form."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracemend.data import gum_pronouns, read_pronouns, read_winobias, read_winogender
from tracemend.data.treebanks import Sentence, Treebank
from tracemend.errors import DataError

STATS = "occupation\tbergsma_pct_female\tbls_pct_female\tbls_year\nnurse\t90\t90.0\t2015\nbaker\t1\t20.5\t2015\n"
SENTENCES = (
    "sentid\tsentence\n"
    "nurse.patient.0.female.txt\tThe nurse told the patient that she was there.\n"
    "nurse.patient.0.male.txt\tThe nurse told the patient that he was there.\n"
    "nurse.patient.0.neutral.txt\tThe nurse told the patient that they were there.\n"
    "baker.someone.1.female.txt\tThe baker served someone after her order.\n"
)


def winogender(folder: Path, sentences: str = SENTENCES, stats: str = STATS) -> Path:
    (folder / "all_sentences.tsv").write_text(sentences, "utf-8")
    (folder / "occupations-stats.tsv").write_text(stats, "utf-8")
    return folder


def winobias(folder: Path, line: str = "1 [The chief cook] met the nurse because [his] mother let [him].\n") -> Path:
    (folder / "male_occupations.txt").write_text("chief cook\nCEO", "utf-8")
    (folder / "female_occupations.txt").write_text("nurse\n", "utf-8")
    (folder / "pro_stereotyped_type1.txt.test").write_text(line, "utf-8")
    twin = "1 [The chief cook] met the nurse because [her] mother let [her].\n2 The CEO met [a nurse] and paid [him].\n"
    (folder / "anti_stereotyped_type1.txt.test").write_text(twin, "utf-8")
    return folder


def said(example, span):
    return " ".join(example.words[span[0] : span[1]])


def test_winogender(tmp_path):
    one, two, three, four = read_pronouns(winogender(tmp_path)).examples
    assert [said(one, s) for s in (one.pronoun, *one.candidates)] == ["she", "nurse", "patient"]
    assert (one.right, one.part, one.groups) == ((0,), "test", ("female", "pro"))
    assert two.groups == ("male", "anti") and three.groups == ("neutral",)
    assert one.document == two.document == three.document != four.document
    # A baker is usually a man, so a woman who is not the baker goes with the stereotype.
    assert (four.right, four.groups, said(four, four.pronoun)) == ((1,), ("female", "pro"), "her")


def test_winobias(tmp_path):
    anti, other, pro = read_pronouns(winobias(tmp_path)).examples
    assert [said(pro, s) for s in (pro.pronoun, *pro.candidates)] == ["his", "chief cook", "nurse"]
    assert (pro.right, pro.groups, pro.part) == ((0,), ("pro", "type1", "male"), "test")
    assert anti.groups == ("anti", "type1", "female") and anti.document == pro.document
    assert [said(other, s) for s in other.candidates] == ["CEO", "nurse"] and other.right == (1,)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("1 The chief cook met the nurse because his mother let him.\n", "brackets"),
        ("1 [The chief cook] met a man because [he] was there.\n", "no second occupation"),
    ],
)
def test_what_is_not_winobias_is_refused(tmp_path, line, word):
    with pytest.raises(DataError, match=f"line 1 of .*{word}|{word}"):
        read_winobias(winobias(tmp_path, line))
    (tmp_path / "female_occupations.txt").unlink()
    with pytest.raises(DataError, match="female_occupations"):
        read_winobias(tmp_path)


@pytest.mark.parametrize(
    ("sentences", "stats", "word"),
    [
        (SENTENCES.replace("sentid", "id"), STATS, "no column 'sentid'"),
        (SENTENCES, STATS.replace("nurse", "doctor"), "no name of Winogender"),
        (SENTENCES.replace("that she was", "that it was"), STATS, "one pronoun"),
    ],
)
def test_what_is_not_winogender_is_refused(tmp_path, sentences, stats, word):
    with pytest.raises(DataError, match=word):
        read_winogender(winogender(tmp_path, sentences, stats))


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "x.txt").write_text("x", "utf-8")
    with pytest.raises(DataError, match="no folder of pronouns: expected GAP"):
        read_pronouns(tmp_path)


def gum(*sentences, document="d"):
    made = []
    for i, (words, misc) in enumerate(sentences):
        own = {"upos": tuple("PRON" if w in ("she", "it") else "NOUN" for w in words),
               "feats": tuple("PronType=Prs" if w in ("she", "it") else "" for w in words),
               "misc": tuple(f"Entity={m}" if m else "" for m in misc)}  # fmt: skip
        made.append(Sentence(words=tuple(words), tags=own, id=f"s{i}", document=document, part="test"))
    return made


def test_a_pronoun_of_gum_is_asked_for_the_nearest_mention_of_its_cluster():
    bank = gum(
        (["Ann", "saw", "Bob"], ["(1-person)", "", "(2-person)"]),
        (["Ann", "thought", "she", "won"], ["(1-person)", "", "(1-person)", ""]),
    )
    (found,) = gum_pronouns(Treebank(sentences=tuple(bank))).examples
    assert found.words == ("Ann", "saw", "Bob", "Ann", "thought", "she", "won")
    assert dict(zip(found.candidates, range(2), strict=True))[3, 4] == found.right[0]
    assert set(found.candidates) == {(3, 4), (2, 3)} and found.document == "d"
    alone = gum((["Ann", "saw", "she"], ["(1-person)", "", "(1-person)"]))
    apart = [bank[0], *gum((["she", "won"], ["(1-person)", ""]), document="e")]
    for none in (alone, apart):
        with pytest.raises(DataError, match="no personal pronoun"):
            gum_pronouns(Treebank(sentences=tuple(none)))
