"""The grid that says how good detection and repair are: which cells, what each arm does, and the tables of it.

``tracemend bench repair`` and ``benchmarks/repair_grid.py`` run it; what they print is made from the rows alone.
"""

from tracemend.mend.proof.job import Job, prove, results_of
from tracemend.mend.proof.plan import PARTS, planned, selected
from tracemend.mend.proof.sets import DEVELOPMENT, JUDGED
from tracemend.mend.proof.tables import coverage, tables

__all__ = ["DEVELOPMENT", "JUDGED", "PARTS", "Job", "coverage", "planned", "prove", "results_of", "selected", "tables"]
