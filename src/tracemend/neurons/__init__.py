"""Which units of a model matter: rankings of single units for a property, and what is lost without them.

A unit is one number of a named site: a dimension of the stream, a neuron of an MLP, an output of a head. Every ranking
stands beside random units, the reverse order and the same network untrained.
"""

from __future__ import annotations

from tracemend.neurons.ablate import Ablation
from tracemend.neurons.ablate_classifier import ClassifierAblation
from tracemend.neurons.compose import Composition, CompositionResult
from tracemend.neurons.compose_classifier import ClassifierComposition, ClassifierCompositionResult
from tracemend.neurons.correlation import Correlation, CorrelationResult
from tracemend.neurons.dose import AblationResult
from tracemend.neurons.explain import Explain
from tracemend.neurons.explanation_result import ExplanationResult
from tracemend.neurons.gaussian import GaussianRanking, GaussianResult
from tracemend.neurons.linear import LinearRanking
from tracemend.neurons.probeless import ProbelessRanking
from tracemend.neurons.ranking import RankingResult
from tracemend.neurons.result import NeuronsResult

__all__ = [
    "Ablation",
    "AblationResult",
    "ClassifierAblation",
    "ClassifierComposition",
    "ClassifierCompositionResult",
    "Composition",
    "CompositionResult",
    "Correlation",
    "CorrelationResult",
    "Explain",
    "ExplanationResult",
    "GaussianRanking",
    "GaussianResult",
    "LinearRanking",
    "NeuronsResult",
    "ProbelessRanking",
    "RankingResult",
]
