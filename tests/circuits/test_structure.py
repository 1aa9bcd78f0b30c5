from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.models.families import decoder
from tracemend.circuits import Repeats, Structure
from tracemend.circuits.structure import explained
from tracemend.errors import CircuitError
from tracemend.models import load, tiny

SMALL, MODEL, DATA = Structure.tiny()


@given(st.integers(0, 1000), st.sampled_from([2, 3]), st.integers(2, 4))
@settings(max_examples=30, deadline=None)
def test_explained_is_a_share_and_1_where_groups_are_all_there_is(seed: int, groups: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(5, groups * size))
    assert 0 <= explained(scores, groups) <= 1
    assert explained(np.repeat(rng.normal(size=(5, groups)), size, axis=1), groups) == pytest.approx(1)
    # What layers differ in is not what groups differ in.
    assert explained(scores + rng.normal(size=(5, 1)), groups) == pytest.approx(explained(scores, groups))


def test_chance_is_what_groups_explain_of_noise() -> None:
    """(groups - 1) / (heads - 1) of it, on average."""
    rng = np.random.default_rng(0)
    found = [explained(rng.normal(size=(4, 9)), 3) for _ in range(500)]
    assert np.mean(found) == pytest.approx(2 / 8, abs=0.02)


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3", "gemma"])
def test_rotated_positions_count_by_distance_alone(name: str) -> None:
    model = decoder(name)
    found = SMALL.run(model, Repeats.draw(model, length=8, count=2))
    assert found.metrics["shift"] < 1e-3
    assert found.controls["stretched"]["shift"] > 100 * found.metrics["shift"]
    assert set(found.table()["score"]) == {"induction", "previous", "duplicate", "first"}


def test_without_groups_it_is_refused() -> None:
    for name in ("gpt2", "neox"):
        model = decoder(name)
        with pytest.raises(CircuitError, match="grouped queries"):
            SMALL.run(model, Repeats.draw(model, length=8, count=2))
    with pytest.raises(CircuitError, match="is not defined for"):
        SMALL.run(tiny("bert"), DATA)
    with pytest.raises(CircuitError, match="shifts from 1 that fit"):
        replace(SMALL, shifts=(100,)).run(MODEL, DATA)
    with pytest.raises(CircuitError, match="draw shorter repeats"):
        replace(SMALL, max_memory=1e-6).run(MODEL, DATA)


@pytest.mark.slow
def test_smollm2_keeps_its_induction_heads_together() -> None:
    model = load("smollm2")
    found = Structure(shifts=(1, 50)).run(model, Repeats.draw(model, length=25, count=4))
    assert found.metrics["p_induction"] < 0.02
    assert found.metrics["eta2_induction"] > 1.5 * found.controls["permuted"]["eta2_induction"]
    assert found.metrics["shift"] < 1e-2 < found.controls["stretched"]["shift"]
