from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracemend.data.pronouns import Pronoun, Pronouns, read_gap
from tracemend.errors import DataError

HEAD = "ID\tText\tPronoun\tPronoun-offset\tA\tA-offset\tA-coref\tB\tB-offset\tB-coref\tURL\n"
TEXT = "Ann met Mary-Lou O'Neil, and she left."


def gap(pronoun="she", at=29, b="Mary-Lou O'Neil", b_at=8):
    return f"{HEAD}x-1\t{TEXT}\t{pronoun}\t{at}\tAnn\t0\tTRUE\t{b}\t{b_at}\tFALSE\thttp\n"


def test_offsets_become_words(save):
    (one,) = read_gap(save("gap.tsv", gap())).examples
    assert [one.words[i:j] for i, j in (one.pronoun, *one.candidates)] == [
        ("she",), ("Ann",), ("Mary", "-", "Lou", "O", "'", "Neil")]  # fmt: skip
    assert (one.right, one.id) == ((0,), "x-1")


def test_a_folder_has_parts(tmp_path):
    for name in ("development", "validation", "test"):
        (tmp_path / f"gap-{name}.tsv").write_text(gap(), "utf-8")
    found = read_gap(tmp_path)
    assert [len(found.of(part)) for part in ("train", "dev", "test")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (gap(at=28), "where the text is"),
        (gap(b_at=900), "where the text is ''"),
        (gap(at="x"), r"x-1 \(row 1 of .*offset 'x' for 'she'; expected a whole number"),
        (gap(pronoun="Lou", at=13), "inside its candidate"),
        (gap().replace("Pronoun-offset", "offset"), "no column 'Pronoun-offset'"),
    ],
)
def test_what_does_not_fit_is_refused(save, content, word):
    with pytest.raises(DataError, match=word):
        read_gap(save("gap.tsv", content))


def test_a_file_on_its_own_is_divided_by_pages(save):
    rows = [f"x-{i}\t{TEXT}\tshe\t29\tAnn\t0\tTRUE\tMary-Lou O'Neil\t8\tFALSE\tpage-{i // 2}\n" for i in range(24)]
    found = read_gap(save("gap.tsv", HEAD + "".join(rows)))
    made = found.split(seed=3)
    of = {part: {e.document for e in made.of(part)} for part in ("train", "dev", "test")}
    assert all(of.values()) and sum(map(len, of.values())) == 12 and len(made.of("train")) > 12
    assert [e.words for e in made.examples] == [e.words for e in found.examples] and made.split() is made
    with pytest.raises(DataError, match="2 documents to divide"):
        found.take(range(4)).split()


@given(st.integers(3, 9), st.integers(0, 3), st.integers(1, 5))
def test_no_part_is_empty_and_no_document_crosses(documents, seed, most):
    sizes = [1 + (7 * i + seed) % most for i in range(documents)]
    one = Pronoun(words=("a", "b", "c"), pronoun=(2, 3), candidates=((0, 1), (1, 2)), right=(0,))
    made = Pronouns(
        examples=tuple(replace(one, document=f"d{i}") for i, n in enumerate(sizes) for _ in range(n))
    ).split(seed=seed)
    of = [{e.document for e in made.of(part)} for part in ("train", "dev", "test")]
    assert all(of) and sum(map(len, of)) == documents


def test_one_candidate_spans_outside_and_nothing_are_refused():
    words = ("a", "b", "c")
    with pytest.raises(DataError, match="nothing to choose"):
        Pronoun(words=words, pronoun=(2, 3), candidates=((0, 1),), right=(0,))
    with pytest.raises(DataError, match="3 words"):
        Pronoun(words=words, pronoun=(2, 4), candidates=((0, 1), (1, 2)), right=(0,))
    with pytest.raises(DataError, match="no pronoun"):
        Pronouns(examples=())


def test_a_document_changes_what_it_is():
    one = Pronoun(words=("a", "b", "it"), pronoun=(2, 3), candidates=((0, 1), (1, 2)), right=(0,), document="x")
    prints = {Pronouns(examples=(replace(one, document=name),)).fingerprint for name in ("x", "y")}
    assert len(prints) == 2
