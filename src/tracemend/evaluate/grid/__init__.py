"""Experiment grids: which cells there are, running them so that nothing is lost, and the rows that came out.

A cell is one (dataset, noise, rate, seed, arm); its rows are one Parquet file named by the cell's fingerprint.
"""

from tracemend.evaluate.grid.cells import Cell, Grid, Unit, by_unit
from tracemend.evaluate.grid.results import Failure, Results
from tracemend.evaluate.grid.run import Outcome, Work, read_job, run_cells
from tracemend.evaluate.grid.workers import run_side_by_side

__all__ = [
    "Cell",
    "Failure",
    "Grid",
    "Outcome",
    "Results",
    "Unit",
    "Work",
    "by_unit",
    "read_job",
    "run_cells",
    "run_side_by_side",
]
