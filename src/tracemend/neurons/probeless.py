"""Ranking by the difference of class means, which trains nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tracemend.neurons.ranking import Ranking


@dataclass(frozen=True, kw_only=True)
class ProbelessRanking(Ranking):
    """Units by how far the means of the classes lie apart, compared with every other ranking.

    With q(z)_j the mean of unit j, standardised, over the training words of class z (Antverg and Belinkov 2022, arXiv
    2110.07483),

        r_j = sum over pairs z < z' of | q(z)_j - q(z')_j |

    A good classifier may rank badly and a good ranking needs no classifier, so the same classifier reads the first
    units of every ranking, the last, and random ones. That units tell a property does not say that the model uses them.

    Raises:
        NeuronError: what :class:`NeuronMethod` refuses, an unknown ranking, or more units than vary.

    Example:
        >>> found = ProbelessRanking().run(load("minilm"), read_treebank("ud_ewt"))
        >>> found.table()[["ranking", "k", "top", "random", "bottom", "selectivity", "random_weights"]]
    """

    name: ClassVar[str] = "neurons.probeless"
    own: ClassVar[str] = "probeless"
