"""Which units of a model matter: rankings of single units for a property, in bits and by what they are worth.

A unit is one number of a named site: a dimension of the stream, a neuron of an MLP, an output of a head. Every ranking
stands beside random units, the reverse order and the same network untrained.
"""

from __future__ import annotations

from tracemend.neurons.gaussian import GaussianRanking, GaussianResult
from tracemend.neurons.linear import LinearRanking
from tracemend.neurons.probeless import ProbelessRanking
from tracemend.neurons.ranking import RankingResult
from tracemend.neurons.result import NeuronsResult

__all__ = [
    "GaussianRanking",
    "GaussianResult",
    "LinearRanking",
    "NeuronsResult",
    "ProbelessRanking",
    "RankingResult",
]
