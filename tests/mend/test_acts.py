"""Whom a control acts on: as many of each kind as the repair, whomever else its rule would let go."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracemend.data import Labelled
from tracemend.data.splits import LEAST
from tracemend.mend import Repair
from tracemend.mend.acts import ERRORS, Kinds, _Instead, _pushed, _reason, act, choose, spare
from tracemend.mend.ranking import Ranking, with_posterior
from tracemend.mend.result import acted_each_round
from tracemend.mend.rounds import ArmResult

NAMES = ("a", "b", "c")


def data(y: list[int]) -> Labelled:
    return Labelled.make([f"text {i}" for i in range(len(y))], [NAMES[k] for k in y], label_names=NAMES)


def ranking(y: list[int], seed: int = 0, **changes: Any) -> Ranking:
    rng, n = np.random.default_rng(seed), len(y)
    return Ranking(
        **{
            "suspicion": rng.random(n), "suggestion": (np.array(y) + 1) % 3, "certainty": rng.random(n),
            "signed": np.zeros((n, 2)), "drivers": np.zeros(2), "eligible": rng.random(n) < 0.5, **changes,
        }
    )  # fmt: skip


def decided(found: Ranking, train: Labelled, most: int | Kinds) -> list[dict[str, Any]]:
    rules, p = Repair(action="auto"), np.full((len(train), 3), 1 / 3)
    picked = choose(rules, found, train, (), most)
    tuned: Any = None  # a control needs no evidence
    return act(rules, found, p, train, data([0, 1]), picked, 1, tuned, None)


def test_an_error_is_pushed_where_it_is_pushed_harder_than_is_usual() -> None:
    n = 9
    signed = np.vstack([np.full(n, -0.4), np.zeros(n)])
    signed[0, :2] = -0.1, 0.3
    found = ranking([0, 1], signed=signed, usual=np.full(n, -0.2), weight=2.0)
    wrong = np.array([1] * (n - 1) + [0])  # the last one is right
    pushed = _pushed(found, 0, data([0] * n), wrong)
    assert len(pushed) == 6 > ERRORS and {error["influence"] for error in pushed} == {-0.2}
    assert not _pushed(found, 1, data([0] * n), wrong)
    instead = _Instead("a", 0.914, 0.08)
    said = _reason("b", instead, pushed, {"neighbour": {"similarity": 0.23}})
    likelier = "Labelled b, which has probability 0.08; a is likelier (0.91)"
    assert said == f"{likelier}; it pushes 6 validation errors away from a."
    assert "pushes 1 validation error away" in _reason("b", instead, pushed[:1], {})
    assert "0.80 similar" in _reason("b", instead, [], {"neighbour": {"similarity": 0.8}})


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 1000))
def test_a_control_relabels_and_removes_as_many(label: int, remove: int, seed: int) -> None:
    y = [k % 3 for k in range(30)]
    train, found = data(y), ranking(y, seed)
    made = decided(found, train, Kinds(label=label, remove=remove))
    kept, spared = spare(made, train)
    kinds = [d["kind"] for d in kept]
    assert (kinds.count("label"), kinds.count("remove"), spared) == (label, remove, [])
    row = {uid: i for i, uid in enumerate(train.uid)}
    acted = {row[d["uid"]] for d in kept}
    # The most suspicious of those whose label can spare one more.
    left = Counter(y[i] for i in set(range(30)) - acted)
    rest = [i for i in set(range(30)) - acted if left[y[i]] > LEAST]
    assert not acted or not rest or found.suspicion[list(acted)].min() > found.suspicion[rest].max()
    sure = {k: [found.certainty[row[d["uid"]]] for d in kept if d["kind"] == k] for k in ("label", "remove")}
    assert not sure["label"] or not sure["remove"] or min(sure["label"]) >= max(sure["remove"])
    assert all(d["new"] == NAMES[found.suggestion[row[d["uid"]]]] for d in kept if d["kind"] == "label")


def test_a_number_alone_leaves_the_kind_to_the_rule() -> None:
    """As the controls had it: sure of every suggestion, chance relabelled all that influence relabelled or removed."""
    y = [k % 3 for k in range(30)]
    made = decided(ranking(y, certainty=np.ones(30), eligible=np.ones(30, dtype=bool)), data(y), 10)
    assert {d["kind"] for d in made} == {"label"}


def test_a_removal_gives_its_own_reason() -> None:
    """A label that no other outdoes may be removed since it is likelier wrong than right."""
    y, p = [0, 0, *[k % 3 for k in range(28)]], np.full((30, 3), 0.0)
    p[np.arange(30), y] = 1.0
    p[:2] = [[0.42, 0.30, 0.28], [0.30, 0.42, 0.28]]
    made = decided(with_posterior(ranking(y), np.array(y), p), data(y), 10)
    assert [(d["kind"], d["reason"]) for d in made] == [
        ("remove", "Labelled a, which has probability 0.30; b is likelier (0.42)."),
        ("remove", "Labelled a, wrong with probability 0.58; no other label is likelier."),
    ]
    influence = decided(ranking(y, eligible=np.ones(30, dtype=bool)), data(y), 1)
    assert "likelier" not in influence[0]["reason"]  # the classifier's probabilities are even


def test_a_control_passes_over_whom_no_label_can_spare() -> None:
    y = [0] * LEAST + [1] * 6 + [2] * 6
    made = decided(ranking(y, suspicion=np.arange(len(y), 0, -1.0)), data(y), Kinds(label=2, remove=3))
    kept, spared = spare(made, data(y))
    assert len(kept) == 5 and not spared and "a" not in {d["old"] for d in kept}


def test_a_control_that_suspects_nobody_acts_on_nobody() -> None:
    y = [k % 3 for k in range(12)]
    assert decided(ranking(y, eligible=np.zeros(12, dtype=bool)), data(y), Kinds(label=2, remove=2)) == []


def test_what_is_spared_says_why() -> None:
    y = [0] * (LEAST + 1) + [1] * 4
    train, all_of_them = data(y), np.ones(len(y), dtype=bool)
    found = ranking(y, eligible=all_of_them, suspicion=np.arange(len(y), 0, -1.0))
    rules = Repair(action="remove")
    tuned: Any = None
    p = np.full((len(y), 3), 1 / 3)
    made = act(rules, found, p, train, data([0, 1]), choose(rules, found, train, (), 4), 1, tuned, None)
    kept, spared = spare(made, train)
    assert [d["old"] for d in kept] == ["a", "b"] and [d["uid"] for d in spared] == train.uid[1:3]
    assert all(d["reason"].endswith(f"one of the last {LEAST} labelled a.") and d["old"] == "a" for d in spared)


def test_the_kinds_of_each_round() -> None:
    rows = [(1, "label", "repair"), (1, "remove", "repair"), (0, "label", "person"), (3, "remove", "repair")]
    table = pd.DataFrame(rows, columns=["round", "kind", "actor"])
    empty: Any = None

    def of(decisions: pd.DataFrame) -> list[Kinds]:
        return acted_each_round(ArmResult(empty, decisions, empty, empty, 3, np.zeros(1)))

    assert of(table) == [Kinds(1, 1), Kinds(0, 0), Kinds(0, 1)]
    # Where a person alone acted the classifier was tuned on, and so are the controls.
    assert of(table.head(0)) == [] and of(table[table["actor"] == "person"]) == [Kinds(0, 0)]


@pytest.mark.parametrize("kinds", [Kinds(100, 100), Kinds(0, 100)])
def test_more_than_there_are_leaves_every_label(kinds: Kinds) -> None:
    y = [k % 3 for k in range(30)]
    kept, _ = spare(decided(ranking(y), data(y), kinds), data(y))
    assert len(kept) == 30 - 3 * LEAST
