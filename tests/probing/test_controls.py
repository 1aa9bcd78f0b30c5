from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from tracemend.probing.controls import control_task, local_context, type_majority

WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=4, max_size=30)


@given(WORDS, WORDS, st.integers(0, 9))
def test_a_word_has_one_control_label_everywhere(train, test, seed):
    y = np.arange(len(train)) % 3
    found = control_task([train, test], y, 3, seed=seed)
    label: dict[str, int] = {}
    for forms, labels in zip((train, test), found, strict=True):
        for form, one in zip(forms, labels.tolist(), strict=True):
            assert label.setdefault(form, one) == one
            assert 0 <= one < 3


def test_control_labels_are_as_frequent_as_the_tasks():
    forms = [str(i) for i in range(4000)]
    (found,) = control_task([forms], np.repeat([0, 1], [3000, 1000]), 2)
    assert abs(found.mean() - 0.25) < 0.03


def test_the_usual_label_of_a_word():
    train, y = ["the", "run", "run", "run", "cat"], np.array([0, 1, 1, 2, 2])
    assert type_majority(train, y, ["run", "the", "new", "cat"]).tolist() == [1, 0, 1, 2]


def test_neighbours_end_with_the_sentence():
    hidden = torch.arange(1.0, 5.0)[:, None]
    found = local_context(hidden, np.array([0, 0, 1, 1]))
    assert found[0].tolist() == [[0, 1, 2], [1, 2, 0], [0, 3, 4], [3, 4, 0]]
