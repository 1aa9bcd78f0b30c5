"""Hand-made units with a known explanation (OpenAI 2023): the embedded simulator tells it from those of others."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tracemend.data import available_folder
from tracemend.neurons.excerpts import correlation
from tracemend.neurons.similarity import SimilaritySimulator


@pytest.mark.slow
def test_the_true_explanation_is_first_of_all_nineteen():
    folder = available_folder("neuron_puzzles")
    if folder is None:
        pytest.skip("neuron_puzzles is not here; set TRACEMEND_DATA")
    puzzles = json.loads((folder / "puzzles.json").read_text("utf-8"))
    simulator = SimilaritySimulator()
    explanations = {name: puzzle["explanation"] for name, puzzle in puzzles.items()}
    first, shuffled = [], []
    rng = np.random.default_rng(0)
    for name, puzzle in puzzles.items():
        pairs = [(cell, 0) if isinstance(cell, str) else cell for excerpt in puzzle["sentences"] for cell in excerpt]
        words, true = [word for word, _ in pairs], np.array([float(value) for _, value in pairs])
        said = {other: simulator.simulate(text, words) for other, text in explanations.items()}
        first.append(max(said, key=lambda other: correlation(true, said[other])) == name)
        shuffled.append(correlation(rng.permutation(true), said[name]))
    assert len(puzzles) == 19
    assert np.mean(first) >= 0.45
    assert abs(np.mean(shuffled)) < 0.1


@pytest.mark.slow
def test_words_without_letters_are_simulated_too():
    found = SimilaritySimulator().simulate("words for colours", ["a", "red", " ", "\x00", "door"])
    assert found.argmax() == 1 and np.isfinite(found).all() and found[2] == found[3]
