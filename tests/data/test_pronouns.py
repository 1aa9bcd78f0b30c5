from __future__ import annotations

import pytest

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
        (gap(pronoun="Lou", at=13), "inside its candidate"),
        (gap().replace("Pronoun-offset", "offset"), "no column 'Pronoun-offset'"),
    ],
)
def test_what_does_not_fit_is_refused(save, content, word):
    with pytest.raises(DataError, match=word):
        read_gap(save("gap.tsv", content))


def test_one_candidate_spans_outside_and_nothing_are_refused():
    words = ("a", "b", "c")
    with pytest.raises(DataError, match="nothing to choose"):
        Pronoun(words=words, pronoun=(2, 3), candidates=((0, 1),), right=(0,))
    with pytest.raises(DataError, match="3 words"):
        Pronoun(words=words, pronoun=(2, 4), candidates=((0, 1), (1, 2)), right=(0,))
    with pytest.raises(DataError, match="no pronoun"):
        Pronouns(examples=())
