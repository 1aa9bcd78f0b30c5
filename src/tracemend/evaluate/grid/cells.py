"""The cells of an experiment: what each depends on, and how a grid lists them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any, NamedTuple, Self

from tracemend.errors import TracemendError
from tracemend.runs import fingerprint


class Unit(NamedTuple):
    """What the arms of one draw share: the data, the corruption and the seed."""

    dataset: str
    noise: str
    rate: float
    seed: int

    @property
    def name(self) -> str:
        """For a folder: ``sst2-symmetric-30-4``."""
        return f"{self.dataset}-{self.noise}-{100 * self.rate:g}-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One measurement of a grid.

    Attributes:
        dataset: name of the data set.
        noise: kind of label noise.
        rate: share of the labels that the noise is meant to corrupt, 0 to 1.
        seed: of draw, corruption and tuning.
        arm: the method that is measured.
        settings: whatever else the figures depend on (JSON values).

    Example:
        >>> Cell(dataset="sst2", noise="symmetric", rate=0.3, seed=4, arm="random").unit.name
        'sst2-symmetric-30-4'
    """

    dataset: str
    noise: str
    rate: float
    seed: int
    arm: str
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def unit(self) -> Unit:
        """What it shares with the other arms of the same draw."""
        return Unit(self.dataset, self.noise, self.rate, self.seed)

    @property
    def fingerprint(self) -> str:
        """Hash of all fields: the name of the file of its rows."""
        return fingerprint(asdict(self))

    @property
    def facts(self) -> dict[str, Any]:
        """The fields as JSON values; :meth:`of` reads them back."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """The cell with these :attr:`facts`."""
        return cls(**facts)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All combinations of dataset, noise, rate, seed and arm.

    A plan that is no full product is several grids, listed one after another.

    Attributes:
        datasets: their names.
        noises: kinds of label noise.
        rates: shares of corrupted labels, 0 to 1.
        seeds: as many draws of each (dataset, noise, rate).
        arms: the methods that are measured on each draw.
        settings: whatever else the figures depend on.

    Raises:
        TracemendError: an axis is empty, names a value twice, or a rate is no share.

    Example:
        >>> grid = Grid(datasets=("a", "b"), noises=("symmetric",), rates=(0.3,), seeds=(0, 1), arms=("x", "y", "z"))
        >>> len(grid.cells())
        12
    """

    datasets: tuple[str, ...]
    noises: tuple[str, ...]
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    arms: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        axes: dict[str, tuple[Any, ...]] = {
            "datasets": self.datasets, "noises": self.noises, "rates": self.rates, "seeds": self.seeds,
            "arms": self.arms,
        }  # fmt: skip
        for name, values in axes.items():
            if not values:
                raise TracemendError(f"the grid has no {name}; give at least one.")
            if len(set(values)) < len(values):
                raise TracemendError(f"the grid's {name} hold a value twice: {', '.join(map(str, values))}.")
        for rate in self.rates:
            if not (math.isfinite(rate) and 0 <= rate <= 1):
                raise TracemendError(f"the rate {rate} is no share of the labels; expected 0 to 1.")

    def cells(self) -> list[Cell]:
        """Every cell. The seeds come first, so that a run that is stopped has whole seeds of everything."""
        return [
            Cell(dataset=dataset, noise=noise, rate=rate, seed=seed, arm=arm, settings=self.settings)
            for seed, rate, noise, dataset, arm in product(
                self.seeds, self.rates, self.noises, self.datasets, self.arms
            )
        ]


def by_unit(cells: Iterable[Cell]) -> dict[Unit, list[Cell]]:
    """The cells of each unit, units in the order of their first cell, a cell that is listed twice once."""
    found: dict[Unit, dict[str, Cell]] = {}
    for cell in cells:
        found.setdefault(cell.unit, {})[cell.fingerprint] = cell
    return {unit: list(own.values()) for unit, own in found.items()}
