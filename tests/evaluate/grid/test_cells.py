from __future__ import annotations

import pytest

from tracemend.errors import TracemendError
from tracemend.evaluate.grid import Cell, Grid, by_unit

AXES = {"datasets": ("a", "b"), "noises": ("x",), "rates": (0.0, 0.3), "seeds": (0, 1), "arms": ("p", "q", "r")}


def test_a_grid_lists_every_combination_once_and_seed_by_seed():
    cells = Grid(**AXES).cells()
    assert len(cells) == len({c.fingerprint for c in cells}) == 24
    assert [c.seed for c in cells] == [0] * 12 + [1] * 12


def test_units_keep_their_cells_together_and_double_cells_count_once():
    cells = Grid(**AXES).cells()
    units = by_unit([*cells, *cells])
    assert len(units) == 8
    assert all([c.arm for c in own] == ["p", "q", "r"] for own in units.values())
    assert next(iter(units)).name == "a-x-0-0"


def test_the_fingerprint_depends_on_every_field_and_survives_json():
    cell = Cell(dataset="a", noise="x", rate=0.3, seed=0, arm="p", settings={"train": 500})
    others = [
        Cell(**{**cell.facts, **change})
        for change in (
            {"dataset": "b"}, {"noise": "y"}, {"rate": 0.2}, {"seed": 1}, {"arm": "q"}, {"settings": {"train": 1000}},
        )
    ]  # fmt: skip
    assert len({cell.fingerprint, *(o.fingerprint for o in others)}) == 7
    assert Cell.of(cell.facts) == cell and Cell.of(cell.facts).fingerprint == cell.fingerprint
    assert {cell: 1}[Cell.of(cell.facts)] == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"arms": ()}, "no arms"),
        ({"seeds": (0, 0)}, "seeds hold a value twice"),
        ({"rates": (1.3,)}, "1.3 is no share"),
        ({"rates": (float("nan"),)}, "nan is no share"),
    ],
)
def test_bad_axes(change, said):
    with pytest.raises(TracemendError, match=said):
        Grid(**{**AXES, **change})
