"""The verdict claims what the intervals show, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tracemend.data import Labelled
from tracemend.mend import Verdict, verdict
from tracemend.mend.judgement import beside_start

N = 200


def data(groups: list[str] | None = None) -> Labelled:
    labels = [("safe", "unsafe")[i % 2] for i in range(N)]
    return Labelled.make([f"text {i}" for i in range(N)], labels, groups=groups, positive="unsafe")


def probabilities(quality: float, *, shift: float = 0.0, seed: int = 0) -> np.ndarray[Any, Any]:
    """Of a classifier whose scores hold so much of the label; ``shift`` moves its cut, not its order."""
    rng = np.random.default_rng(seed)
    margin = quality * (2 * data().y - 1) + rng.normal(size=N) + shift
    positive = 1 / (1 + np.exp(-margin))
    return np.column_stack([1 - positive, positive])


def test_a_repair_that_helps_is_recommended() -> None:
    found = verdict(data(), probabilities(0.3), probabilities(2.0, seed=1), acted=10)
    assert found.recommended == "repaired"
    assert found.sentence.startswith("The repair helped: on 200 examples that steered nothing")
    assert [c.metric for c in found.comparisons] == ["ap", "accuracy", "macro_f1"]
    ap = found.comparisons[0]
    assert f"average precision by {ap.difference:+.3f} ({ap.low:+.3f} to {ap.high:+.3f})" in found.sentence


def test_a_repair_that_harms_is_not() -> None:
    found = verdict(data(), probabilities(2.0), probabilities(0.3, seed=1), acted=10)
    assert found.recommended == "original"
    assert found.sentence.startswith("The repair did harm: it changed average precision by -")


def test_noisy_labels_change_the_sentence_and_not_the_rule() -> None:
    before, after = probabilities(0.3), probabilities(2.0, seed=1)
    plain, noisy = (verdict(data(), before, after, acted=10, noisy=noisy) for noisy in (False, True))
    assert (plain.recommended, plain.comparisons) == (noisy.recommended, noisy.comparisons)
    assert noisy.sentence == f"{plain.sentence} The labels it is judged by may be wrong as well."


def test_no_repair_helps_that_is_behind_the_start() -> None:
    """What it is compared with was chosen on validation, and may be the worse of two."""
    after = probabilities(1.0, seed=1)
    found = verdict(data(), probabilities(0.3), after, acted=10, against="more tuning")
    assert found.recommended == "repaired" and found.against == "more tuning"
    assert beside_start(found, data(), probabilities(0.5), after) is found
    behind = beside_start(found, data(), probabilities(2.0), after)
    assert behind.recommended == "original" and behind.comparisons == found.comparisons
    assert behind.sentence.startswith("Not shown: it is better than more tuning, but not than the start")
    harmed = verdict(data(), after, probabilities(0.3), acted=10)
    assert beside_start(harmed, data(), after, probabilities(0.3)) is harmed


def test_average_precision_of_several_labels_says_that_it_is_a_mean() -> None:
    labels = ["a", "b", "c"] * 60
    p = np.random.default_rng(0).dirichlet(np.ones(3), size=180)
    found = verdict(Labelled.make([f"text {i}" for i in range(180)], labels), p, p, acted=1)
    assert "average precision (mean over the labels) changed by +0.000" in found.sentence


def test_what_the_interval_does_not_show_is_not_claimed() -> None:
    found = verdict(data(), probabilities(1.0), probabilities(1.0, seed=1), acted=10)
    assert found.recommended == "original" and found.sentence.startswith(
        "Not shown: compared with the start, average precision changed by"
    )
    assert not any(c.shown for c in found.comparisons)


def test_without_decisions_nothing_is_recommended_however_the_figures_fall() -> None:
    found = verdict(data(), probabilities(0.3), probabilities(2.0, seed=1), acted=0)
    assert found.recommended == "original" and "suspect enough" in found.sentence


def test_what_people_decided_stands_with_the_original() -> None:
    same = probabilities(0.3)
    untuned = verdict(data(), same, same, acted=0, tried=8, answers=5)
    assert untuned.recommended == "original" and "8 labels were tried beside 5 that people decided" in untuned.sentence
    assert "no classifier tuned on that set was judged" in untuned.sentence
    tuned = verdict(data(), same, same, acted=5, answers=5)
    assert tuned.sentence.endswith("The original set, with what people decided, is the recommended one.")
    ahead = verdict(data(), same, probabilities(1.0, seed=1), acted=5, answers=5, against="more tuning")
    behind = beside_start(ahead, data(), probabilities(2.0), probabilities(1.0, seed=1), answers=5)
    assert behind.sentence.endswith("The original set, with what people decided, is the recommended one.")


def test_better_accuracy_does_not_make_up_for_worse_average_precision() -> None:
    # Before: a good order with a cut far off. After: a worse order with the right cut.
    found = verdict(data(), probabilities(2.5, shift=-6), probabilities(1.0, seed=1), acted=10)
    ap, accuracy, _ = found.comparisons
    assert ap.shown and ap.difference < 0 and accuracy.shown and accuracy.difference > 0
    assert found.recommended == "original" and "did harm" in found.sentence


def test_what_fell_is_said_beside_what_rose() -> None:
    found = verdict(data(), probabilities(1.0, seed=1), probabilities(2.5, shift=-6), acted=10)
    assert found.recommended == "repaired"
    assert found.sentence.endswith("But accuracy and macro-F1 fell.")


def test_examples_of_one_author_count_together() -> None:
    """Ten authors with one verdict each are ten observations, not two hundred."""
    rng = np.random.default_rng(3)
    author = np.arange(N) // 20
    better = rng.permutation([1.2] * 6 + [-0.8] * 4)[author]
    before = probabilities(0.8)
    margin = np.log(before[:, 1] / before[:, 0]) + better * (2 * data().y - 1)
    positive = 1 / (1 + np.exp(-margin))
    after = np.column_stack([1 - positive, positive])
    alone, together = (
        verdict(d, before, after, acted=5).comparisons[0] for d in (data(), data([f"a{a}" for a in author]))
    )
    assert together.difference == pytest.approx(alone.difference)
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_facts_come_back_from_json() -> None:
    found = verdict(data(), probabilities(0.3), probabilities(2.0, seed=1), acted=10)
    assert Verdict.of(json.loads(json.dumps(found.facts))) == found


def test_the_same_seed_gives_the_same_verdict() -> None:
    one, again, other = (
        verdict(data(), probabilities(1), probabilities(1.2, seed=1), acted=1, seed=s) for s in (0, 0, 1)
    )
    assert one == again != other


def test_one_of_three_figures_must_be_shown_with_all_three_in_view() -> None:
    """Of two classifiers alike the better one in some figure is recommended no more often than one interval errs."""
    alike = [
        verdict(data(), probabilities(1.0, seed=2 * k), probabilities(1.0, seed=2 * k + 1), acted=10, seed=k)
        for k in range(60)
    ]
    rose = [v for v in alike if any(c.shown and c.difference > 0 for c in v.comparisons)]
    told = [v for v in rose if v.recommended == "original" and not v.sentence.startswith("The repair did harm")]
    assert sum(v.recommended == "repaired" for v in alike) <= len(rose) - len(told) < len(rose)
    assert all("but with 3 figures looked at that is not rare by chance" in v.sentence for v in told)


def test_few_authors_show_little_and_the_sentence_says_why() -> None:
    before, after = probabilities(0.9), probabilities(1.1, seed=1)
    three = verdict(data([f"author {i // 2 % 3}" for i in range(N)]), before, after, acted=10)
    assert three.recommended == "original"
    assert "It goes by 3 authors or conversations" in three.sentence and "Judge by examples of more." in three.sentence
    many = verdict(data([f"author {i // 2}" for i in range(N)]), before, after, acted=10)
    assert "authors or conversations" not in many.sentence


def test_two_classifiers_are_compared_by_their_names() -> None:
    """Of a person's version nothing is said of a repair, nor of the original set."""
    worse, better = probabilities(0.3), probabilities(2.0, seed=1)
    said = [verdict(data(), *pair, acted=1, against="Repaired", of="Version 1").sentence
            for pair in ((worse, better), (better, worse), (worse, worse))]  # fmt: skip
    assert said[0].startswith("Version 1 is better: on 200 examples")
    assert said[1].startswith("Version 1 is worse") and "Nothing speaks for Version 1 in place of Repaired." in said[1]
    assert said[2].startswith("Not shown: compared with Repaired")
    assert not any("repair " in one or "original" in one for one in said)
