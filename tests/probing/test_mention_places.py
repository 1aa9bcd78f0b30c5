"""Places of mentions: what they give away is found, and where they say nothing nothing is."""

from __future__ import annotations

import numpy as np
import pytest

from tracemend.data import Pronoun, available, read_gap
from tracemend.data.reference import reference_folder
from tracemend.probing.coreference import by_first_mention, by_recency, usable
from tracemend.probing.mention_places import _features, by_place


def example(candidates, right, at=20):
    return Pronoun(words=("w",) * 40, pronoun=(at, at + 1), candidates=candidates, right=(right,))


def examples(n, rule, seed=0):
    """Two names anywhere but at the pronoun; the rule says which of them is meant."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        one, other = sorted(rng.permutation([i for i in range(0, 38, 2) if i != 20])[:2].tolist())
        candidates = ((one, one + 1), (other, other + 2))
        found.append(example(candidates, rule(candidates, rng)))
    return found


def test_features_of_a_candidate_and_of_the_others():
    rows = _features(example(((2, 4), (25, 26)), 0))
    assert rows.shape == (2, 9) and rows[:, 8].tolist() == [0, 1]
    np.testing.assert_allclose(rows[0, :4], [np.log(17), 0, 0.05, 2])
    np.testing.assert_allclose(rows[1, :4], [-np.log(5), 1, 0.625, 1])
    np.testing.assert_allclose(rows[0, :4], rows[1, 4:8])


def test_what_hangs_on_places_is_found_though_no_rule_of_one_word_says_it():
    def before_but_not_next(candidates, _):
        costs = [abs((20 - end) - 8) if end <= 20 else 100 + begin for begin, end in candidates]
        return int(np.argmin(costs))

    def before(candidates, _):
        return int(np.argmax([end <= 20 for _, end in candidates]))

    for rule in (before_but_not_next, before):
        found = by_place(examples(300, rule), examples(200, rule, seed=1))
        assert found.mean() > 0.75


def test_where_places_say_nothing_it_is_right_by_chance():
    found = by_place(examples(300, lambda _, rng: int(rng.integers(2))),
                     examples(400, lambda _, rng: int(rng.integers(2)), seed=1))  # fmt: skip
    assert 0.4 < found.mean() < 0.6


def test_three_candidates():
    made = [example(((0, 1), (4, 5), (30, 31)), i % 2) for i in range(40)]
    assert by_place(made, made).mean() == 0.5


@pytest.mark.skipif(not available("gap"), reason="TRACEMEND_DATA names no folder with gap")
def test_gap_gives_its_names_away_by_their_places():
    parts, _ = usable(read_gap(reference_folder("gap")), train=400, test=400, seed=0)
    rules = max(of(parts["test"]).mean() for of in (by_recency, by_first_mention))
    assert by_place(parts["train"], parts["test"]).mean() > rules + 0.05
