from __future__ import annotations

import pytest

from tracemend.data.facts import Fact
from tracemend.data.rewrites import Rewrites, rewrites_from_facts
from tracemend.errors import DataError

ROW = {"prompt": "Paris is in", "subject": "Paris", "answer": "France", "target": "Spain"}
PATTERNS = {"in": ("[X] is in [Y] .", "[X] lies in [Y].", "[Y] holds [X].")}
FACTS = [Fact("in", city, land) for city, land in
         (("Paris", "France"), ("Lyon", "France"), ("Nice", "France"), ("Madrid", "Spain"))]  # fmt: skip


def test_prompts_of_a_cell() -> None:
    found = Rewrites.make([{**ROW, "neighbours": "Lyon is in | Nice is in|"}, {**ROW, "neighbours": None}])
    assert found.prompts("neighbours", 0) == ["Lyon is in", "Nice is in"]
    assert found.prompts("neighbours", 1) == [] == found.prompts("paraphrases", 0)


def test_the_corpus_stays_with_the_facts_and_counts() -> None:
    found = Rewrites.make([ROW, ROW])
    within = found.within(["some text"])
    assert within.head(1).corpus == ("some text",)
    assert within.fingerprint != found.fingerprint
    assert found.within(["other text"]).fingerprint != within.fingerprint
    other = Rewrites.make([{**ROW, "neighbours": "Lyon is in"}] * 2)
    assert other.fingerprint != found.fingerprint
    for bad in ([], ["a", " "], [1]):
        with pytest.raises(DataError, match="corpus"):
            found.within(bad)


def test_rewrites_of_facts_have_paraphrases_and_neighbours() -> None:
    found = rewrites_from_facts(FACTS, PATTERNS, neighbours=1)
    # Madrid has no neighbour with the same object.
    assert sorted(found.frame["subject"]) == ["Lyon", "Nice", "Paris"]
    for at, row in enumerate(found.frame.to_dict("records")):
        assert row["prompt"] == f"{row['subject']} is in" and row["target"] == "Spain"
        assert found.prompts("paraphrases", at) == [f"{row['subject']} lies in"]
        (near,) = found.prompts("neighbours", at)
        assert near.endswith(" is in") and row["subject"] not in near and "Madrid" not in near
    assert rewrites_from_facts(FACTS, PATTERNS, seed=0).fingerprint == rewrites_from_facts(FACTS, PATTERNS).fingerprint
    with pytest.raises(DataError, match="second pattern"):
        rewrites_from_facts(FACTS, {"in": PATTERNS["in"][:1]})
