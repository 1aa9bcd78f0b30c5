"""What lies between two groups of examples: the interval of a difference whose groups are resampled with documents."""

from __future__ import annotations

import re

import numpy as np

from tracemend.data import Pronoun
from tracemend.evaluate import gap_interval
from tracemend.probing.by_group import biases


def examples(groups, documents=None):
    return [
        Pronoun(words=("a", "b", "c"), pronoun=(2, 3), candidates=((0, 1), (1, 2)), right=(0,), id=str(i),
                groups=(group,), document=documents[i] if documents else "")
        for i, group in enumerate(groups)
    ]  # fmt: skip


def interval(said):
    ((low, high),) = re.findall(r"\((\S+) to (\S+)\)", said)
    return [float(low), float(high)]


def test_two_groups_that_are_always_right_differ_by_nothing():
    of = examples(["pro", "anti", "anti"] * 40)
    (said,) = biases("it", np.ones(120), of)
    assert said.endswith("+0.000 (+0.000 to +0.000), no difference in these examples.")
    (said,) = biases("it", np.array([1.0, 0, 0] * 40), of)
    assert said.endswith("+1.000 (+1.000 to +1.000).")


def test_the_interval_is_that_of_two_samples_where_no_example_has_a_twin():
    hits = np.random.default_rng(0).random(400) < np.tile([0.95, 0.85], 200)
    low, high = interval(biases("it", hits.astype(float), examples(["male", "female"] * 200))[0])
    first, last = gap_interval(hits[::2], hits[1::2])
    assert abs((high - low) - (last - first)) < 0.015


def test_twins_that_are_right_together_say_that_nothing_lies_between_them():
    # Each document has one of either group: alike in whatever is drawn, however hard the documents are.
    hits = np.repeat(np.random.default_rng(0).random(60) < 0.5, 2).astype(float)
    of = examples(["pro", "anti"] * 60, [f"d{i // 2}" for i in range(120)])
    assert interval(biases("it", hits, of)[0]) == [0, 0]


def test_resamples_that_lack_a_group_are_left_out():
    of = examples(["pro"] * 39 + ["anti"], [f"document {i}" for i in range(40)])
    low, high = interval(biases("it", np.array([1.0] * 39 + [0.0]), of)[0])
    assert low == high == 1


def test_two_documents_show_nothing():
    of = examples(["pro"] * 9 + ["anti"], ["d"] * 9 + ["e"])
    (said,) = biases("it", np.array([1.0] * 9 + [0.0]), of)
    assert interval(said) == [-1, 1] and said.endswith("which is not shown to be other than none.")
