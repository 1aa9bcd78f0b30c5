from __future__ import annotations

import pytest
import torch

from tests.models.families import decoder
from tracemend.circuits.banding import WeightBands, position_bands, shapes
from tracemend.errors import CircuitError
from tracemend.models import load, tiny


def test_smooth_embeddings_are_told_from_random_ones() -> None:
    model = tiny("gpt2")
    lag, shuffled = position_bands(model)
    assert abs(lag) < 0.3 and abs(shuffled) < 0.3
    with torch.no_grad():
        table = model.network.transformer.wpe.weight
        angle = torch.linspace(0, 3, len(table))
        table.zero_()
        table[:, 0], table[:, 1] = angle.cos(), angle.sin()
    lag, shuffled = position_bands(model)
    assert lag > 0.99 > shuffled + 0.1


@pytest.mark.slow
def test_minilm_has_smooth_positions() -> None:
    lag, shuffled = position_bands(load("minilm"))
    assert lag == pytest.approx(0.851, abs=0.01) and shuffled == pytest.approx(0.135, abs=0.03)


def test_rotated_positions_have_no_embeddings() -> None:
    with pytest.raises(CircuitError, match="rotates queries and keys"):
        position_bands(decoder("llama"))


def test_pictures_have_their_shapes_one_above_the_other() -> None:
    pictures, labels = shapes(40, torch.Generator().manual_seed(0))
    assert pictures.shape == (40, 1, 32, 32) and labels.min() >= 0 and labels.max() <= 15
    full = pictures[:, 0] > 0.5
    assert full[:, :16].flatten(1).any(1).all() and full[:, 16:].flatten(1).any(1).all()


def test_rows_and_columns_of_a_banded_kernel() -> None:
    bands = WeightBands(torch.arange(5.0)[:, None].expand(5, 5).contiguous(), 1.0)
    assert bands.rows == pytest.approx(1) and bands.columns == pytest.approx(0)
    even = WeightBands(torch.ones(5, 5), 1.0)
    assert even.rows == even.columns == 0


@pytest.mark.slow
def test_training_is_the_same_again_and_leaves_torch_alone() -> None:
    state = torch.random.get_rng_state()
    one, other = (WeightBands.fit("dense", steps=3, batch=4) for _ in range(2))
    assert torch.equal(one.norms, other.norms) and one.norms.shape == (5, 5)
    assert torch.equal(state, torch.random.get_rng_state())


def test_bad_input_is_refused() -> None:
    with pytest.raises(CircuitError, match="not one of: pooled, dense"):
        WeightBands.fit("mean")
    with pytest.raises(CircuitError, match="steps is 0"):
        WeightBands.fit("pooled", steps=0)
