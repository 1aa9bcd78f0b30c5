from __future__ import annotations

import json

import pytest

from tracemend.data.facts import Fact, Facts, read_facts
from tracemend.errors import DataError

PATTERNS = {"r": ("[X] is in [Y].",)}


def write(tmp_path, facts, patterns):
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, facts)), "utf-8")
    (tmp_path / "patterns.jsonl").write_text("\n".join(map(json.dumps, patterns)), "utf-8")
    return tmp_path


def fact(subject, obj, relation="r"):
    return {"relation": relation, "subject": subject, "object": obj}


def test_facts_that_their_names_give_away_copies_and_those_without_pattern_are_left_out(tmp_path):
    facts = [
        fact("Bern", "Switzerland"),
        fact("Bern", "Switzerland"),
        fact("Mexico City", "Mexico"),
        fact("x", "y", "q"),
    ]
    patterns = [{"relation": "r", "pattern": p} for p in ("[X] is in [Y].", "[Y] holds [X]")]
    found = read_facts(write(tmp_path, facts, patterns))
    assert found.facts == (Fact("r", "Bern", "Switzerland"),)
    assert found.patterns == {"r": ("[X] is in [Y].", "[Y] holds [X]")}


def test_missing_fields_and_patterns_without_a_gap_are_refused(tmp_path):
    with pytest.raises(DataError, match="no field 'object'"):
        read_facts(write(tmp_path, [{"relation": "r", "subject": "a"}], [{"relation": "r", "pattern": "[X] [Y]"}]))
    with pytest.raises(DataError, match=r"needs \[X\]"):
        read_facts(write(tmp_path, [fact("a", "b")], [{"relation": "r", "pattern": "[X] is"}]))
    with pytest.raises(DataError, match="no fact"):
        read_facts(write(tmp_path, [fact("a", "b")], [{"relation": "q", "pattern": "[X] [Y]"}]))
    with pytest.raises(DataError, match="twice"):
        Facts(facts=(Fact("r", "a", "b"),) * 2, patterns=PATTERNS)
    with pytest.raises(DataError, match="no pattern for"):
        Facts(facts=(Fact("q", "a", "b"),), patterns=PATTERNS)


def test_relations_and_samples():
    made = Facts(
        facts=tuple(Fact(r, f"s{i}", "o") for r in "rq" for i in range(9)), patterns=PATTERNS | {"q": ("[X] [Y]",)}
    )
    assert made.of(["q"]).relations == ("q",)
    assert [f.relation for f in made.sample(3).facts] == ["r"] * 3 + ["q"] * 3
    assert made.sample(3, seed=1).facts == made.sample(3, seed=1).facts != made.sample(3, seed=2).facts
    with pytest.raises(DataError, match="'p' is not one of: r, q"):
        made.of(["p"])


def test_texts_go_along_and_count_for_the_fingerprint():
    made = Facts(facts=(Fact("r", "a", "b"),), patterns=PATTERNS)
    told = made.with_texts(["a is in b"])
    assert told.sample(1).texts == told.of(["r"]).texts == ("a is in b",)
    assert made.fingerprint != told.fingerprint != made.with_texts(["b"]).fingerprint
    with pytest.raises(DataError, match="no text to mine"):
        made.with_texts([])
