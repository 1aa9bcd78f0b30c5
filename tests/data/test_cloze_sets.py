"""Kinds of things and primed probes: wordings by hand, told by their files, and what is not of their form."""

from __future__ import annotations

import json

import pytest

from tracemend.data import Fact, Facts, read_cloze, read_kinds, read_primed
from tracemend.errors import DataError

KINDS = (
    "item\tcontext_aff\tcontext_neg\ttarget_aff\ttarget_neg\n"
    "0\tA trout is (a|an)\tA trout is not (a|an)\tfish\ttool\n"
    "1\tAn ant is (a|an)\tAn ant is not (a|an)\tinsect\tvegetable\n"
)
PROBE = {"family": "ConceptNet", "file": "ConceptNet", "pred": "IsA", "masked": "A film is [MASK].",
         "negated": "A film is not [MASK].", "misprimed": "Tree? A film is [MASK].", "answer": "art",
         "subject": "film"}  # fmt: skip


def test_kinds(tmp_path):
    (tmp_path / "NEG-136-SIMP.tsv").write_text(KINDS, "utf-8")
    found = read_cloze(tmp_path)
    trout, ant = found.facts
    assert trout == Fact("kind", "A trout", "fish") and ant.object == "insect"
    assert found.wordings["plain"][ant] == "An ant is an [Y]."
    assert found.wordings["negated"][trout] == "A trout is not a [Y]."
    assert read_cloze(tmp_path / "NEG-136-SIMP.tsv").wordings == found.wordings


def test_primed(tmp_path):
    other = PROBE | {"pred": None, "file": "place_of_birth", "answer": "Rome", "subject": "Ann"}
    leaks = PROBE | {"subject": "art house"}
    (tmp_path / "probes.jsonl").write_text("\n".join(map(json.dumps, (PROBE, other, leaks))), "utf-8")
    found = read_cloze(tmp_path)
    # The third gives its answer away in its name.
    assert found.relations == ("IsA", "place_of_birth") and len(found) == 2
    assert found.wordings["misprimed"][found.facts[0]] == "Tree? A film is [Y]."
    assert set(found.wordings) == {"plain", "negated", "misprimed"}


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("[1]", "line 1 .* cannot be read"),
        (json.dumps({k: v for k, v in PROBE.items() if k != "negated"}), "KeyError"),
        (json.dumps(PROBE | {"masked": "A film is."}), r"expected \[MASK\] in it once"),
    ],
)
def test_what_is_no_probe_is_refused(save, line, word):
    with pytest.raises(DataError, match=word):
        read_primed(save("probes.jsonl", line))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (KINDS.replace("target_aff", "kind"), "no column 'target_aff'"),
        (KINDS.replace("An ant is (", "An ant ("), "row 2"),
    ],
)
def test_what_is_no_kind_is_refused(save, content, word):
    with pytest.raises(DataError, match=word):
        read_kinds(save("NEG-136-SIMP.tsv", content))


def test_a_folder_of_something_else_and_wordings_without_a_gap_are_refused(tmp_path):
    with pytest.raises(DataError, match="holds no facts"):
        read_cloze(tmp_path)
    fact = Fact("r", "a", "b")
    with pytest.raises(DataError, match=r"needs \[Y\]"):
        Facts(facts=(fact,), patterns={"r": ("[X] [Y]",)}, wordings={"plain": {fact: "a is"}})
    with pytest.raises(DataError, match="no 'plain'"):
        Facts(facts=(fact,), patterns={"r": ("[X] [Y]",)}, wordings={"negated": {fact: "a is not [Y]"}})
