"""Which human concepts a classifier uses, and what a unit or any function of text stands for in words.

Every score stands beside random directions, random concepts or shuffled answers.
"""

from __future__ import annotations

from tracemend.concepts.modules import Along, LabelOdds, UnitOfSite
from tracemend.concepts.result import ConceptsResult
from tracemend.concepts.sasc import Sasc, SascResult
from tracemend.concepts.tcav import Tcav
from tracemend.concepts.tcav_result import TcavResult

__all__ = [
    "Along",
    "ConceptsResult",
    "LabelOdds",
    "Sasc",
    "SascResult",
    "Tcav",
    "TcavResult",
    "UnitOfSite",
]
