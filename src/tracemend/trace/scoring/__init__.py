"""Influence scores from a store of gradients, in memory that does not grow with the data.

One score a file: TracIn (plain or Adam's), DataInf, EK-FAC. ``score`` streams the store through any of them.
"""

from tracemend.trace.scoring.datainf import DataInf
from tracemend.trace.scoring.dot import TracInScore
from tracemend.trace.scoring.ekfac import EkFac
from tracemend.trace.scoring.queries import HeldQueries, Queries, TracedQueries
from tracemend.trace.scoring.score import Score
from tracemend.trace.scoring.scored import Scored
from tracemend.trace.scoring.stored import Stored
from tracemend.trace.scoring.stream import score

__all__ = [
    "DataInf",
    "EkFac",
    "HeldQueries",
    "Queries",
    "Score",
    "Scored",
    "Stored",
    "TracInScore",
    "TracedQueries",
    "score",
]
